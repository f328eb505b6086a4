"""Flags that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, get_args

import click

from commands.click_extras import FOLDER, Command, GivenPath, NamedFile, Number, all_of, as_usage_errors
from runtime import datasets, pages
from runtime.bundle import Bundle
from runtime.chunks import DEFAULT_THREADS
from runtime.noise import MAX_SEED
from runtime.sampling import MAX_DIFFUSION, MAX_STEPS, MAX_WEIGHT, SAMPLERS, SOLVERS, diffusion_of
from runtime.sessions import MAX_THREADS
from runtime.settings import Sampling, Way, way_of
from training.paths import KINDS, VERSIONS, Bits

SAMPLING = tuple(Sampling.__annotations__)
THREADS = click.IntRange(1, MAX_THREADS)
BITS = get_args(Bits)
BATCH_SIZE: dict[str, Any] = {"type": click.IntRange(1, 1 << 20), "default": 128, "help": "Images at a time."}


def dataset_options(command: Command) -> Command:
    """--dataset, --split and --size."""
    return all_of(
        command,
        click.option("--dataset", type=click.Choice(datasets.NAMES), default="MNIST", help="Of the images."),
        click.option("--split", type=click.Choice(datasets.SPLITS), help="EMNIST only.  [default: balanced]"),
        click.option(
            "--size",
            type=click.Choice(datasets.SIZES),
            default="base",
            help="Of the models. The shipped fast and nano draw in one evaluation, compact does what base does in "
            "fewer kilobytes, and all but nano classify; `info` says which there are.",
        ),
    )


def bundle_option(command: Command) -> Command:
    """--bundle, for commands that run a model."""
    text = "A bundle's name, folder or .tar.xz, in place of the one that --dataset, --split and --size say."
    return click.option("--bundle", type=GivenPath(), metavar="PATH", help=text)(command)


def take_dataset(given: dict[str, Any]) -> datasets.Dataset:
    """Take and remove the flags of dataset_options; UsageError for a split of what has none."""
    name, split = given.pop("dataset"), given.pop("split", None)
    found = datasets.find(name, split or "balanced", given.pop("size", "base"))
    if split and found.split is None:
        raise click.UsageError(f"{name} has no splits: for {split!r} add --dataset EMNIST.")
    return found


def data_options(command: Command) -> Command:
    """--root, --batch-size and --num-workers: where data are read and how."""
    return _data_options(command)


def data_options_but(*unused: str) -> Callable[[Command], Command]:
    """The same where some are taken only so that scripts can pass one set to many commands: these are not shown."""
    return partial(_data_options, unused=unused)


def _data_options(command: Command, unused: tuple[str, ...] = ()) -> Command:
    def option(flag: str, **more: Any) -> Callable[[Command], Command]:
        known = flag not in unused
        return click.option(flag, **more, hidden=not known, expose_value=known)

    return all_of(
        command,
        option("--root", type=FOLDER, default="data", help="Folder of the data sets."),
        option("--batch-size", **BATCH_SIZE),
        option(
            "--num-workers",
            type=click.IntRange(0, 64),
            default=0,
            help="Processes that load batches in training; 0 is none.",
        ),
    )


def model_options(command: Command) -> Command:
    """--model, --model-version and --device: which model, run on what."""
    return version_options(device_option(command))


def version_options(command: Command) -> Command:
    """--model and --model-version: which model."""
    return all_of(
        command,
        click.option(
            "--model",
            type=click.Choice(KINDS),
            help="Which autoencoder goes with the flow.  [default: the shipped one]",
        ),
        click.option(
            "--model-version",
            type=click.Choice(VERSIONS),
            default="main",
            help="dev is the last training's checkpoint.",
        ),
    )


def sampling_options(command: Command) -> Command:
    """Those of SAMPLING; None is the bundle's default."""
    text = "Euler-Maruyama, Euler, Heun, DPM-Solver++(2M), or a generator that needs few evaluations: the bundle's own."
    return _sampling_options(click.Choice(SAMPLERS), text, dict.fromkeys(SAMPLING), "the bundle's")(command)


