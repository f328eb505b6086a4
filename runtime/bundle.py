"""Bundles: a folder with ``manifest.json`` and ONNX graphs, all that a model needs; or one file that packs them.

The manifest's "checksum" is the SHA-256 of the rest of it, as JSON with sorted keys and no spaces; it also
names the bundle. Each graph is listed with its own SHA-256. Reading verifies all of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import packing
from .bayes import RULES, DenoisingBank, Rule
from .errors import BundleError
from .files import written_aside
from .sampling import FEW, SAMPLERS, SOLVERS, Sampler, Solver

OLDEST_FORMAT, FORMAT = 2, 3  # before 3 every graph held all its weights
MANIFEST = "manifest.json"
GENERATE = "generate.onnx"
ONE_CALL = (GENERATE, "classify.onnx")  # they hold all their weights; other graphs may find theirs in them
GRAPHS = (*ONE_CALL, "encoder.onnx", "decoder.onnx", "flow.onnx", "likelihood.onnx")
SHIPPED = Path(__file__).resolve().parent.parent / "models_onnx"
_MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Defaults:
    """What generating uses where the caller says nothing.

    sampler: of images; solver: of latents and paths, which a sampler "few" does not have.
    """

    weight: float
    steps: int = 1
    diffusion: float = 0.0
    guidance_start: float = 0.0
    sampler: Sampler = "heun"
    solver: Solver = "heun"


@dataclass(frozen=True)
class Classifier:
    """How images are read; least_log_density: a latent below is unlike the training data."""

    rule: Rule
    likelihood_steps: int
    temperatures: Mapping[Rule, float]
    bank: DenoisingBank
    least_log_density: float


@dataclass(frozen=True)
class Bundle:
    """A bundle read and verified: the manifest's parts, and the graphs' content by file name.

    A bundle whose one graph is generate.onnx only generates. path: its folder, or the file that it is packed in.
    """

    name: str
    path: Path
    manifest: Mapping[str, Any]
    graphs: Mapping[str, bytes]
    classes: tuple[str, ...]
    prior: tuple[float, ...]
    latent_shape: tuple[int, ...]
    defaults: Defaults
    reading: Classifier | None  # None: it only generates
    generator_weights: tuple[float, float] | None  # of guidance, least and most, that "few" has; None: there is none

    @property
    def classifier(self) -> Classifier:
        """How it reads images; BundleError where it only generates."""
        if self.reading is None:
            raise BundleError(f"the bundle {self.name} only generates")
        return self.reading

    def graph(self, file: str) -> bytes | Path:
        """What a session opens: a graph's content or, where weights of it lie in other files, its path.

        Raises BundleError where the files there are no longer those that were read.
        """
        facts = self.manifest["files"]
        others = facts[file].get("weights_in", []) if file in facts else []
        if not others:
            return self.graphs[file]
        if not self.path.is_dir():
            return self._unpacked / file
        content = _contents(self.path)
        for each in (file, *others):
            _verified(content(each), self.path / each, facts[each]["sha256"])
        return self.path / file

    @cached_property
    def _unpacked(self) -> Path:
        """A folder with the graphs of a packed bundle, for as long as this is there."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="bundle."))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            for file, content in self.graphs.items():
                (folder / file).write_bytes(content)
        except OSError as error:
            raise BundleError(f"{self.path} can't be unpacked: {error}") from error
        return folder

    @property
    def checksum(self) -> str:
        """The hash that names this bundle."""
        return str(self.manifest["checksum"])


def shipped() -> list[str]:
    """The names of the bundles beside this package."""
    return names_within(SHIPPED)


def names_within(root: Path) -> list[str]:
    """The names of the bundles that lie in a folder."""
    packed = {path.name.removesuffix(packing.SUFFIX) for path in root.glob(f"*{packing.SUFFIX}")}
    return sorted(packed | {path.parent.name for path in root.glob(f"*/{MANIFEST}")})


