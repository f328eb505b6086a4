"""What a bundle says of itself: ``manifest.json``, from bytes to checked facts and back.

The manifest's "checksum" is the SHA-256 of the rest of it, as JSON with sorted keys and no spaces; it also names the
bundle. Each graph is listed with its own SHA-256.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import hashing
from .bayes import RULES, DenoisingBank, Rule
from .errors import BundleError
from .noise import MAX_SEED
from .sampling import FEW, MAX_DIFFUSION, MAX_STEPS, MAX_WEIGHT, SAMPLERS, SOLVERS, Sampler, Solver

OLDEST_FORMAT, FORMAT = 2, 3  # before 3 every graph held all its weights
MANIFEST = "manifest.json"
GENERATE = "generate.onnx"
ONE_CALL = (GENERATE, "classify.onnx")  # they hold all their weights; other graphs may find theirs in them
GRAPHS = (*ONE_CALL, "encoder.onnx", "decoder.onnx", "flow.onnx", "likelihood.onnx")
MAX_NAME = 100  # bytes of a bundle's name, which tar archives hold
_COUNTS = ("bytes", "parameters", "multiply_adds")  # of a graph
_MAX_BYTES = 1 << 20
_MAX_SIDE = 1024  # of a latent
_ROUNDING = 1e-4  # of a sum of probabilities


@dataclass(frozen=True)
class Defaults:
    """What generating uses where the caller says nothing.

    sampler: of images, with its guidance weight; solver: of latents and paths, which a sampler "few" does not have,
    with the weight of all solvers.
    """

    weight: float
    solver_weight: float
    steps: int = 1
    diffusion: float = 0.0
    guidance_start: float = 0.0
    sampler: Sampler = "heun"
    solver: Solver = "heun"


@dataclass(frozen=True)
class BayesClassifier:
    """How images are read; least_log_density: a latent below is unlike the training data."""

    rule: Rule
    likelihood_steps: int
    temperatures: Mapping[Rule, float]
    bank: DenoisingBank
    least_log_density: float


@dataclass(frozen=True)
class Facts:
    """What the rest of the runtime asks of a manifest."""

    name: str
    classes: tuple[str, ...]
    prior: tuple[float, ...]
    latent_shape: tuple[int, ...]
    defaults: Defaults
    reading: BayesClassifier | None  # None: it only generates
    generator_weights: tuple[float, float] | None  # of guidance, least and most, that "few" has; None: there is none


def checksum(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest without its own checksum."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashing.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def signed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its checksum."""
    return {**manifest, "checksum": checksum(manifest)}


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The file of a manifest with its checksum."""
    return f"{json.dumps(signed(manifest), indent=1)}\n".encode()


def decode(content: bytes, path: Path) -> dict[str, Any]:
    """The manifest of a file's content; BundleError, naming its path, where it is damaged or of another format."""
    manifest = _parsed(content, path)
    if not OLDEST_FORMAT <= manifest["format"] <= FORMAT:
        cure = "update the toolkit" if manifest["format"] > FORMAT else "export it again"
        reads = f"this version reads {OLDEST_FORMAT} to {FORMAT}"
        raise BundleError(f"{path} has format {manifest['format']}; {reads}: {cure}")
    if manifest.get("checksum") != checksum(manifest):
        raise BundleError(f"{path} is damaged: its checksum does not fit its content")
    return manifest


def is_whole(content: bytes, path: Path) -> bool:
    """Whether a file's content is a manifest, of whatever format, as it was written."""
    try:
        manifest = _parsed(content, path)
    except BundleError:
        return False
    return bool(manifest.get("checksum") == checksum(manifest))


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    if len(content) > _MAX_BYTES:
        raise BundleError(f"{path} is damaged: it has more than {_MAX_BYTES} bytes")
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BundleError(f"{path} is damaged: it has no format number")
    return manifest


def hashes(manifest: Mapping[str, Any], path: Path) -> dict[str, str]:
    """The SHA-256 of each graph by its file; BundleError, naming the manifest's path, where they are no bundle's."""
    try:
        files = {file: str(facts["sha256"]) for file, facts in manifest["files"].items()}
        if set(files) not in (set(GRAPHS), {GENERATE}):
            raise ValueError(f"files are {', '.join(GRAPHS)}, or {GENERATE} alone")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _incomplete(manifest, path, error) from error
    return files


def facts(manifest: Mapping[str, Any], reads: bool, path: Path) -> Facts:
    """What a manifest says, checked; BundleError, naming its path, where a part is missing or does not fit the rest.

    reads: whether the bundle has graphs that read images, whose rules the manifest then holds.
    """
    try:
        found = Facts(
            name=str(manifest["name"]),
            classes=tuple(map(str, manifest["dataset"]["classes"])),
            prior=tuple(map(float, manifest["dataset"]["prior"])),
            latent_shape=tuple(map(int, manifest["latent_shape"])),
            defaults=_defaults(**manifest["defaults"]),
            reading=_classifier(manifest["classifier"]) if reads else None,
            generator_weights=_weights(manifest.get("generator")),
        )
        _check(found)
        _check_rest(manifest, reads)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _incomplete(manifest, path, error) from error
    return found


def _incomplete(manifest: Mapping[str, Any], path: Path, error: Exception) -> BundleError:
    return BundleError(f"{path} lacks what format {manifest['format']} holds: {error!r}")


def _defaults(
    weight: float,
    diffusion: float = 0.0,
    guidance_start: float = 0.0,
    solver_weight: float | None = None,
    **more: Any,
) -> Defaults:
    of_solvers = float(weight if solver_weight is None else solver_weight)
    return Defaults(float(weight), of_solvers, diffusion=float(diffusion), guidance_start=float(guidance_start), **more)


