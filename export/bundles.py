"""Turn checkpoints into a bundle."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from export import onnx_files, verify
from export.graphs import Networks, bundle_graphs, folded
from export.one_call import Reading
from export.storage import Storage, rounded
from runtime import bundle as bundles
from runtime.bayes import DenoisingBank
from runtime.datasets import Dataset
from runtime.errors import ToolkitError
from runtime.tracking import Tracker, untracked
from training import checkpoints, paths
from training.autoencoders import AutoEncoder
from training.calibration import UNCALIBRATED
from training.checkpoints import Checkpoint, CheckpointError
from training.flows import Flow
from training.generators import LEAST_WEIGHT, MOST_WEIGHT, Generator
from training.options import Sampling
from training.paths import Version, flow_name, generator_name


@dataclass(frozen=True)
class Source:
    """The checkpoints of a bundle."""

    dataset: Dataset
    kind: str  # "autoencoder" or "vae"
    autoencoder_version: Version = "main"
    flow_version: Version = "main"

    @property
    def autoencoder_path(self) -> Path:
        return paths.checkpoint_path(self.dataset.key, self.autoencoder_version, self.kind)

    @property
    def flow_path(self) -> Path:
        return paths.checkpoint_path(self.dataset.key, self.flow_version, flow_name(self.kind))

    @property
    def generator_path(self) -> Path:
        return paths.checkpoint_path(self.dataset.key, self.flow_version, generator_name(self.kind))


def export_bundle(
    source: Source,
    folder: Path,
    defaults: Sampling | None = None,
    with_flow: bool = True,
    storage: Storage = "float32",
    track: Tracker = untracked,
) -> dict[str, Any]:
    """Write the bundle of `source` at `folder`, replacing what is there; returns its manifest.

    defaults: how images are drawn; storage: of the weights in its files, with which torch's are rounded.

    The bundle is made in a folder aside, which is renamed once every graph, the whole trajectory and the predicted
    classes have matched torch. Raises CheckpointError or ExportMismatchError, and leaves `folder` as it was.
    """
    folder = _replaceable(folder)
    autoencoder_checkpoint = checkpoints.load(source.autoencoder_path, AutoEncoder)
    autoencoder, autoencoder_hash = autoencoder_checkpoint.network, paths.sha256(source.autoencoder_path)
    if with_flow:
        flow_checkpoint, flow_hash = _flow_of(source, autoencoder_checkpoint), paths.sha256(source.flow_path)
    else:
        flow_checkpoint, flow_hash = _untrained_flow(source.dataset, autoencoder), ""
    flow = flow_checkpoint.network
    generator_checkpoint = _generator_of(source) if with_flow else None
    generator = generator_checkpoint.network if generator_checkpoint else None
    description, defaults = flow_checkpoint.description, defaults or Sampling()
    reading = _reading(description)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        networks = Networks(autoencoder, flow, generator)
        plain = rounded(folded(networks), storage)
        checked = networks if storage == "float32" else plain
        references, specs = (bundle_graphs(each, defaults, reading) for each in (checked, plain))
        files = {}
        for spec, reference in track(list(zip(specs, references, strict=True)), len(specs), "exporting"):
            facts = onnx_files.write(spec, aside)
            content = (aside / spec.file).read_bytes()
            files[spec.file] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "largest_error": verify.check_graph(reference, aside / spec.file),
                **facts,
            }
        manifest = {
            "format": bundles.FORMAT,
            "name": folder.name,
            "dataset": {
                "key": source.dataset.key,
                "name": source.dataset.name,
                "split": source.dataset.split,
                "classes": list(source.dataset.classes),
                "prior": description["prior"],
            },
            "autoencoder": source.kind,
            "storage": storage,
            "latent_shape": list(flow.latent_shape),
            "parameters": sum(p.numel() for network in (autoencoder, flow) for p in network.parameters()),
            **_settings(description["classifier"], defaults, generator is not None),
            "files": files,
            "provenance": {
                source.kind: {"sha256": autoencoder_hash, **autoencoder_checkpoint.description},
                "flow": {"sha256": flow_hash, **description},
                **_provenance(source, generator_checkpoint),
                "versions": {
                    "python": platform.python_version(), "torch": torch.__version__,
                    "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__,
                },
            },
            "measured": {},
        }  # fmt: skip
        bundles.write_manifest(aside, manifest)
        images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
        manifest["largest_errors_in_use"] = verify.check_use(bundles.read(aside), references, images)
        bundles.write_manifest(aside, manifest)
        _replace(folder, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


@contextmanager
def temporary_bundle(source: Source, with_flow: bool = True) -> Iterator[Path]:
    """The bundle of checkpoints that are not exported, for as long as it is needed.

    Without its flow it only encodes and decodes; an untrained flow takes that one's place.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / source.dataset.key
        export_bundle(source, folder, with_flow=with_flow)
        yield folder


