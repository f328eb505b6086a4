"""From words of the command line to a network's constructor, and what networks can't be or do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

import click
import torch
from torch import nn

from commands.click_extras import as_usage_errors
from training import checkpoints, paths
from training.networks import generators
from training.networks.autoencoders import AUTOENCODERS, AutoEncoder
from training.networks.classifiers import Classifier
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.paths import CLASSIFIER, DECODER, Version

MAX_PARAMETERS = 100_000_000
NETWORKS_OF: dict[str, type[nn.Module]] = {
    **AUTOENCODERS, "flow": Flow, "generator": Generator, CLASSIFIER: Classifier, DECODER: AutoEncoder
}  # fmt: skip
MAY_BE_ZERO = {  # of a network's arguments
    "n_heads", "dim4", "n_blocks", "numbers", "frequencies", "wave_numbers", "sieve"
}  # fmt: skip
MOST = 10_000  # of any argument: more would take long to be found too large
DECODER_WIDTHS = ("dim2", "dim3", "dim4")  # arguments of an AutoEncoder that its encoder does not share
ADDED = {"generator": "wave_numbers"}  # what a trained network can be given that it lacks


def arguments_of(
    model: str, given: Sequence[str], going_on: bool, decided: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Constructor arguments from the words --NAME VALUE; UsageError for an unknown name or a wrong value.

    going_on: from a checkpoint, whose network is as it is but for what can be ADDED; decided: further arguments that
    the network will have, as far as they are known.
    """
    network, allowed = NETWORKS_OF[model], arguments_taken(model, going_on)
    if given and not allowed:
        raise click.UsageError(
            "--model-version goes on from a checkpoint, whose network is fixed: leave out " + " ".join(given)
        )
    arguments: dict[str, Any] = {}
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while words:
        word = words.pop(0)
        parameter = allowed.get(word.removeprefix("--").replace("-", "_")) if word.startswith("--") else None
        if parameter is None:
            taker = f"{network.__name__}{' of a checkpoint' if going_on else ''}"
            raise click.UsageError(f"no argument {word!r}; {taker} takes {_in_words(allowed)}.")
        if not words:
            raise click.UsageError(f"{word} needs a value.")
        with as_usage_errors():
            arguments[parameter.name] = parse_argument(parameter, words.pop(0))
    if model == DECODER and not arguments:
        raise click.UsageError(f"give what the decoder differs in: {_in_words(allowed)}.")
    if not going_on:
        check_buildable(network, {**decided, **arguments})
    return arguments


def decided_by_teacher(model: str, kind: str, version: Version) -> dict[str, Any]:
    """The arguments of a generator that the model decides from which it learns; {} where there is none yet."""
    path = paths.checkpoint_path(model, version, kind)
    if not path.is_file():
        return {}
    return {"latent_channels": checkpoints.load(path, AutoEncoder).arguments["latent_channels"]}


def arguments_taken(model: str, going_on: bool = False) -> dict[str, inspect.Parameter]:
    """Those of the constructor that a user may give to what is trained: the data do not decide them.

    going_on: from a checkpoint.
    """
    network = NETWORKS_OF[model]
    of_latents = {"classes", "latent_channels", "latent_size"}
    decided_by_data = of_latents if network in (Flow, Generator, Classifier) else set()
    parameters = inspect.signature(network, eval_str=True).parameters
    allowed = {name: parameter for name, parameter in parameters.items() if name not in decided_by_data}
    if going_on:
        return {name: each.replace(default="as it is") for name, each in allowed.items() if name == ADDED.get(model)}
    return {name: allowed[name].replace(default="as it is") for name in DECODER_WIDTHS} if model == DECODER else allowed


def parse_argument(parameter: inspect.Parameter, text: str) -> int | str:
    """A constructor argument from its text; raises ValueError, which says what would be right."""
    choices = get_args(parameter.annotation)
    if choices:
        if text not in choices:
            raise ValueError(f"--{parameter.name} is one of {', '.join(choices)}, not {text!r}")
        return text
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"--{parameter.name} is a whole number, not {text!r}") from None
    least = 0 if parameter.name in MAY_BE_ZERO else 1
    if not least <= value <= MOST:
        raise ValueError(f"--{parameter.name} is {least} to {MOST}, not {value}")
    return value


def check_buildable(network: type[nn.Module], arguments: Mapping[str, Any]) -> None:
    """UsageError where a network of these arguments can't be, or would be absurdly large."""
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in network(**arguments).parameters())
    except (ValueError, RuntimeError) as error:
        raise click.UsageError(f"{network.__name__} can't be built: {str(error).splitlines()[0]}.") from error
    if count > MAX_PARAMETERS:
        raise click.UsageError(f"{network.__name__} would have {count:,} parameters; {MAX_PARAMETERS:,} are allowed.")


def check_weight(weight: float) -> None:
    """UsageError for a guidance weight that a generator does not learn."""
    with as_usage_errors("--weight: "):
        generators.check_weight(weight)


def _in_words(parameters: dict[str, inspect.Parameter]) -> str:
    return ", ".join(f"--{name} ({parameter.default})" for name, parameter in parameters.items())
