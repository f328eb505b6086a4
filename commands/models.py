"""From --dataset, --model and versions to a model: the shipped bundle, or one made of checkpoints on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

import runtime
from commands.click_extras import flag
from commands.options import take_dataset
from commands.progress import note
from runtime import bundle as bundles
from runtime import places
from runtime.chunks import DEFAULT_THREADS
from runtime.datasets import DATASETS, SIZES, Dataset
from runtime.sessions import SessionSettings, available_providers
from training.paths import Version, checkpoint_path, flow_name, generator_name, sha256

EXPORTED = Path("models_onnx")  # of the current directory
SAID_BY_BUNDLE = ("dataset", "split", "size", "model", "model_version", "autoencoder_version")
NEEDS_TORCH = "needs torch: pip install '.[train]'"


@dataclass(frozen=True)
class Choice:
    """Which model a command asks for; bundle: the very one, of the dataset, whatever its versions."""

    dataset: Dataset
    kind: str | None = None  # "autoencoder" or "vae"; None is the shipped one
    version: Version = "main"
    autoencoder_version: Version = "main"
    device: str = "auto"
    threads: int = DEFAULT_THREADS
    bundle: runtime.Bundle | None = None

    @property
    def name(self) -> str:
        """The model's."""
        return self.dataset.model_name if self.bundle is None else self.bundle.name

    @classmethod
    def from_flags(cls, flags: dict[str, Any]) -> Choice:
        """Take and remove the flags of this choice from a command's; UsageError where --bundle decides others."""
        dataset, bundle = take_dataset(flags), _taken_alone(flags)
        return cls(
            dataset=dataset if bundle is None else _dataset_of(bundle),
            bundle=bundle,
            kind=flags.pop("model"),
            version=flags.pop("model_version"),
            autoencoder_version=flags.pop("autoencoder_version", "main"),
            device=flags.pop("device", "auto"),
            threads=flags.pop("threads", DEFAULT_THREADS),
        )


def opened(choice: Choice, flow_needed: bool = True) -> runtime.Model:
    """The model asked for.

    With both versions "main" it is the bundle of the data set, if that holds the autoencoder asked for. Any other
    is exported from its checkpoints, each graph when it is needed, which takes torch. Without flow_needed, a model
    that only encodes and decodes will do.
    """
    settings = SessionSettings(choice.threads, _providers(choice.device))
    if choice.bundle is not None:
        return runtime.Model(choice.bundle, settings)
    bundle = _bundle_of(choice.dataset) if choice.version == choice.autoencoder_version == "main" else None
    if bundle is not None and choice.kind in (None, bundle.manifest.get("autoencoder")):
        _note_newer_checkpoints(choice, bundle)
        return runtime.Model(bundle, settings)
    kind = choice.kind or default_kind(choice.dataset)
    _check_there(choice, kind, flow_needed, bundle)
    require_training()
    from export.bundles import temporary_bundle
    from export.sources import Source

    note(f"exporting the {choice.version} checkpoint of {choice.dataset.model_name} in memory, which can take a minute")
    source = Source(choice.dataset, kind, choice.autoencoder_version, choice.version)
    return runtime.Model(temporary_bundle(source, flow_needed), settings)


def bundle_path(name: str) -> Path | None:
    """Where the bundle of this name lies: exported here, or else shipped with the package; None: nowhere."""
    return places.within(EXPORTED, name) or places.within(places.SHIPPED, name)


def bundle_called(name: str) -> runtime.Bundle:
    """The bundle of this name, or at this path; BundleError where there is none."""
    return bundles.read((bundle_path(name) if places.is_bare_name(name) else None) or name)


def take_bundle(flags: dict[str, Any]) -> runtime.Bundle:
    """Take and remove the flags that say which bundle; UsageError where --bundle decides others."""
    dataset, bundle = take_dataset(flags), _taken_alone(flags)
    return bundle_called(dataset.model_name) if bundle is None else bundle


def bundle_names() -> list[str]:
    """The names of the bundles exported here or shipped with the package."""
    return sorted({*places.names_within(EXPORTED), *places.shipped()})