def solver_options(defaults: Mapping[str, Any], otherwise: str | None = None) -> Callable[[Command], Command]:
    """Those of SAMPLING, of a flow's own solver; otherwise: what takes the place of a default None."""
    text = "Solver: Euler-Maruyama, Euler, Heun, or DPM-Solver++(2M)."
    return _sampling_options(click.Choice(SOLVERS), text, defaults, otherwise)


def _sampling_options(
    samplers: click.Choice[Any], text: str, defaults: Mapping[str, Any], otherwise: str | None
) -> Callable[[Command], Command]:
    def option(flag: str, kind: click.ParamType[Any], text: str) -> Callable[[Command], Command]:
        default = defaults[flag[2:].replace("-", "_")]
        shown = f"  [default: {otherwise}]" if default is None else ""
        return click.option(flag, type=kind, default=default, help=f"{text}{shown}")

    return lambda command: all_of(
        command,
        option("--sampler", samplers, text),
        option("--weight", Number(0, MAX_WEIGHT), "Guidance weight: 1 is none."),
        option("--guidance-start", Number(0, 1), "Time from which on guidance counts, 0 is noise and 1 data."),
        option(
            "--diffusion",
            Number(0, MAX_DIFFUSION),
            "sigma(t) = diffusion * (1 - t) of sampler sde, whose own is 1, or heun; 0 is the ODE.",
        ),
        option(
            "--steps",
            click.IntRange(1, MAX_STEPS),
            "Steps of the solver; a finished model draws best with its own.",
        ),
    )


def grid_options(command: Command) -> Command:
    """--height, --width and --scale of a page."""
    return all_of(
        command,
        click.option("--height", type=click.IntRange(1, 1000), default=8, help="Rows of the page."),
        click.option("--width", type=click.IntRange(1, 1000), default=8, help="Columns of the page."),
        click.option("--scale", type=Number(0.05, 10), default=0.8, help="Size of a cell; 1 is 100 pixels."),
    )


def check_solver(settings: Mapping[str, Any]) -> None:
    """UsageError where --diffusion is given to a solver that has none."""
    with as_usage_errors():
        diffusion_of(settings["sampler"], settings["diffusion"])


def checked_way(bundle: Bundle, settings: Mapping[str, Any]) -> Way:
    """How a bundle draws with the flags of SAMPLING, and perhaps a seed; UsageError where it can't."""
    with as_usage_errors():
        return way_of(bundle, **{"seed": 0, **settings})


def check_page(height: int, width: int, scale: float) -> None:
    """UsageError where a page would be too large to hold."""
    with as_usage_errors():
        pages.check_page(height, width, scale)


def names_in(text: str, known: Container[str]) -> list[str]:
    """The names in a flag's value, with commas or spaces between; UsageError where there is none.

    known: names in lower case that may have spaces in them.
    """
    parts = [part.strip() for part in text.split(",")]
    names = [name for part in parts for name in ([part] if part.lower() in known else part.split())]
    if not names:
        raise click.UsageError(f"{text!r} names nothing.")
    return names


latents_option = click.option(
    "--latents",
    type=NamedFile(".safetensors"),
    metavar="FILE",
    help="File of the encoded data set, a .safetensors.  [default: under --root]",
)
batch_size_option = click.option("--batch-size", **BATCH_SIZE)
device_option = click.option(
    "--device", default="auto", metavar="[auto|cpu|cuda|...]", help="auto: a GPU if there is one."
)
threads_option = click.option(
    "--threads",
    type=THREADS,
    default=DEFAULT_THREADS,
    show_default="the cores there are, at most 4",
    help="Threads among which images are divided.",
)
seed_option = click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Of all random numbers.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
autoencoder_version_option = click.option(
    "--autoencoder-version",
    type=click.Choice(VERSIONS),
    default="main",
    help="Version of the autoencoder beside the flow.",
)


def output_option(*endings: str, default: str) -> Callable[[Command], Command]:
    """--output or -o, a NamedFile; default: what it is otherwise, in words."""
    text = f"File to write; ends in {' or '.join(endings)}.  [default: {default}]"
    return click.option("-o", "--output", type=NamedFile(*endings), metavar="FILE", help=text)


def plot_option(what: str) -> Callable[[Command], Command]:
    """--plot, which draws something by matplotlib."""
    return click.option("--plot", type=NamedFile(".png", ".svg"), metavar="FILE", help=f"{what}; .png or .svg.")
