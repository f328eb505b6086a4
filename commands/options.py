"""Flags that several commands share, and the types of their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime import datasets, images
from runtime.sampling import SAMPLERS, Sampler, diffusion_of

# Flags of `train` that are fields of training.options.Options.
RUN = (
    "lr", "total_epochs", "batch_size", "milestones", "gamma", "ema_decay",
    "precision", "compile", "clip", "patience", "resume", "seed", "num_workers",
)  # fmt: skip
# And those that are fields of commands.train.Training as they are.
TRAINING = (
    "root", "model", "alpha", "class_weight", "autoencoder", "latents", "sample_latents", "pairs", "frechet_weight",
    "adversarial_weight",
)  # fmt: skip
# Those of runtime.model.Sampling.
SAMPLING = ("sampler", "weight", "guidance_start", "diffusion", "steps")
Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.ParamType[float]):
    """A finite number within bounds, both allowed."""

    name = "number"

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.least <= number <= self.most:
            self.fail(f"{value!r} is not a number from {self.least:g} to {self.most:g}.", param, ctx)
        return number


class VariadicCommand(click.Command):
    """Lets options that may be repeated take several values at once: --milestones 15 20 25."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        repeatable = {
            name for param in self.params if isinstance(param, click.Option) and param.multiple for name in param.opts
        }
        expanded: list[str] = []
        option, values = "", 0
        for word in args:
            if word.startswith("--"):
                option, _, value = word.partition("=")
                values = 1 if value else 0
            elif option in repeatable:
                values += 1
                if values > 1:
                    expanded.append(option)
            expanded.append(word)
        return super().parse_args(ctx, expanded)


def dataset_options(command: Command) -> Command:
    """--dataset and --split."""
    return _all(
        command,
        click.option("--dataset", type=click.Choice(datasets.NAMES), default="MNIST", show_default=True),
        click.option(
            "--split", type=click.Choice(datasets.SPLITS), default="balanced", show_default=True, help="EMNIST only."
        ),
    )


def data_options(command: Command) -> Command:
    """--root, --batch-size and --num-workers: where data are read and how."""
    return _all(
        command,
        click.option(
            "--root",
            type=click.Path(path_type=Path, file_okay=False),
            default="data",
            show_default=True,
            help="Folder of the data sets.",
        ),
        batch_size_option,
        click.option(
            "--num-workers",
            type=click.IntRange(0, 64),
            default=0,
            show_default=True,
            help="Processes that load batches in training; 0 is none.",
        ),
    )


def model_options(command: Command) -> Command:
    """--model, --model-version and --device: which model, run on what."""
    return _all(
        command,
        click.option(
            "--model",
            type=click.Choice(["autoencoder", "vae"]),
            help="Which autoencoder goes with the flow.  [default: the shipped one]",
        ),
        click.option(
            "--model-version",
            type=click.Choice(["dev", "main"]),
            default="main",
            show_default=True,
            help="dev is the last training's checkpoint.",
        ),
        device_option,
    )


def sampling_options(command: Command) -> Command:
    """Those of SAMPLING; None is the bundle's default."""
    return _all(
        command,
        click.option(
            "--sampler",
            type=click.Choice(SAMPLERS),
            help="Solver: Euler-Maruyama, Euler, Heun, or DPM-Solver++(2M).  [default: the bundle's]",
        ),
        click.option("--weight", type=Number(0, 100), help="Guidance weight: 1 is none.  [default: the bundle's]"),
        click.option(
            "--guidance-start",
            type=Number(0, 1),
            help="Time from which on guidance counts, 0 is noise and 1 data.  [default: the bundle's]",
        ),
        click.option(
            "--diffusion",
            type=Number(0, 10),
            help="sigma(t) = diffusion * (1 - t) of sampler sde or heun: 0 is the ODE.  [default: the bundle's; sde 1]",
        ),
        click.option("--steps", type=click.IntRange(1, 1000), help="Steps of the solver.  [default: the bundle's]"),
    )


def grid_options(command: Command) -> Command:
    """--height, --width and --scale of a page."""
    return _all(
        command,
        click.option("--height", type=click.IntRange(1, 1000), default=8, show_default=True, help="Rows of the page."),
        click.option(
            "--width", type=click.IntRange(1, 1000), default=8, show_default=True, help="Columns of the page."
        ),
        click.option(
            "--scale", type=Number(0.05, 10), default=0.8, show_default=True, help="Size of a cell; 1 is 100 pixels."
        ),
    )


