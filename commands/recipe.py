"""``train --recipe``: all stages of a shipped model, from one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from commands.progress import note
from commands.train import Training, agreed, encode, export, train
from export.bundles import Source
from runtime.datasets import find
from runtime.errors import DataError
from training import checkpoints, parallel
from training.options import Options, Sampling
from training.paths import flow_name, generator_name

ENCODING_BATCH = 500
FOLDER = Path(__file__).resolve().parent.parent / "training" / "recipes"


def run_recipe(
    name: str,
    root: Path,
    latents: Path | None,
    device: torch.device,
    num_workers: int,
    promote: bool | None,
    resume: bool = False,
) -> str:
    """Train an autoencoder and its flow, and tune and finish the flow, as the recipe says; returns a line.

    Where the user agrees to replace the main checkpoints, they are exported to the data set's bundle. With `resume`
    stages that are complete are passed over, and the one that was interrupted goes on.
    """
    recipe = _read(name)
    dataset = find(recipe["dataset"], recipe.get("split", "balanced"))
    if promote is None:
        promote = agreed(f"Replace the main checkpoints and the bundle of {dataset.key}?")
    kind = recipe["autoencoder"]["model"]
    common: dict[str, Any] = {"dataset": dataset, "root": root, "latents": latents}
    run = Options(device=device, num_workers=num_workers, resume=resume)
    other = recipe["autoencoder"].get("from")
    _note(f"{name}: taking the {kind} of {other}" if other else f"{name}: training the {kind}")
    if other is None:
        _note(train(_training(recipe["autoencoder"], run, **common), promote=False))
    elif parallel.is_first() and not (resume and checkpoints.has_encoder_of(other, dataset.key, kind)):
        checkpoints.adopt(other, dataset.key, kind)
    if parallel.is_first():
        click.echo(encode(dataset, root, kind, "dev", latents, ENCODING_BATCH, device))
    parallel.wait()
    _note(f"{name}: training the flow")
    common |= {"autoencoder": kind}
    line = train(_training(recipe["flow"] | {"model": "flow"}, run, **common), promote=False)
    exported = dict(recipe["export"])
    storage = exported.pop("quantize", "float32")
    sampler = Sampling(**exported)
    for stage in ("tuning", "finishing"):
        if stage in recipe:
            _note(line)
            _note(f"{name}: {stage} the flow")
            table = dict(recipe[stage])
            common |= {"initial": "dev", "sampler": replace(sampler, **table.pop("sampler", {}))}
            line = train(_training(table | {"model": "flow"}, run, **common), promote=False)
    common |= {"teacher_version": "dev", "initial": None}
    for stage in generator_stages(recipe):
        _note(line)
        _note(f"{name}: {stage.replace('_', ' ')}")
        table = dict(recipe[stage])
        common |= {"sampler": replace(sampler, **table.pop("sampler", {}))}
        line = train(_training(table | {"model": "generator"}, run, **common), promote=False)
        common |= {"initial": "dev"}
    if not promote:
        return f"{line}; --promote would have replaced the main checkpoints and the bundle"
    if not parallel.is_first():
        return line
    click.echo(line)
    for trained in (kind, flow_name(kind), *([generator_name(kind)] if generator_stages(recipe) else [])):
        checkpoints.promote(dataset.key, trained)
    return export(Source(dataset, kind), None, sampler, storage)


def generator_stages(recipe: dict[str, Any]) -> list[str]:
    """The stages that train a generator."""
    return [stage for stage in ("distillation", "generator_finishing") if stage in recipe]


def _note(text: str) -> None:
    if parallel.is_first():
        note(text)


def _read(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise click.UsageError(
            f"no recipe {name!r}; there are {', '.join(sorted(each.stem for each in FOLDER.glob('*.toml')))}."
        )
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _training(stage: dict[str, Any], run: Options, **common: Any) -> Training:
    """A stage's table to what it trains: keys of Options, of Training, and the table "network" for the constructor."""
    stage = dict(stage)
    network = [word for name, value in stage.pop("network", {}).items() for word in (f"--{name}", str(value))]
    of_options: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in stage.items() if hasattr(run, key)
    }
    rest = {key: value for key, value in stage.items() if key not in of_options}
    return Training(options=replace(run, **of_options), network=network, **rest, **common)
