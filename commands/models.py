"""From --dataset, --model and versions to a model: the shipped bundle, or one made of checkpoints on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

import runtime
from commands.progress import note
from runtime import bundle as bundles
from runtime.datasets import Dataset, find
from runtime.sessions import available_providers
from training.paths import checkpoint_path, flow_name, sha256

EXPORTED = Path("models_onnx")  # of the current directory
NEEDS_TORCH = "needs torch: pip install '.[train]'"


@dataclass(frozen=True)
class Choice:
    """Which model a command asks for."""

    dataset: Dataset
    kind: str | None = None  # "autoencoder" or "vae"; None is the shipped one
    version: Literal["dev", "main"] = "main"
    autoencoder_version: Literal["dev", "main"] = "main"
    device: str = "auto"
    threads: int = 1

    @classmethod
    def from_flags(cls, flags: dict[str, Any]) -> Choice:
        """Take and remove the flags of this choice from a command's."""
        return cls(
            dataset=find(flags.pop("dataset"), flags.pop("split")),
            kind=flags.pop("model"),
            version=flags.pop("model_version"),
            autoencoder_version=flags.pop("autoencoder_version", "main"),
            device=flags.pop("device"),
            threads=flags.pop("threads"),
        )


@contextmanager
def opened(choice: Choice, flow_needed: bool = True) -> Iterator[runtime.Model]:
    """The model asked for.

    With both versions "main" it is the bundle of the data set, if that holds the autoencoder asked for. Any other
    is exported from its checkpoints to a temporary bundle, which needs torch. Without flow_needed, a model that
    only encodes and decodes will do.
    """
    providers = _providers(choice.device)
    if choice.version == choice.autoencoder_version == "main" and _ships(choice):
        model = runtime.load(bundle_folder(choice.dataset), threads=choice.threads, providers=providers)
        _note_newer_checkpoints(choice, model.bundle)
        yield model
        return
    source = _source(choice)
    from export.bundles import temporary_bundle

    note(f"exporting the {choice.version} checkpoint of {choice.dataset.key} to a temporary bundle")
    with temporary_bundle(source, flow_needed) as folder:
        yield runtime.load(folder, threads=choice.threads, providers=providers)


def bundle_folder(dataset: Dataset) -> Path:
    """Where the data set's bundle lies, or would: exported here, or else shipped with the package."""
    exported = EXPORTED / dataset.key
    return exported if (exported / bundles.MANIFEST).is_file() else bundles.SHIPPED / dataset.key


def bundled_kind(dataset: Dataset) -> str | None:
    """The autoencoder in the data set's bundle, or None where there is no bundle."""
    folder = bundle_folder(dataset)
    if not (folder / bundles.MANIFEST).is_file():
        return None
    return str(bundles.read(folder).manifest["autoencoder"])


def require_training() -> None:
    """Raise one clear line where torch is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "onnx", "onnxscript", "safetensors") if find_spec(name) is None]
    if missing:
        raise runtime.ToolkitError(f"this {NEEDS_TORCH} (missing: {', '.join(missing)})")


def _ships(choice: Choice) -> bool:
    kind = bundled_kind(choice.dataset)
    return kind is not None and choice.kind in (None, kind)


def _note_newer_checkpoints(choice: Choice, bundle: runtime.Bundle) -> None:
    """Say so where the main checkpoints are not those that the bundle was exported from."""
    kind = bundle.manifest["autoencoder"]
    provenance = bundle.manifest["provenance"]
    for name, facts in ((kind, provenance[kind]), (flow_name(kind), provenance["flow"])):
        path = checkpoint_path(choice.dataset.key, "main", name)
        if path.is_file() and sha256(path) != facts["sha256"]:
            note(f"{path} is not the checkpoint that {bundle.folder} was exported from: to use it, run export")


def _source(choice: Choice) -> Any:
    try:
        require_training()
    except runtime.ToolkitError as error:
        asked = f"the {choice.version} {choice.kind or 'model'} of {choice.dataset.key}"
        raise runtime.BundleError(
            f"{asked} is not among the bundles ({', '.join(bundles.shipped())}), and {error}"
        ) from error
    from export.bundles import Source

    return Source(
        choice.dataset, choice.kind or bundled_kind(choice.dataset) or "vae", choice.autoencoder_version, choice.version
    )


def _providers(device: str) -> tuple[str, ...]:
    """Onnxruntime's providers for --device."""
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    kind = device.partition(":")[0]
    if kind == "cpu" or (kind == "auto" and cuda not in available_providers()):
        return (cpu,)
    if kind in ("auto", "cuda"):
        return (cuda, cpu)
    raise click.UsageError(
        f"--device is auto, cpu or cuda here, not {device!r}; onnxruntime has {', '.join(available_providers())}."
    )
