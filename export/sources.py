"""Which checkpoints a bundle is made of, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.datasets import Dataset
from training import checkpoints, paths
from training.calibration import UNCALIBRATED
from training.checkpoints import Checkpoint
from training.networks.autoencoders import AutoEncoder
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.options import SamplerOptions
from training.paths import Version, flow_name, generator_name

# What all trainings of a checkpoint have in common, and what they came to.
OF_ALL = (
    "dataset", "network", "autoencoder", "encoder_sha256", "prior",
    "classifier", "versions", "last_epoch", "complete",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """The checkpoints of a bundle."""

    dataset: Dataset
    kind: str  # "autoencoder" or "vae"
    autoencoder_version: Version = "main"
    flow_version: Version = "main"

    @property
    def autoencoder_path(self) -> Path:
        return paths.checkpoint_path(self.dataset.model_name, self.autoencoder_version, self.kind)

    @property
    def flow_path(self) -> Path:
        return paths.checkpoint_path(self.dataset.model_name, self.flow_version, flow_name(self.kind))

    @property
    def generator_path(self) -> Path:
        return paths.checkpoint_path(self.dataset.model_name, self.flow_version, generator_name(self.kind))

    @property
    def only_generates(self) -> bool:
        """Whether there is a generator and neither autoencoder nor flow beside it."""
        others = self.autoencoder_path.is_file() or self.flow_path.is_file()
        return self.generator_path.is_file() and not others


@dataclass(frozen=True)
class Parts:
    """The checkpoints read; without a flow that is trained an untrained one takes its place."""

    source: Source
    autoencoder: Checkpoint[AutoEncoder]
    flow: Checkpoint[Flow]
    generator: Checkpoint[Generator] | None

    @property
    def sampler(self) -> SamplerOptions:
        """How the model was finished to be drawn."""
        return _drawn_by(self.flow, self.generator)

    @property
    def solver_weight(self) -> float:
        """The guidance weight that the flow was finished with, whatever that of a generator beside it."""
        return _drawn_by(self.flow, None).weight

    def provenance(self) -> dict[str, Any]:
        """Where each part comes from, as the manifest says it."""
        parts: dict[str, tuple[Path, Checkpoint[Any] | None]] = {
            self.source.kind: (self.source.autoencoder_path, self.autoencoder),
            "flow": (self.source.flow_path, self.flow),
            "generator": (self.source.generator_path, self.generator),
        }
        return {name: provenance_of(path, part) for name, (path, part) in parts.items() if part is not None}


def provenance_of(path: Path, checkpoint: Checkpoint[Any]) -> dict[str, Any]:
    """The hash of a checkpoint's file, "" where there is none, and what is said of its training.

    Of the trainings before the last it is what they were told otherwise; figures of the last epoch have five digits.
    """
    description = dict(checkpoint.description)
    if "last_epoch" in description:
        description["last_epoch"] = shortened(description["last_epoch"], digits=5)
    earlier = before(description, lambda name: name not in OF_ALL)
    return {"sha256": paths.sha256(path) if path.is_file() else "", **description, **earlier}


def shortened(facts: Any, digits: int) -> Any:
    """Facts, in mappings or not, with so many significant digits of each fraction."""
    if isinstance(facts, Mapping):
        return {name: shortened(value, digits) for name, value in facts.items()}
    return float(f"{facts:.{digits}g}") if isinstance(facts, float) else facts


def before(description: dict[str, Any], kept: Callable[[str], bool]) -> dict[str, Any]:
    """The entry "before" of what is said of a training: of the one before it what is kept and not the same, and so on.

    Its epochs are said in any case; what is said of the later one alone is None of the earlier one.
    """
    earlier = description.get("before")
    if earlier is None:
        return {}
    names = [name for name in description | earlier if name != "before" and kept(name)]
    others = {name: earlier.get(name) for name in names if earlier.get(name) != description.get(name)}
    return {"before": {"total_epochs": earlier["total_epochs"]} | others | before(earlier, kept)}


def read(source: Source, with_flow: bool) -> Parts:
    """The checkpoints of a source; CheckpointError where they do not fit each other."""
    if not with_flow:
        autoencoder = checkpoints.load(source.autoencoder_path, AutoEncoder)
        return Parts(source, autoencoder, _untrained_flow(source.dataset, autoencoder.network), None)
    both = checkpoints.load_fitting(source.autoencoder_path, source.flow_path, len(source.dataset.classes))
    return Parts(source, *both, generator_of(source))


def sampler_of(source: Source) -> SamplerOptions:
    """How the model of a source was finished to be drawn; CheckpointError where there is none."""
    flow = None if source.only_generates else checkpoints.load(source.flow_path, Flow)
    return _drawn_by(flow, generator_of(source))


def _drawn_by(flow: Checkpoint[Flow] | None, generator: Checkpoint[Generator] | None) -> SamplerOptions:
    """The sampler that a flow was finished with, or the default, at the guidance weight of the generator beside it."""
    of_flow = checkpoints.sampler_of(flow) if flow else None
    of_generator = SamplerOptions(**generator.description.get("sampler", {})) if generator else None
    if of_flow is None or of_generator is None:
        return of_flow or of_generator or SamplerOptions()
    return replace(of_flow, weight=of_generator.weight)


def generator_of(source: Source) -> Checkpoint[Generator] | None:
    """The generator of a bundle, if it has one; beside a flow of base size only one distilled from these very two."""
    if not source.generator_path.is_file():
        return None
    checkpoint = checkpoints.load(source.generator_path, Generator)
    checkpoints.check_classes(checkpoint, source.generator_path, len(source.dataset.classes))
    if source.only_generates:
        return checkpoint
    teacher = [paths.sha256(path) for path in (source.autoencoder_path, source.flow_path)]
    own = source.dataset.size != "base" or checkpoint.description["teacher"] == teacher
    return checkpoint if own else None


def _untrained_flow(dataset: Dataset, autoencoder: AutoEncoder) -> Checkpoint[Flow]:
    classes = len(dataset.classes)
    flow = Flow(classes, *autoencoder.latent_shape[:2]).eval()
    return Checkpoint(flow, {}, {"prior": [1 / classes] * classes, "classifier": UNCALIBRATED})
