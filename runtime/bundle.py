"""Bundles: a folder with ``manifest.json`` and ONNX graphs, all that a model needs; or one file that packs them.

Reading verifies every file against its hash in the manifest, and the manifest against its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import hashing, manifests
from .errors import BundleError
from .files import written_aside
from .manifests import MANIFEST, BayesClassifier, Facts
from .places import is_packed, locate

# .packing is imported where it is needed: folders do without tar, xz and temporary folders.


@dataclass(frozen=True)
class Bundle(Facts):
    """A bundle read and verified: what its manifest says, the whole manifest, and the graphs' content by file name.

    A bundle whose one graph is generate.onnx only generates. path: its folder, or the file that it is packed in.
    """

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)
    graphs: Mapping[str, bytes] = field(repr=False)

    @property
    def only_generates(self) -> bool:
        """Whether there is neither autoencoder nor flow, so nothing to classify or encode by."""
        return self.reading is None

    @property
    def classifier(self) -> BayesClassifier:
        """How it reads images; BundleError where it only generates."""
        if self.reading is None:
            raise BundleError(f"the bundle {self.name} only generates")
        return self.reading

    def graph(self, file: str) -> bytes | Path:
        """What a session opens: a graph's content or, where weights of it lie in other files, its path.

        Raises BundleError where the files there are no longer those that were read.
        """
        files = self.manifest["files"]
        others = files[file].get("weights_in", []) if file in files else []
        if not others:
            return self.graphs[file]
        if not self.path.is_dir():
            return self._unpacked / file
        content = _contents(self.path)
        for each in (file, *others):
            _verified(content(each), self.path / each, files[each]["sha256"])
        return self.path / file

    @cached_property
    def _unpacked(self) -> Path:
        """A folder with the graphs of a packed bundle, for as long as this is there."""
        from . import packing

        try:
            return packing.unpacked(self.graphs, self)
        except OSError as error:
            raise BundleError(f"{self.path} can't be unpacked: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """All but the folder of graphs, which goes with this one: a copy makes its own."""
        return {name: value for name, value in vars(self).items() if name != "_unpacked"}

    @property
    def checksum(self) -> str:
        """The hash that names this bundle."""
        return str(self.manifest["checksum"])


def read(name: str | Path) -> Bundle:
    """Read a bundle, by its name or path, and verify it.

    Raises BundleError, which names the file that is missing, damaged or of a newer format.
    """
    path = locate(name)
    content = _contents(path)
    manifest = manifests.decode(content(MANIFEST), path / MANIFEST)
    hashes = manifests.hashes(manifest, path / MANIFEST)
    return parse(manifest, path, {file: _verified(content(file), path / file, hashes[file]) for file in hashes})


def parse(manifest: Mapping[str, Any], path: Path, graphs: Mapping[str, bytes]) -> Bundle:
    """The bundle of a manifest and its graphs by file name; BundleError, naming `path`, where a part is missing."""
    facts = manifests.facts(manifest, len(graphs) > 1, path / MANIFEST)
    return Bundle(**vars(facts), path=path, manifest=manifest, graphs=graphs)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest with its checksum, aside and renamed."""
    with written_aside(folder / MANIFEST) as aside:
        aside.write_bytes(manifests.encode(manifest))


def record_measurements(bundle: Bundle, figures: Mapping[str, Any]) -> None:
    """Put measured figures, with the command that gave them, into the manifest of the bundle where it lies.

    Raises BundleError where another lies there by now.
    """
    if read(bundle.path).checksum != bundle.checksum:
        raise BundleError(f"{bundle.path} is another bundle than the one that was measured")
    manifest = {**bundle.manifest, "measured": dict(figures)}
    if bundle.path.is_dir():
        write_manifest(bundle.path, manifest)
    else:
        pack(replace(bundle, manifest=manifest), bundle.path)


def is_replaceable(path: Path) -> bool:
    """Whether a bundle may be written at a path: nothing is there, or an empty folder, or a bundle and nothing else."""
    if not path.exists():
        return True
    if is_packed(path) != path.is_file():
        return False
    try:
        files = [each.name for each in path.iterdir()] if path.is_dir() else list(_packed(path))
        if not files:
            return True
        whole = manifests.is_whole(_contents(path)(MANIFEST), path / MANIFEST)
    except (BundleError, OSError):
        return False
    return whole and set(files) <= {MANIFEST, *manifests.GRAPHS}


def pack(bundle: Bundle, path: Path) -> None:
    """Write a bundle as one file, whose name ends in places.SUFFIX.

    Raises BundleError where something other than a bundle would be replaced.
    """
    if not is_replaceable(path):
        raise BundleError(f"{path} is no bundle: it is left as it is")
    from . import packing

    packing.write({MANIFEST: manifests.encode(bundle.manifest), **bundle.graphs}, path, bundle.name)


def _contents(path: Path) -> Callable[[str], bytes]:
    """What gives the content of each file of the bundle at a path, or raises BundleError."""
    packed = None if path.is_dir() else _packed(path)

    def content(file: str) -> bytes:
        try:
            return (path / file).read_bytes() if packed is None else packed[file]
        except OSError as error:
            raise BundleError(f"{path / file} can't be read: {error.strerror}") from error
        except KeyError as error:
            raise BundleError(f"{path} is damaged: it has no {file}") from error

    return content


def _packed(path: Path) -> dict[str, bytes]:
    from . import packing

    return packing.read(path)


def _verified(content: bytes, path: Path, sha256: str) -> bytes:
    if hashing.sha256(content) != sha256:
        raise BundleError(f"{path} is damaged: its hash is not the manifest's")
    return content
