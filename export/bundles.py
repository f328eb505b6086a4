"""Turn checkpoints into a bundle."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

from export import onnx_files, sources, verify
from export.graphs import GraphSpec, Networks, bundle_graphs, fold_batch_norms, folded, generator_graph
from export.one_call import Reading
from export.sources import Source, shortened
from export.storage import Storage, rounded, rounded_network
from runtime import bundle as bundles
from runtime import manifests
from runtime.bayes import DenoisingBank
from runtime.bundle import Bundle
from runtime.datasets import Dataset
from runtime.errors import ToolkitError
from runtime.places import SUFFIX, is_packed
from runtime.sampling import FEW
from runtime.tracking import Tracker, untracked
from training import checkpoints
from training.calibration import UNCALIBRATED
from training.generators import LEAST_WEIGHT, MOST_WEIGHT, Generator, check_weight
from training.options import Sampling

Manifest = dict[str, Any]
GENERATOR_WEIGHTS = {"weights": [LEAST_WEIGHT, MOST_WEIGHT]}
NOWHERE = Path("temporary bundle")
OF_STAGES = ("doubtful", "certain", "settled", "unsettled", "emphasis")  # of a Reading, as calibration names them


def export_bundle(
    source: Source,
    path: Path,
    defaults: Sampling | None = None,
    storage: Storage = "float32",
    track: Tracker = untracked,
) -> Manifest:
    """Write the bundle of `source` at `path`, replacing what is there; returns its manifest.

    path: a folder, or a file for it to be packed in, which ends in places.SUFFIX; defaults: how images are drawn,
    as the model was finished unless told otherwise; storage: of the weights in its files, with which torch's are
    rounded.
    The bundle is made in a folder aside, which is renamed once every graph, the whole trajectory and the predicted
    classes have matched torch. Raises CheckpointError or ExportMismatchError, ValueError for a guidance weight that a
    generator has not learnt, and leaves `path` as it was.
    """
    plan, path = _plan(source, defaults, storage), _replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = is_packed(path)
    name = path.name[: -len(SUFFIX)] if packed else path.name
    aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=path.parent))
    try:
        files = {}
        for spec, reference in track(plan.graphs, len(plan.graphs), "exporting"):
            others = () if spec.file in manifests.ONE_CALL else manifests.ONE_CALL
            facts = onnx_files.write(spec, aside, others)
            content = (aside / spec.file).read_bytes()
            files[spec.file] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "largest_error": shortened(verify.check_graph(reference, aside / spec.file), digits=3),
                **facts,
            }
        manifest = plan.whole(name, files)
        bundles.write_manifest(aside, manifest)
        references = [reference for _, reference in plan.graphs]
        used = {} if source.only_generates else verify.check_use(bundles.read(aside), references)
        manifest["largest_errors_in_use"] = shortened(used, digits=3)
        bundles.write_manifest(aside, manifest)
        if packed:
            bundles.pack(bundles.read(aside), path)
        else:
            _replace(path, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def temporary_bundle(source: Source, with_flow: bool = True) -> Bundle:
    """The bundle of checkpoints that are not exported, each of whose graphs is made when it is first asked for.

    Without its flow it only encodes and decodes; an untrained flow takes that one's place.
    """
    plan = _plan(source, None, "float32", with_flow)
    manifest = plan.whole(source.dataset.model_name, files={})
    return bundles.parse(manifests.signed(manifest), NOWHERE, _OnDemand(plan.graphs))


@dataclass(frozen=True)
class _Plan:
    """A manifest without the files, and what they will be: each graph beside torch's own that it must match."""

    manifest: Manifest
    graphs: Sequence[tuple[GraphSpec, GraphSpec]]

    def whole(self, name: str, files: Manifest) -> Manifest:
        """The manifest of the bundle of this name, with what is said of its files."""
        return {"format": manifests.FORMAT, "name": name, "measured": {}, **self.manifest, "files": files}


class _OnDemand(Mapping[str, bytes]):
    """The content of files that nobody has written."""

    def __init__(self, graphs: Sequence[tuple[GraphSpec, GraphSpec]]) -> None:
        self._graphs = {spec.file: (spec, reference) for spec, reference in graphs}

    def __getitem__(self, file: str) -> bytes:
        spec, reference = self._graphs[file]
        content = onnx_files.convert(spec).SerializeToString()
        verify.check_graph(reference, content)
        return content

    def __contains__(self, file: object) -> bool:
        return file in self._graphs

    def __iter__(self) -> Iterator[str]:
        return iter(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)