def training_options(command: Command) -> Command:
    """What `train` alone takes."""
    return _all(
        command,
        click.option("--model", type=click.Choice(["autoencoder", "vae", "flow"]), help="What to train."),
        click.option(
            "--model-version",
            type=click.Choice(["dev", "main"]),
            help="Go on from this checkpoint.  [default: fresh weights]",
        ),
        click.option("--lr", type=Number(1e-8, 10), default=1e-3, show_default=True, help="Learning rate."),
        click.option("--total-epochs", type=click.IntRange(1), default=10, show_default=True),
        click.option(
            "--milestones",
            type=click.IntRange(1),
            multiple=True,
            metavar="EPOCH...",
            help="Epochs at which the rate is multiplied by gamma; without any it falls to 0 along a cosine.",
        ),
        click.option("--gamma", type=Number(1e-6, 1), default=0.2, show_default=True),
        click.option(
            "--ema-decay",
            type=Number(0, 0.99999),
            default=0.999,
            show_default=True,
            help="Decay of the moving average of weights, which is what is saved.",
        ),
        click.option(
            "--alpha",
            type=Number(0, 1000),
            default=0.2,
            show_default=True,
            help="Weight of KL against the reconstruction (vae).",
        ),
        click.option(
            "--class-weight",
            type=Number(0, 1000),
            default=0.0,
            show_default=True,
            help="Weight of classification in the loss: by a small classifier of an autoencoder's latents, or by a "
            "flow's denoising rule.",
        ),
        click.option(
            "--autoencoder",
            type=click.Choice(["autoencoder", "vae"]),
            help="Whose latents a flow learns.  [default: the shipped one]",
        ),
        click.option(
            "--sample-latents",
            is_flag=True,
            help="A flow learns draws from the vae's distributions rather than their means.",
        ),
        click.option(
            "--pairs",
            type=click.IntRange(1, 1000),
            default=64,
            show_default=True,
            help="Pairs of time and noise by which a flow classifies.",
        ),
        click.option(
            "--frechet-weight",
            type=Number(0, 1000),
            default=0.0,
            show_default=True,
            help="Weight of the distance of samples to real images in a flow's loss: finishing, of the sampler that "
            "--steps, --weight and --guidance-start describe. The decoder learns, too.",
        ),
        click.option(
            "--adversarial-weight",
            type=Number(0, 1000),
            default=0.0,
            show_default=True,
            help="Weight of a critic that tells such samples from real images.",
        ),
        latents_option,
        click.option(
            "--promote/--no-promote", default=None, help="Make the result the main checkpoint, or not, without asking."
        ),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Of matrix products and convolutions in training; weights stay float32.",
        ),
        click.option("--compile", is_flag=True, help="Run the network and its losses through torch.compile."),
        click.option(
            "--clip",
            type=Number(0, 1e6),
            default=0.0,
            show_default=True,
            help="Norm to which longer gradients are shortened; 0: none are.",
        ),
        click.option(
            "--patience",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Stop after so many epochs without a better validation loss, and keep the best; 0: never.",
        ),
        click.option("--resume", is_flag=True, help="Go on where the same command was interrupted."),
        click.option("--recipe", metavar="NAME", help="Run all stages of a shipped model's recipe instead."),
        click.option(
            "--threads", type=click.IntRange(1, 1024), help="Threads of torch.  [default: torch's own choice]"
        ),
    )


def check_sampling(settings: Mapping[str, Any], default: Sampler) -> None:
    """UsageError where --diffusion is given to a sampler that has none; default: the sampler where none is given."""
    try:
        diffusion_of(settings["sampler"] or default, settings["diffusion"], 0.0)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def check_page(height: int, width: int, scale: float) -> None:
    """UsageError where a page would be too large to hold."""
    try:
        images.check_page(height, width, scale)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def drop(given: dict[str, Any], *names: str) -> None:
    """Forget flags that every command takes, so that scripts can pass one set, but this one has no use for."""
    for name in names:
        del given[name]


latents_option = click.option(
    "--latents",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the encoded data set.  [default: under --root]",
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1, 1 << 20), default=128, show_default=True, help="Images at a time."
)
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="[auto|cpu|cuda|...]", help="auto: a GPU if there is one."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of onnxruntime."
)
seed_option = click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
autoencoder_version_option = click.option(
    "--autoencoder-version",
    type=click.Choice(["dev", "main"]),
    default="main",
    show_default=True,
    help="Version of the autoencoder beside the flow.",
)


class OutputFile(click.Path):
    """A path with one of these endings in a folder that exists."""

    def __init__(self, *endings: str) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if path.suffix.lower() not in self.endings:
            self.fail(f"{str(path)!r} does not end in {' or '.join(self.endings)}.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {str(path.parent)!r}.", param, ctx)
        return path


def output_option(*endings: str) -> Callable[[Command], Command]:
    """--output, an OutputFile."""
    text = f"File to write; ends in {' or '.join(endings)}."
    return click.option("--output", type=OutputFile(*endings), metavar="FILE", help=text)


def _all(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Apply options so that help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command