def within(root: Path, name: str | Path) -> Path | None:
    """Where the bundle of this name lies in a folder, in one of its own or packed; None where there is none."""
    folder, file = root / name, root / f"{name}{packing.SUFFIX}"
    if os.path.isfile(folder / MANIFEST):  # noqa: PTH113 - takes names too long for a file
        return folder
    return file if os.path.isfile(file) else None  # noqa: PTH113


def locate(name: str | Path) -> Path:
    """Where a bundle lies: a shipped one by its name, any by the path of its folder or of the file it is packed in.

    Raises BundleError, which lists the shipped ones.
    """
    if packing.is_packed(name) and os.path.isfile(name):  # noqa: PTH113
        return Path(name)
    found = within(SHIPPED, name) or within(Path(), name)
    if found is None:
        raise BundleError(
            f"no bundle {str(name)!r}: neither shipped ({', '.join(shipped()) or 'none'}), nor a folder with a "
            f"{MANIFEST}, nor a {packing.SUFFIX} of one"
        )
    return found


def read(name: str | Path) -> Bundle:
    """Read a bundle and verify it.

    Raises BundleError, which names the file that is missing, damaged or of a newer format.
    """
    path = locate(name)
    content = _contents(path)
    manifest = _parse_manifest(content(MANIFEST), path / MANIFEST)
    try:
        files = {file: str(facts["sha256"]) for file, facts in manifest["files"].items()}
        if set(files) not in (set(GRAPHS), {GENERATE}):
            raise ValueError(f"files are {', '.join(GRAPHS)}, or {GENERATE} alone")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _incomplete(path, error) from error
    return parse(manifest, path, {file: _verified(content(file), path / file, files[file]) for file in files})


def parse(manifest: Mapping[str, Any], path: Path, graphs: Mapping[str, bytes]) -> Bundle:
    """The bundle of a manifest and its graphs by file name; BundleError, naming `path`, where a part is missing."""
    try:
        bundle = Bundle(
            name=str(manifest["name"]),
            path=path,
            manifest=manifest,
            graphs=graphs,
            classes=tuple(map(str, manifest["dataset"]["classes"])),
            prior=tuple(map(float, manifest["dataset"]["prior"])),
            latent_shape=tuple(map(int, manifest["latent_shape"])),
            defaults=Defaults(**manifest["defaults"]),
            reading=_classifier(manifest["classifier"]) if len(graphs) > 1 else None,
            generator_weights=_weights(manifest.get("generator")),
        )
        _check(bundle)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _incomplete(path, error) from error
    return bundle