def _weights(generator: Mapping[str, Any] | None) -> tuple[float, float] | None:
    if generator is None:
        return None
    least, most = map(float, generator["weights"])
    return least, most


def _classifier(manifest: Mapping[str, Any]) -> BayesClassifier:
    return BayesClassifier(
        rule=manifest["rule"],
        likelihood_steps=manifest["likelihood_steps"],
        temperatures={rule: float(manifest["temperatures"][rule]) for rule in RULES},
        bank=_bank(**manifest["bank"]),
        least_log_density=float(manifest.get("least_log_density", -math.inf)),
    )


def _bank(times: list[float], weights: list[float], seed: int) -> DenoisingBank:
    return DenoisingBank(tuple(map(float, times)), tuple(map(float, weights)), int(seed))


def _check(found: Facts) -> None:
    """Refuse facts that do not fit each other."""
    if not is_name(found.name):
        raise ValueError(f"name is that of a folder, of up to {MAX_NAME} bytes")
    if len(found.prior) != len(found.classes) or not all(0 < p <= 1 for p in found.prior):
        raise ValueError("prior and classes do not fit")
    if abs(sum(found.prior) - 1) > _ROUNDING:
        raise ValueError("prior adds up to 1")
    if len(found.latent_shape) != 3 or not all(map(_whole, found.latent_shape)) or max(found.latent_shape) > _MAX_SIDE:
        raise ValueError(f"latent_shape has three whole numbers from 1 to {_MAX_SIDE}")
    defaults = found.defaults
    if not (_whole(defaults.steps) and defaults.steps <= MAX_STEPS):
        raise ValueError(f"steps are a whole number from 1 to {MAX_STEPS}")
    if not all(0 <= weight <= MAX_WEIGHT for weight in (defaults.weight, defaults.solver_weight)):
        raise ValueError(f"weight is from 0 to {MAX_WEIGHT:g}")
    if not 0 <= defaults.diffusion <= MAX_DIFFUSION:
        raise ValueError(f"diffusion is from 0 to {MAX_DIFFUSION:g}")
    if not 0 <= defaults.guidance_start <= 1:
        raise ValueError("guidance_start is from 0 to 1")
    if defaults.sampler not in SAMPLERS or defaults.solver not in SOLVERS:
        raise ValueError(f"sampler is one of {', '.join(SAMPLERS)}, solver of {', '.join(SOLVERS)}")
    if (defaults.sampler == FEW) != (found.generator_weights is not None):
        raise ValueError(f"sampler {FEW} and a generator go together")
    if found.generator_weights is not None:
        least, most = found.generator_weights
        if not least <= defaults.weight <= most:
            raise ValueError(f"weight is {least:g} to {most:g}, which the generator has")
    if found.reading is not None:
        _check_classifier(found.reading)


def is_name(name: str) -> bool:
    """Whether a bundle may be called so: a folder may, on any system and in a packed file."""
    plain = name not in ("", ".", "..") and not set(name) & {"/", "\\"} and name.isprintable()
    return plain and len(name.encode()) <= MAX_NAME


def _check_rest(manifest: Mapping[str, Any], reads: bool) -> None:
    """Refuse a manifest without what `info` shows, or whose graphs find weights where there are none."""
    if not (_whole(manifest["parameters"]) and isinstance(manifest["dataset"]["key"], str)):
        raise ValueError("parameters are a whole number, the data set's key is a word")
    _check_measured(manifest["measured"])
    if not isinstance(manifest["storage"], str):
        raise ValueError("storage is a word")
    for file in manifest["files"].values():
        if not set(file.get("weights_in", [])) <= set(ONE_CALL) & set(manifest["files"]):
            raise ValueError(f"weights lie in {' or '.join(ONE_CALL)}, where it is there")
        if not all(isinstance(file[name], int) for name in _COUNTS) or not math.isfinite(file["largest_error"]):
            raise ValueError(f"{', '.join(_COUNTS)} and largest_error are numbers")
    networks = {name: network for name, network in manifest["provenance"].items() if name != "versions"}
    if not {manifest["autoencoder"], "flow"} <= set(networks) if reads else "generator" not in networks:
        raise ValueError("provenance is of each network")
    for network in networks.values():
        if not isinstance(network["sha256"], str):
            raise ValueError("sha256 is a word")
        while network is not None and manifest["files"]:  # or else it may not be trained at all
            int(network["total_epochs"])
            network = network.get("before")


def _check_measured(found: Mapping[str, Any], beside: tuple[str, ...] = ("second",)) -> None:
    """Refuse figures that are no numbers; beside: the keys of those of other evaluators. A command may be told."""
    for name, value in found.items():
        if name in beside:
            _check_measured(value, ())
        elif not (isinstance(value, str) if name == "command" else isinstance(value, int | float)):
            raise ValueError(f"{name} is measured as a number")


def _check_classifier(classifier: BayesClassifier) -> None:
    bank = classifier.bank
    if len(bank.times) != len(bank.weights) or not bank.times:
        raise ValueError("times and weights of the denoising bank do not fit")
    if not (all(0 <= t <= 1 for t in bank.times) and all(map(math.isfinite, bank.weights))):
        raise ValueError("times are from 0 to 1, weights numbers")
    if not 0 <= bank.seed <= MAX_SEED or math.isnan(classifier.least_log_density):
        raise ValueError(f"the bank's seed is from 0 to {MAX_SEED}, least_log_density a number")
    if not (_whole(classifier.likelihood_steps) and classifier.likelihood_steps <= MAX_STEPS):
        raise ValueError(f"likelihood_steps are a whole number from 1 to {MAX_STEPS}")
    if classifier.rule not in RULES or not all(t > 0 and math.isfinite(t) for t in classifier.temperatures.values()):
        raise ValueError("rule or temperatures")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