def default_kind(dataset: Dataset) -> str:
    """The autoencoder in the data set's bundle, or else in that of base size, whence generators come; or the VAE."""
    for each in (dataset, replace(dataset, size="base")):
        try:
            bundle = _bundle_of(each)
        except runtime.BundleError as error:  # which `export` may be about to replace
            note(str(error))
            continue
        if bundle is not None and "autoencoder" in bundle.manifest:
            return str(bundle.manifest["autoencoder"])
    return "vae"


def require_training(packages: Sequence[str] = ("torch", "onnx", "onnxscript", "safetensors")) -> None:
    """Raise one clear line where packages of training are not installed."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise runtime.ToolkitError(f"this {NEEDS_TORCH} (missing: {', '.join(missing)})")


def _taken_alone(flags: dict[str, Any]) -> runtime.Bundle | None:
    """Take and remove --bundle, and read it; UsageError where another flag says which model, too."""
    path = flags.pop("bundle", None)
    if path is None:
        return None
    context = click.get_current_context()
    for name in SAID_BY_BUNDLE:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--bundle decides {flag(name)}: leave it out.")
    return bundle_called(path)


def _dataset_of(bundle: runtime.Bundle) -> Dataset:
    key = bundle.manifest["dataset"]["key"]
    if key not in DATASETS:
        raise runtime.BundleError(f"{bundle.path} is of a data set {key!r}, which is not known here")
    return DATASETS[key]


def _bundle_of(dataset: Dataset) -> runtime.Bundle | None:
    """The bundle of a data set's model, if there is one; BundleError where it is another's that lies in its place."""
    path = bundle_path(dataset.model_name)
    if path is None:
        return None
    bundle = bundles.read(path)
    key = bundle.manifest["dataset"]["key"]
    if key != dataset.key:
        raise runtime.BundleError(f"{path} is a model of {key}, not of {dataset.key}")
    return bundle


def _note_newer_checkpoints(choice: Choice, bundle: runtime.Bundle) -> None:
    """Say so where the main checkpoints are not those that the bundle was exported from."""
    kind = bundle.manifest.get("autoencoder", "vae")
    names = {kind: kind, "flow": flow_name(kind), "generator": generator_name(kind)}
    for part, name in names.items():
        facts = bundle.manifest["provenance"].get(part)
        path = checkpoint_path(choice.dataset.model_name, "main", name)
        if facts is None:
            continue
        if path.is_file() and sha256(path) != facts["sha256"]:
            note(f"{path} is not the checkpoint that {bundle.path} was exported from: to use it, run export")


def _check_there(choice: Choice, kind: str, flow_needed: bool, bundle: runtime.Bundle | None) -> None:
    """BundleError, which says what there is instead, where checkpoints to export are missing."""
    model = choice.dataset.model_name
    generator = checkpoint_path(model, choice.version, generator_name(kind))
    needed = [checkpoint_path(model, choice.autoencoder_version, kind)]
    needed += [checkpoint_path(model, choice.version, flow_name(kind))] if flow_needed else []
    missing = [path for path in needed if not path.is_file()]
    if not missing or generator.is_file():
        return
    said = f"there is no checkpoint {missing[0]}"
    if bundle is not None:
        held = bundle.manifest.get("autoencoder")
        raise runtime.BundleError(
            f"{said}, and the bundle {bundle.path} {f'holds the {held}' if held else 'only generates'}"
        )
    if "dev" in (choice.version, choice.autoencoder_version):
        raise runtime.BundleError(f"{said}: train it first")
    alike = [each for each in DATASETS.values() if each.name == choice.dataset.name]
    own = {replace(each, size=size).model_name for each in alike for size in SIZES}
    there = ", ".join(name for name in bundle_names() if name in own) or "none"
    known = f"of {choice.dataset.name} there are {there}"
    raise runtime.BundleError(f"there is no bundle {model} ({known}), nor a checkpoint {missing[0]} to export")


def _providers(device: str) -> tuple[str, ...]:
    """Onnxruntime's providers for --device."""
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    available = available_providers()
    if device == "cpu" or (device == "auto" and cuda not in available):
        return (cpu,)
    if device in ("auto", "cuda") and cuda in available:
        return (cuda, cpu)
    raise click.UsageError(f"--device {device!r} is not to be had here; onnxruntime has {', '.join(available)}.")
