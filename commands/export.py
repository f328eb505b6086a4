"""``export``: checkpoints to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from commands import networks
from commands.click_extras import flag
from commands.models import EXPORTED, Choice, default_kind
from commands.options import check_solver
from commands.progress import note, track
from export import sources
from export.bundles import export_bundle
from export.sources import Source, sampler_of
from export.storage import Storage
from runtime import bundle as bundles
from runtime import places
from runtime.datasets import Dataset
from runtime.errors import BundleError
from runtime.manifests import GENERATE
from runtime.places import SUFFIX
from training.options import SamplerOptions, changed


def export(choice: Choice, output: Path | None, settings: Mapping[str, Any], storage: Storage) -> str:
    """Export the checkpoints that are chosen; settings: flags of SAMPLING, None where the model's own will do."""
    kind = choice.kind or default_kind(choice.dataset)
    source = Source(choice.dataset, kind, choice.autoencoder_version, choice.version)
    chosen = {name: value for name, value in settings.items() if value is not None}
    if source.only_generates and chosen.keys() - {"weight"}:
        other = flag(next(iter(chosen.keys() - {"weight"})))
        raise click.UsageError(f"{other} is of a flow's solver, and {source.generator_path} is a generator alone.")
    sampler = SamplerOptions(**changed(asdict(sampler_of(source)), chosen))
    check_solver(vars(sampler))
    if "weight" in chosen and sources.generator_of(source) is not None:
        networks.check_weight(sampler.weight)
    return write_bundle(source, output, sampler, storage)


def bundle_target(dataset: Dataset, packed: bool) -> Path:
    """Where the bundle of a data set is written, where nothing else is said."""
    name = dataset.model_name
    return EXPORTED / f"{name}{SUFFIX}" if packed else places.within(EXPORTED, name) or EXPORTED / name


def write_bundle(
    source: Source, output: Path | None, defaults: SamplerOptions, storage: Storage = "float32", packed: bool = False
) -> str:
    """Export checkpoints to a bundle; returns a line that says where and how well it matches torch.

    packed: as one file, where output does not say so by its ending; without an output a bundle is otherwise written
    where that of the data set lies.
    """
    path = output or bundle_target(source.dataset, packed)
    before = _measured(path)
    manifest = export_bundle(source, path, defaults, storage=storage, track=track)
    if before:
        note(
            f"{path} had figures of its samples, with weights in {before}: `evaluate --record` measures the new bundle"
        )
    if source.generator_path.is_file() and "generator" not in manifest:
        note(f"{source.generator_path} was distilled from other checkpoints: it is left out")
    read = places.within(path.parent, path.name.removesuffix(SUFFIX))
    if read not in (None, path):
        note(f"{read} is read in its place: remove one of the two")
    errors = {file: facts["largest_error"] for file, facts in manifest["files"].items()}
    differ = f"{errors.pop(GENERATE):.0e} of pixels differ from torch's"
    said = f"{path}: {manifest['parameters']:,} parameters in {storage}; {differ}"
    if not errors:
        return said
    trajectory = manifest["largest_errors_in_use"]["trajectory"]
    return f"{said}, other graphs are at most {max(errors.values()):.0e} off, trajectories {trajectory:.0e}"


def _measured(path: Path) -> str | None:
    """How the weights are stored of the bundle at a path, if there is one whose samples were measured."""
    try:
        manifest = bundles.read(path.absolute()).manifest
    except BundleError:
        return None
    return str(manifest["storage"]) if manifest["measured"] else None