def _flow_of(source: Source, autoencoder: Checkpoint[AutoEncoder]) -> Checkpoint[Flow]:
    """The flow's checkpoint; CheckpointError where it learnt another encoder's latents, or with another decoder."""
    checkpoint = checkpoints.load(source.flow_path, Flow)
    if checkpoint.description["encoder_sha256"] != checkpoints.encoder_sha256(autoencoder.network):
        raise CheckpointError(
            f"{source.flow_path} was trained on latents of another encoder than {source.autoencoder_path} has: "
            "encode the data set again and train the flow on it"
        )
    learnt_with_decoder = any(checkpoint.description.get(name) for name in ("frechet_weight", "adversarial_weight"))
    if learnt_with_decoder and checkpoint.description["last_epoch"] != autoencoder.description["last_epoch"]:
        raise CheckpointError(
            f"{source.flow_path} was finished with another decoder than {source.autoencoder_path} has: "
            "take both of one version"
        )
    return checkpoint


def _untrained_flow(dataset: Dataset, autoencoder: AutoEncoder) -> Checkpoint[Flow]:
    classes = len(dataset.classes)
    flow = Flow(classes, *autoencoder.latent_shape[:2]).eval()
    return Checkpoint(flow, {}, {"prior": [1 / classes] * classes, "classifier": UNCALIBRATED})


def _generator_of(source: Source) -> Checkpoint[Generator] | None:
    """The generator beside the flow, if there is one that was distilled from these very checkpoints."""
    if not source.generator_path.is_file():
        return None
    checkpoint = checkpoints.load(source.generator_path, Generator)
    teacher = [paths.sha256(path) for path in (source.autoencoder_path, source.flow_path)]
    return checkpoint if checkpoint.description["teacher"] == teacher else None


def _provenance(source: Source, generator: Checkpoint[Generator] | None) -> dict[str, Any]:
    if generator is None:
        return {}
    return {"generator": {"sha256": paths.sha256(source.generator_path), **generator.description}}


def _reading(description: dict[str, Any]) -> Reading:
    """How the denoising rule reads images, from what is said of a flow."""
    classifier = description["classifier"]
    bank, prior = DenoisingBank(**classifier["bank"]), tuple(description["prior"])
    stages = classifier.get("stages", [(pair, len(prior)) for pair in range(len(bank.times))])
    return Reading(bank, classifier["temperatures"]["denoising"], prior, tuple((pair, count) for pair, count in stages))


def _settings(classifier: dict[str, Any], defaults: Sampling, has_generator: bool) -> dict[str, Any]:
    return {
        "defaults": {
            "steps": defaults.steps,
            "weight": defaults.weight,
            "sampler": "few" if has_generator else defaults.sampler,
            "solver": defaults.sampler,
            "guidance_start": defaults.guidance_start,
            "diffusion": defaults.diffusion,
        },
        **({"generator": {"weights": [LEAST_WEIGHT, MOST_WEIGHT]}} if has_generator else {}),
        "classifier": classifier,
    }


def _replaceable(folder: Path) -> Path:
    """The folder's full path; ToolkitError where something other than a bundle would be replaced."""
    folder = folder.resolve()
    if folder.exists() and not (folder / bundles.MANIFEST).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise ToolkitError(f"{folder} is not empty and no bundle: it is left as it is")
    return folder


def _replace(folder: Path, new: Path) -> None:
    """Put the folder `new` in the place of `folder`."""
    new.chmod(0o755)
    old = new.with_name(new.name + ".old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
