"""Turn checkpoints into a bundle."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from export import onnx_files, verify
from export.plans import Manifest, Planned, plan_of
from export.sources import Source, shortened
from export.storage import Storage
from runtime import bundle as bundles
from runtime import manifests
from runtime.bundle import Bundle
from runtime.errors import ToolkitError
from runtime.places import SUFFIX, is_packed
from runtime.sessions import Graph, SessionSettings
from runtime.tracking import Tracker, untracked
from training.options import SamplerOptions

NOWHERE = Path("temporary bundle")


def export_bundle(
    source: Source,
    path: Path,
    defaults: SamplerOptions | None = None,
    storage: Storage = "float32",
    track: Tracker = untracked,
) -> Manifest:
    """Write the bundle of `source` at `path`, replacing what is there; returns its manifest.

    path: a folder, or a file for it to be packed in, which ends in places.SUFFIX; defaults: how images are drawn,
    as the model was finished unless told otherwise; storage: of the weights in its files. These must match
    torch with weights so rounded, and that, before rounding, torch's own networks.
    The bundle is made in a folder aside, which is renamed once every graph, the whole trajectory and the predicted
    classes have matched torch. Raises CheckpointError or ExportMismatchError, ValueError for a guidance weight that a
    generator has not learnt, and leaves `path` as it was.
    """
    path = replaceable(path)
    packed = is_packed(path)
    name = path.name[: -len(SUFFIX)] if packed else path.name
    if not manifests.is_name(name):
        raise ToolkitError(f"a bundle's name is that of a folder, of up to {manifests.MAX_NAME} bytes, not {name!r}")
    plan = plan_of(source, defaults, storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=path.parent))
    try:
        files = {}
        for graph in track(plan.graphs, len(plan.graphs), "exporting"):
            spec = graph.stored
            others = () if spec.file in manifests.ONE_CALL else manifests.ONE_CALL
            facts = onnx_files.write(spec, aside, others)
            content = (aside / spec.file).read_bytes()
            files[spec.file] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "largest_error": shortened(_checked(graph, aside / spec.file), digits=3),
                **facts,
            }
        manifest = plan.whole(name, files)
        bundles.write_manifest(aside, manifest)
        stored = [graph.stored for graph in plan.graphs]
        used = {} if source.only_generates else verify.check_use(bundles.read(aside), stored)
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
    plan = plan_of(source, None, "float32", with_flow)
    manifest = plan.whole(source.dataset.model_name, files={})
    return bundles.parse(manifests.signed(manifest), NOWHERE, _OnDemand(plan.graphs))


def _checked(graph: Planned, model: bytes | Path) -> float:
    """The largest error of a file, its content or path; ExportMismatchError where it is too large."""
    verify.check_graph(graph.own, verify.TorchGraph(graph.exact))
    return verify.check_graph(graph.stored, Graph(model, graph.stored.file, SessionSettings()))


class _OnDemand(Mapping[str, bytes]):
    """The content of files that nobody has written."""

    def __init__(self, graphs: Sequence[Planned]) -> None:
        self._graphs = {each.stored.file: each for each in graphs}

    def __getitem__(self, file: str) -> bytes:
        graph = self._graphs[file]
        content = onnx_files.convert(graph.stored).SerializeToString()
        _checked(graph, content)
        return content

    def __contains__(self, file: object) -> bool:
        return file in self._graphs

    def __iter__(self) -> Iterator[str]:
        return iter(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)


def replaceable(path: Path) -> Path:
    """The full path; ToolkitError where something other than a bundle would be replaced."""
    path = path.resolve()
    if not bundles.is_replaceable(path):
        raise ToolkitError(f"{path} is no bundle, or has other files in it: it is left as it is")
    return path


def _replace(folder: Path, new: Path) -> None:
    """Put the folder `new` in the place of `folder`."""
    new.chmod(0o755)
    old = new.with_name(new.name + ".old")
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:  # a signal to stop, too
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)  # where another export has put its own there meanwhile
        raise
    shutil.rmtree(old, ignore_errors=True)
