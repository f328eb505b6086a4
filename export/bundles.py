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
from export.graphs import bundle_graphs, fold_batch_norms
from runtime import bundle as bundles
from runtime.datasets import Dataset
from runtime.errors import ToolkitError
from runtime.tracking import Tracker, untracked
from training import checkpoints, paths
from training.autoencoders import AutoEncoder
from training.calibration import UNCALIBRATED
from training.checkpoints import Checkpoint, CheckpointError
from training.flows import Flow
from training.options import Sampling
from training.paths import Version, flow_name


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


def export_bundle(
    source: Source,
    folder: Path,
    defaults: Sampling | None = None,
    with_flow: bool = True,
    track: Tracker = untracked,
) -> dict[str, Any]:
    """Write the bundle of `source` at `folder`, replacing what is there; returns its manifest.

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        references = bundle_graphs(autoencoder, flow)
        specs = bundle_graphs(fold_batch_norms(autoencoder), flow)
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
                "prior": flow_checkpoint.description["prior"],
            },
            "autoencoder": source.kind,
            "latent_shape": list(flow.latent_shape),
            "parameters": sum(p.numel() for network in (autoencoder, flow) for p in network.parameters()),
            **_settings(flow_checkpoint.description["classifier"], defaults or Sampling()),
            "files": files,
            "provenance": {
                source.kind: {"sha256": autoencoder_hash, **autoencoder_checkpoint.description},
                "flow": {"sha256": flow_hash, **flow_checkpoint.description},
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


def _settings(classifier: dict[str, Any], defaults: Sampling) -> dict[str, Any]:
    return {
        "defaults": {
            "steps": defaults.steps,
            "weight": defaults.weight,
            "sampler": defaults.sampler,
            "guidance_start": defaults.guidance_start,
            "diffusion": defaults.diffusion,
            "rule": classifier["rule"],
            "likelihood_steps": classifier["likelihood_steps"],
        },
        "classifier": {key: value for key, value in classifier.items() if key not in ("rule", "likelihood_steps")},
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