def _plan(source: Source, defaults: Sampling | None, storage: Storage, with_flow: bool = True) -> _Plan:
    """What the bundle of a source will be; arguments as for export_bundle and temporary_bundle."""
    if source.only_generates:
        return _generator_plan(source, defaults, storage)
    parts = sources.read(source, with_flow)
    defaults = defaults or sources.drawn_by(parts.flow)
    if parts.generator:
        check_weight(defaults.weight)
    networks = Networks(
        parts.autoencoder.network, parts.flow.network, parts.generator.network if parts.generator else None
    )
    description, reading = parts.flow.description, _reading(parts.flow.description)
    plain = rounded(folded(networks), storage)
    checked = networks if storage == "float32" else plain
    specs, references = (bundle_graphs(each, defaults, reading) for each in (plain, checked))
    counted = [each for each in (networks.autoencoder, networks.flow, networks.generator) if each is not None]
    manifest = {
        "dataset": _facts(source.dataset, description["prior"]),
        "autoencoder": source.kind,
        "storage": storage,
        "latent_shape": list(networks.flow.latent_shape),
        "parameters": sum(p.numel() for network in counted for p in network.parameters()),
        "defaults": {
            "steps": defaults.steps,
            "weight": defaults.weight,
            "sampler": FEW if networks.generator else defaults.sampler,
            "solver": defaults.sampler,
            "guidance_start": defaults.guidance_start,
            "diffusion": defaults.spread,
        },
        "classifier": description["classifier"],
        **({"generator": GENERATOR_WEIGHTS} if networks.generator else {}),
        "provenance": {**parts.provenance(), "versions": _versions()},
    }
    return _Plan(manifest, list(zip(specs, references, strict=True)))


def _generator_plan(source: Source, defaults: Sampling | None, storage: Storage) -> _Plan:
    """A bundle that only generates."""
    checkpoint = checkpoints.load(source.generator_path, Generator)
    network, defaults = checkpoint.network, defaults or sources.drawn_by(checkpoint)
    check_weight(defaults.weight)
    plain = rounded_network(fold_batch_norms(network), storage)
    classes = len(source.dataset.classes)
    trained = sources.provenance_of(source.generator_path, checkpoint)
    provenance = {name: trained[name] for name in ("sha256", "total_epochs", "teacher")}
    before = sources.before(trained, lambda name: name == "total_epochs")
    manifest = {
        "dataset": _facts(source.dataset, [1 / classes] * classes),
        "storage": storage,
        "latent_shape": list(network.latent_shape),
        "parameters": sum(p.numel() for p in network.parameters()),
        "defaults": {"weight": defaults.weight, "sampler": FEW},
        "generator": GENERATOR_WEIGHTS,
        "provenance": {"generator": provenance | before, "versions": _versions()},
    }
    checked = network if storage == "float32" else plain
    return _Plan(manifest, [(generator_graph(plain), generator_graph(checked))])


def _facts(dataset: Dataset, prior: list[float]) -> dict[str, Any]:
    return {
        "key": dataset.key,
        "name": dataset.name,
        "split": dataset.split,
        "classes": list(dataset.classes),
        "prior": prior,
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _reading(description: dict[str, Any]) -> Reading:
    """How the denoising rule reads images, from what is said of a flow."""
    classifier = description["classifier"]
    bank, prior = DenoisingBank(**classifier["bank"]), tuple(description["prior"])
    stages = classifier.get("stages", [(pair, len(prior)) for pair in range(len(bank.times))])
    return Reading(
        bank,
        classifier["temperatures"]["denoising"],
        prior,
        tuple((pair, count) for pair, count in stages),
        **{name: classifier.get(name, UNCALIBRATED[name]) for name in OF_STAGES},
    )


def _replaceable(path: Path) -> Path:
    """The full path; ToolkitError where something other than a bundle would be replaced."""
    path = path.resolve()
    if not bundles.is_replaceable(path):
        raise ToolkitError(f"{path} is no bundle, or has other files in it: it is left as it is")
    return path


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
