"""Recipes read: TOML whose keys are flags of ``train`` and ``export``, all checked before hours are spent on them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from torch import nn

from commands import command_options as own
from commands import options as flags
from runtime.datasets import Dataset, find
from runtime.errors import DataError
from runtime.sampling import diffusion_of
from training import checkpoints
from training.checkpoints import AUTOENCODERS
from training.classifiers import Classifier
from training.flows import Flow
from training.generators import Generator
from training.paths import CLASSIFIER

FOLDER = Path(__file__).resolve().parent.parent / "training" / "recipes"
SUFFIX = ".toml"
# Flags of `train` that a stage leaves to its place in the recipe, or to whoever runs that.
DECIDED = {
    "model", "model_version", "autoencoder", "teacher_version", "latents", "resume", "promote", "recipe", "threads",
}  # fmt: skip
Convert = Callable[[Any], Any]  # a value of the file to one as the flag has it; DataError where it is none


def read(name: str) -> dict[str, Any]:
    """The recipe of a shipped model, or of a file whose name ends in SUFFIX, with values as those flags have them.

    UsageError where there is none; DataError for one that is damaged, lacks a table, or has a key or a value that
    nothing takes.
    """
    path = Path(name) if name.endswith(SUFFIX) else FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob(f"*{SUFFIX}")))
        raise click.UsageError(f"no recipe {name!r}; there are {known}, and files that end in {SUFFIX}.")
    try:
        return _checked(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def dataset_of(recipe: Mapping[str, Any]) -> Dataset:
    """What a recipe's model is of."""
    return find(recipe["dataset"], recipe.get("split", "balanced"), recipe.get("size", "base"))


def further_stages(recipe: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A training each that the recipe's tables [[name]] ask for, in their order; each has a "name".

    A table with rounds = N is N trainings, each from where the last ended, with seeds counted up: judges are new.
    """
    return [
        {key: value for key, value in table.items() if key != "rounds"} | {"seed": table.get("seed", 0) + index}
        for table in recipe.get(name, [])
        for index in range(table.get("rounds", 1))
    ]


def _checked(recipe: dict[str, Any]) -> dict[str, Any]:
    sampler = _flags(flags.solver_options(own.SAMPLER))
    stage = _flags(own.training_options) | _flags(flags.batch_size_option) | _flags(flags.seed_option)
    stage = {key: convert for key, convert in stage.items() if key not in DECIDED} | {"sampler": _table(sampler)}
    rounds = _flags(click.option("--rounds", type=click.IntRange(1)))
    model = _flags(click.option("--model", type=click.Choice(list(AUTOENCODERS))))
    stored = {"quantize": _flags(own.export_options)["quantize"], **_flags(click.option("--packed", is_flag=True))}
    further = _tables({**stage, **rounds, "name": _text}, needed=("name",))
    whole: dict[str, Convert] = {
        **_flags(flags.dataset_options),
        "autoencoder": _table({**stage, **model, "from": _text, **_network(AUTOENCODERS["vae"])}, needed=("model",)),
        CLASSIFIER: _table({**stage, **_network(Classifier)}),
        "flow": _table({**stage, "from": _text, **_network(Flow)}),
        "flow_stages": further,
        "distillation": _table({**stage, **_network(Generator)}),
        "generator_stages": further,
        "export": _table({**sampler, **stored}),
    }
    if not recipe.keys() & {"autoencoder", "distillation"}:
        raise DataError("lacks what to train, autoencoder or distillation")
    with_flow = ("flow",) if "autoencoder" in recipe else ()
    found: dict[str, Any] = _table(whole, needed=("dataset", "export", *with_flow))(recipe)
    try:
        diffusion_of(found["export"].get("sampler", own.SAMPLER["sampler"]), found["export"].get("diffusion"), 0.0)
    except ValueError as error:
        raise DataError(f"export: {error}") from error
    return found


def _table(known: Mapping[str, Convert], needed: tuple[str, ...] = ()) -> Convert:
    """What converts the values of a table, which has no keys but the known and all those needed."""

    def convert(table: Any) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise DataError("is no table")
        for key in needed:
            if key not in table:
                raise DataError(f"lacks {key}")
        found = {}
        for key, value in table.items():
            if key not in known:
                raise DataError(f"has {key!r}, which nothing takes")
            try:
                found[key] = known[key](value)
            except click.BadParameter as error:
                raise DataError(f"{key}: {error.message}") from error
            except (DataError, TypeError, ValueError) as error:
                raise DataError(f"{key}: {error}") from error
        return found

    return convert


def _tables(known: Mapping[str, Convert], needed: tuple[str, ...]) -> Convert:
    """What converts a list of tables."""

    def convert(tables: Any) -> list[dict[str, Any]]:
        if not isinstance(tables, list):
            raise DataError("is no list of tables, [[...]]")
        return [_table(known, needed)(table) for table in tables]

    return convert


def _flags(options: Callable[[click.Command], click.Command]) -> dict[str, Convert]:
    """What converts the values of flags, by their names."""
    command = options(click.Command("flags"))
    return {str(flag.name): partial(_as_flag, flag, click.Context(command)) for flag in command.params}


def _as_flag(flag: click.Parameter, context: click.Context, value: Any) -> Any:
    """A value of TOML as the flag has it: a whole number stays one, and only true and false are such."""
    whole, truth = (isinstance(flag.type, kind) for kind in (click.types.IntParamType, click.types.BoolParamType))
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, bool) != truth or (whole and not isinstance(each, int)):
            raise DataError(f"{each!r} is no {flag.type.name}")
    return flag.type_cast_value(context, value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{value!r} is no text")
    return value


def _network(network: type[nn.Module]) -> dict[str, Convert]:
    """The table "network", of arguments of a constructor, with values as `train` takes them: --NAME VALUE."""
    known = checkpoints.constructor_arguments(network)

    def parse(name: str) -> Convert:
        return lambda value: checkpoints.parse_argument(known[name], str(value))

    return {"network": _table({name: parse(name) for name in known})}
