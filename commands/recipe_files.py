"""Recipes read: TOML whose keys are flags of ``train`` and ``export``, all checked before hours are spent on them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from commands import command_options as own
from commands import networks
from commands import options as flags
from commands import training_options as training
from commands.models import default_kind
from commands.toml_tables import Convert, table_of, tables_of, text, values_of
from runtime.datasets import Dataset
from runtime.errors import DataError
from runtime.noise import MAX_SEED
from runtime.sampling import diffusion_of
from training.networks.autoencoders import AUTOENCODERS
from training.networks.generators import Generator, check_weight
from training.options import changed
from training.paths import CLASSIFIER, DECODER, KINDS

FOLDER = Path(__file__).resolve().parent.parent / "training" / "recipes"
SUFFIX = ".toml"
# Flags of `train` that a stage leaves to its place in the recipe, or to whoever runs that.
DECIDED = {
    "model", "model_version", "autoencoder", "teacher_version", "latents", "resume", "promote", "recipe", "threads",
}  # fmt: skip
NEEDED_BY = {"autoencoder": (CLASSIFIER, "flow", "flow_stages"), "distillation": ("generator_stages",)}
WITH_SAMPLER = ("flow", "flow_stages", "distillation", "generator_stages")  # tables in the order of their trainings
MOST_ROUNDS = 100


def read(name: str) -> dict[str, Any]:
    """The recipe of a shipped model, or of a file whose name ends in SUFFIX, with values as those flags have them.

    What a table of several of one name leaves out is as in the one before, but for rounds; what "sampler", or the
    export, leaves out is as in the training before. Every table WITH_SAMPLER, and the export, has it whole.
    UsageError where there is none; DataError for one that is damaged, lacks a table, or has a key or a value that
    nothing takes.
    """
    path = Path(name) if name.endswith(SUFFIX) else FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob(f"*{SUFFIX}")))
        raise click.UsageError(f"no recipe {name!r}; there are {known}, and files that end in {SUFFIX}.")
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    try:
        return _checked(tables)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def dataset_of(recipe: Mapping[str, Any]) -> Dataset:
    """What a recipe's model is of."""
    return flags.take_dataset(dict(recipe))


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
    sampler = values_of(flags.solver_options(training.SAMPLER))
    model = values_of(click.option("--model", type=click.Choice(list(AUTOENCODERS))))
    packed = values_of(click.option("--packed", is_flag=True))
    whole: dict[str, Convert] = {
        **values_of(flags.dataset_options),
        "autoencoder": _first(KINDS, {**model, "from": text}, needed=("model",)),
        CLASSIFIER: _first((CLASSIFIER,)),
        "flow": _first(("flow",), {"from": text}),
        "flow_stages": _further("flow", DECODER),
        "distillation": _first(("generator",)),
        "generator_stages": _further("generator"),
        "export": table_of({**sampler, "quantize": values_of(own.export_options)["quantize"], **packed}),
    }
    if not recipe.keys() & {"autoencoder", "distillation"}:
        raise DataError("lacks what to train, autoencoder or distillation")
    for first, further in NEEDED_BY.items():
        if first not in recipe and (idle := recipe.keys() & set(further)):
            raise DataError(f"has {', '.join(sorted(idle))} without {first}")
    with_flow = ("flow",) if "autoencoder" in recipe else ()
    found: dict[str, Any] = table_of(whole, needed=("dataset", "export", *with_flow))(recipe)
    _complete_samplers(found)
    _check_across(found)
    _check_generators(found)
    return found


def _first(
    models: tuple[str, ...],
    more: Mapping[str, Convert] = MappingProxyType({}),
    needed: tuple[str, ...] = (),
) -> Convert:
    """What converts a table of the training of a new network, which may be one of several models."""
    known = {**_stage(models), **more, "network": _network(models[0])}
    del known["initial_share"]
    return table_of(known, needed, partial(_check_stage, models, False))


def _further(*models: str) -> Convert:
    """What converts the tables of trainings that go on, of the first of these models where they name none."""
    rounds = values_of(click.option("--rounds", type=click.IntRange(1, MOST_ROUNDS)))
    known = {**_stage(models), **rounds, "name": text}
    if DECODER in models:
        known |= values_of(click.option("--model", type=click.Choice(models)))
        known["network"] = _network(DECODER, needed=networks.DECODER_WIDTHS)
    elif models[0] in networks.ADDED:
        known["network"] = _network(models[0], going_on=True)

    def check(found: Mapping[str, Any]) -> None:
        if DECODER in models and (found.get("model") == DECODER) != ("network" in found):
            raise DataError("a network is of a decoder, and a decoder has one")
        _check_stage(models, True, found)

    return tables_of(table_of(known, ("name",), check), anew=("rounds", "sampler"))


def _network(model: str, needed: tuple[str, ...] = (), going_on: bool = False) -> Convert:
    """What converts the table of a network's arguments, or of those that a trained one is given."""
    arguments = networks.arguments_taken(model, going_on)

    def parse(name: str) -> Convert:
        return lambda value: networks.parse_argument(arguments[name], str(value))

    known = {name: parse(name) for name in arguments}
    if model == "generator":  # which is what its teacher decides, too: see _check_generators
        return table_of(known)
    return table_of(known, needed, partial(networks.check_buildable, networks.NETWORKS_OF[model]))