def checksum(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest without its own checksum."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with its checksum, aside and renamed."""
    with written_aside(folder / MANIFEST) as aside:
        aside.write_bytes(_in_bytes(manifest))


def record_measurements(path: Path, figures: Mapping[str, Any]) -> None:
    """Put measured figures, with the command that gave them, into the manifest of the bundle at a path."""
    bundle = read(path)
    manifest = {**bundle.manifest, "measured": dict(figures)}
    if bundle.path.is_dir():
        write_manifest(bundle.path, manifest)
    else:
        pack(replace(bundle, manifest=manifest), bundle.path)


def pack(bundle: Bundle, path: Path) -> None:
    """Write a bundle as one file, whose name ends in packing.SUFFIX."""
    packing.write({MANIFEST: _in_bytes({**bundle.manifest}), **bundle.graphs}, path)


def _in_bytes(manifest: dict[str, Any]) -> bytes:
    """A manifest's file; the manifest gets its checksum."""
    manifest["checksum"] = checksum(manifest)
    return f"{json.dumps(manifest, indent=1)}\n".encode()


def _contents(path: Path) -> Callable[[str], bytes]:
    """What gives the content of each file of the bundle at a path, or raises BundleError."""
    packed = None if path.is_dir() else packing.read(path)

    def content(file: str) -> bytes:
        try:
            return (path / file).read_bytes() if packed is None else packed[file]
        except OSError as error:
            raise BundleError(f"{path / file} can't be read: {error.strerror}") from error
        except KeyError as error:
            raise BundleError(f"{path} is damaged: it has no {file}") from error

    return content


def _parse_manifest(content: bytes, path: Path) -> dict[str, Any]:
    """The manifest of that content; BundleError, naming its path, where it is damaged or of another format."""
    if len(content) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} is damaged: it has more than {_MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BundleError(f"{path} is damaged: it has no format number")
    if not OLDEST_FORMAT <= manifest["format"] <= FORMAT:
        cure = "update the toolkit" if manifest["format"] > FORMAT else "export it again"
        reads = f"this version reads {OLDEST_FORMAT} to {FORMAT}"
        raise BundleError(f"{path} has format {manifest['format']}; {reads}: {cure}")
    if manifest.get("checksum") != checksum(manifest):
        raise BundleError(f"{path} is damaged: its checksum does not fit its content")
    return manifest


def _incomplete(path: Path, error: Exception) -> BundleError:
    return BundleError(f"{path / MANIFEST} lacks what format {FORMAT} holds: {error!r}")


def _verified(content: bytes, path: Path, sha256: str) -> bytes:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{path} is damaged: its hash is not the manifest's")
    return content


def _weights(generator: Mapping[str, Any] | None) -> tuple[float, float] | None:
    if generator is None:
        return None
    least, most = map(float, generator["weights"])
    return least, most


def _classifier(manifest: Mapping[str, Any]) -> Classifier:
    return Classifier(
        rule=manifest["rule"],
        likelihood_steps=manifest["likelihood_steps"],
        temperatures={rule: float(manifest["temperatures"][rule]) for rule in RULES},
        bank=_bank(**manifest["bank"]),
        least_log_density=float(manifest.get("least_log_density", -math.inf)),
    )


def _bank(times: list[float], weights: list[float], seed: int) -> DenoisingBank:
    return DenoisingBank(tuple(map(float, times)), tuple(map(float, weights)), int(seed))


def _check(bundle: Bundle) -> None:
    """Refuse a manifest whose checksum fits but whose parts do not fit each other."""
    if len(bundle.prior) != len(bundle.classes) or not all(0 < p <= 1 for p in bundle.prior):
        raise ValueError("prior and classes do not fit")
    defaults, manifest = bundle.defaults, bundle.manifest
    if not _whole(defaults.steps):
        raise ValueError("steps are a whole number from 1")
    if not all(0 <= float(number) < math.inf for number in (defaults.weight, defaults.diffusion)):
        raise ValueError("weight and diffusion are numbers from 0")
    if not 0 <= float(defaults.guidance_start) <= 1:
        raise ValueError("guidance_start is from 0 to 1")
    if defaults.sampler not in SAMPLERS or defaults.solver not in SOLVERS:
        raise ValueError(f"sampler is one of {', '.join(SAMPLERS)}, solver of {', '.join(SOLVERS)}")
    if (defaults.sampler == FEW) != (bundle.generator_weights is not None):
        raise ValueError(f"sampler {FEW} and a generator go together")
    if not (_whole(manifest["parameters"]) and isinstance(manifest["measured"], dict) and manifest["dataset"]["key"]):
        raise ValueError("parameters, measured and the data set's key")
    for facts in manifest["files"].values():
        if not set(facts.get("weights_in", [])) <= set(ONE_CALL) & set(manifest["files"]):
            raise ValueError(f"weights lie in {' or '.join(ONE_CALL)}, where it is there")
    parts = ["generator"] if bundle.reading is None else [manifest["autoencoder"], "flow"]
    for part in parts:
        str(manifest["provenance"][part]["sha256"])
    if bundle.reading is not None:
        _check_classifier(bundle.reading)


def _check_classifier(classifier: Classifier) -> None:
    bank = classifier.bank
    if len(bank.times) != len(bank.weights) or not bank.times:
        raise ValueError("times and weights of the denoising bank do not fit")
    if not _whole(classifier.likelihood_steps):
        raise ValueError("likelihood_steps are a whole number from 1")
    if classifier.rule not in RULES or not all(t > 0 and math.isfinite(t) for t in classifier.temperatures.values()):
        raise ValueError("rule or temperatures")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