def _check_stage(models: tuple[str, ...], going_on: bool, found: Mapping[str, Any]) -> None:
    """UsageError or DataError for what the model of a stage, the first of these if it names none, does not take."""
    model = found.get("model", models[0])
    for key in found:
        if model not in training.TAKEN_BY.get(key, training.MODELS):
            raise DataError(f"has {key!r}, which is not of {model}")
    training.check_together(found, model, going_on)


def _stage(models: tuple[str, ...]) -> dict[str, Convert]:
    """What converts the flags of `train` that one of these models takes, and the table of its sampler's."""
    of_training = (training.training_options, training.machine_options, flags.batch_size_option, flags.seed_option)
    known = {name: convert for options in of_training for name, convert in values_of(options).items()}
    sampler = _taken(models, values_of(flags.solver_options(training.SAMPLER)))
    found = {key: convert for key, convert in _taken(models, known).items() if key not in DECIDED}
    return {**found, "sampler": table_of(sampler)} if sampler else found


def _taken(models: tuple[str, ...], known: Mapping[str, Convert]) -> dict[str, Convert]:
    """The flags that one of these models takes."""
    takers = {name: training.TAKEN_BY.get(name, training.MODELS) for name in known}
    return {name: convert for name, convert in known.items() if set(models) & set(takers[name])}


def _complete_samplers(recipe: dict[str, Any]) -> None:
    """Fill in what samplers leave out, from one training to the next and to the export."""
    way = training.SAMPLER
    for _, table in _with_sampler(recipe):
        way = table["sampler"] = changed(way, table.get("sampler", {}))
    recipe["export"] = changed(way, recipe["export"])


def _with_sampler(recipe: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and tables of the trainings that may draw."""
    for name in WITH_SAMPLER:
        found = recipe.get(name, [])
        yield from ((name, table) for table in (found if isinstance(found, list) else [found]))


def _check_across(recipe: Mapping[str, Any]) -> None:
    """Refuse tables that do not fit each other."""
    _check_taken(recipe)
    for name, table in [*_with_sampler(recipe), ("export", {"sampler": recipe["export"]})]:
        way = table["sampler"]
        try:
            diffusion_of(way["sampler"], way["diffusion"])
            if "distillation" in recipe and name not in ("flow", "flow_stages"):
                check_weight(way["weight"])
        except ValueError as error:
            raise DataError(f"{name}: {error}") from error
        if table.get("classifier_version") == "dev" and CLASSIFIER not in recipe:
            raise DataError(f"{name}: classifier_version: there is no table {CLASSIFIER}")
    for name in ("flow_stages", "generator_stages"):
        stages = [{**stage, "name": ""} for stage in further_stages(recipe, name)]
        if any(stage["seed"] > MAX_SEED for stage in stages):
            raise DataError(f"{name}: a seed, counted up by rounds, is beyond {MAX_SEED}")
        if any(stage in stages[:index] for index, stage in enumerate(stages)):
            raise DataError(f"{name}: two of them are the same: give one another seed")


def _check_taken(recipe: Mapping[str, Any]) -> None:
    """Refuse what a recipe takes from other models, where it does not go with what it trains itself."""
    try:
        size = dataset_of(recipe).size
    except click.UsageError as error:
        raise DataError(error.message) from error
    own = [name for name in ("autoencoder", "flow") if name in recipe and "from" not in recipe[name]]
    if "distillation" in recipe and own and size != "base":
        raise DataError(f"distillation: a generator of another size learns from the main model: {own[0]} lacks from")
    for name in ("autoencoder", "flow"):
        table = recipe.get(name, {})
        if "from" in table and (idle := table.keys() - {"from", "model", "sampler"}):
            more = ", ".join(sorted(idle))
            raise DataError(f"{name}: what is taken from another model is not trained: leave out {more}")
    if "from" in recipe.get("flow", {}) and "from" not in recipe["autoencoder"]:
        raise DataError("flow: another model's goes with no new encoder: autoencoder lacks from")


def _check_generators(recipe: Mapping[str, Any]) -> None:
    """Refuse a generator that can't be, and what its stages would give it that it can't have, or has otherwise."""
    if "distillation" not in recipe:
        return
    stages = [("distillation", recipe["distillation"])]
    stages += [("generator_stages", stage) for stage in recipe.get("generator_stages", [])]
    network = _decided_by_teacher(recipe)
    for name, stage in stages:
        added = stage.get("network", {})
        if kept := [each for each in added if network.get(each, added[each]) != added[each]]:
            raise DataError(f"{name}: network: the generator has other {kept[0]} already")
        network = {**network, **added}
        try:
            networks.check_buildable(Generator, network)
        except click.UsageError as error:
            raise DataError(f"{name}: network: {error.message}") from error


def _decided_by_teacher(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """As networks.decided_by_teacher, of the model from which a recipe's generator learns."""
    dataset, table = dataset_of(recipe), recipe.get("autoencoder", {})
    if table and "from" not in table and dataset.size == "base":
        network = table.get("network", {})
        return {name: value for name, value in network.items() if name == "latent_channels"}
    model = table.get("from", dataset.key) if dataset.size == "base" else dataset.key
    return networks.decided_by_teacher(model, table.get("model", default_kind(dataset)), "main")
