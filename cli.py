"""The command line: flags in, one function call a command, its lines out."""

from __future__ import annotations

if __name__ == "__main__":  # until `process` takes signals, there is nothing to clean up after and nothing to say
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

import gc

gc.disable()  # what modules make as they load, stays: to look for garbage among it takes a twentieth of a page's time

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from commands import command_options as own
from commands import options as flags
from commands import process
from commands.click_extras import GivenPath, VariadicCommand, all_of, given_flags, titled
from runtime import __version__

gc.freeze()
gc.enable()


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(__version__)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Tiny generative models of 28x28 images: train, export, generate, classify."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _training_options(command: click.Command) -> click.Command:
    from commands.training_options import SAMPLER, machine_options, training_options

    solver = flags.solver_options(SAMPLER, "the solver's own")
    return all_of(
        command,
        training_options,
        titled("Sampler, of a flow that is finished or of a teacher", solver),
        titled("Data", flags.dataset_options, flags.data_options),
        titled("Machine", flags.device_option, machine_options, flags.seed_option),
    )


@cli.command(
    cls=VariadicCommand,
    late=_training_options,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def train(ctx: click.Context, /, **given: Any) -> None:
    """Train a network, or all of a recipe.

    Any further --NAME VALUE goes to the network's constructor. The dev checkpoint is overwritten at every epoch. A flow
    trains on an encoded data set.

    \b
    Example:
      python cli.py train --model vae --total-epochs 20 --dim1 32 --n_layers 3
      python cli.py encode-dataset --model vae --model-version dev
      python cli.py train --model flow --autoencoder vae --total-epochs 300 --batch-size 512 --lr 4e-3
      python cli.py train --recipe MNIST-tiny
    """
    _require_training()
    from commands.recipe import run_recipe
    from commands.train import Training
    from commands.train import train as train_one
    from commands.training_options import MODELS, refuse_beside_recipe, refuse_for_others
    from commands.training_processes import processes, say

    if given["model"] is None and given["recipe"] is None:
        raise click.UsageError(f"give --model {{{','.join(MODELS)}}}, or --recipe NAME.")
    flags.check_solver(given)
    with processes(given["device"], given["threads"]) as device:
        if given["recipe"] is not None:
            refuse_beside_recipe(ctx)
            of_run = {key: given[key] for key in ("root", "latents", "num_workers", "promote", "resume")}
            say(run_recipe(given["recipe"], device=device, **of_run))
        else:
            refuse_for_others(ctx, given["model"])
            say(train_one(Training.from_flags(given, ctx.args, device), given["promote"]))


@cli.command("encode-dataset")
@flags.dataset_options
@flags.model_options
@flags.data_options_but("--num-workers")
@flags.latents_option
def encode_dataset(**given: Any) -> None:
    """Write the latents of a whole data set.

    They are a trained autoencoder's, and what a flow trains on.

    \b
    Example:
      python cli.py encode-dataset --dataset MNIST --model vae --root data
    """
    _require_training()
    from commands.encode_dataset import encode_dataset as encode
    from commands.models import Choice

    click.echo(encode(Choice.from_flags(given), given["root"], given["latents"], given["batch_size"]))


@cli.command()
@flags.dataset_options
@flags.version_options
@flags.autoencoder_version_option
@own.export_options
@flags.solver_options(dict.fromkeys(flags.SAMPLING), "what the model was finished with")
def export(**given: Any) -> None:
    """Turn checkpoints into a bundle.

    It replaces the one before once its graphs match torch. --sampler, --steps, --weight, --guidance-start and
    --diffusion become the bundle's defaults.

    \b
    Example:
      python cli.py export --dataset MNIST
    """
    _require_training()
    from commands.export import export as export_one
    from commands.models import Choice

    settings = {key: given[key] for key in flags.SAMPLING}
    click.echo(export_one(Choice.from_flags(given), given["output"], settings, given["quantize"]))


@cli.command(cls=VariadicCommand)
@flags.dataset_options
@flags.bundle_option
@flags.model_options
@flags.autoencoder_version_option
@flags.sampling_options
@own.generate_options
@flags.seed_option
@flags.data_options_but("--root", "--num-workers")
@flags.threads_option
@click.pass_context
def generate(ctx: click.Context, /, **given: Any) -> None:
    """Draw a page or an archive of new images.

    An --output that ends in .png is a page, one in .npz an archive.

    \b
    Example:
      python cli.py generate --dataset MNIST --labels 3 1 4 --output digits.png
      python cli.py generate --num 10000 --output samples.npz
    """
    from commands.generate import generate as generate_page
    from commands.models import Choice

    said = given_flags(ctx)
    if given["as_path"] and "width" in said:
        raise click.UsageError("--path has as many columns as steps: leave out --width.")
    if given["num"] is not None and {"height", "width", "scale"} & set(said):
        raise click.UsageError("--num is of an archive, which is no page: leave out --height, --width and --scale.")
    choice = Choice.from_flags(given)
    settings = {key: given.pop(key) for key in ("seed", *flags.SAMPLING)}
    click.echo(generate_page(choice, settings, **given))


@cli.command()
@click.argument("files", nargs=-1, required=True, type=GivenPath(path_type=Path, readable=False))
@flags.dataset_options
@flags.bundle_option
@flags.model_options
@flags.autoencoder_version_option
@own.classify_options
@flags.data_options_but("--root", "--batch-size", "--num-workers")
@flags.threads_option
@flags.json_option
def classify(**given: Any) -> None:
    """Name the most probable classes of image files.

    \b
    Example:
      python cli.py classify three.png photo.jpg --dataset MNIST
    """
    from commands.classify import classify as classify_files
    from commands.models import Choice

    choice = Choice.from_flags(given)
    click.echo(classify_files(choice, **given))


@cli.command(cls=VariadicCommand)
@flags.dataset_options
@flags.bundle_option
@flags.model_options
@flags.autoencoder_version_option
@flags.data_options_but("--num-workers")
@own.test_options
@flags.threads_option
@flags.json_option
def test(**given: Any) -> None:
    """Test classification and likelihood.

    On the test set: accuracy by Bayes' rule, calibration, likelihood, the autoencoder's losses.

    \b
    Example:
      python cli.py test --dataset MNIST --root data --confusion confusion.png
    """
    from commands.models import Choice
    from commands.test import test as test_model

    choice = Choice.from_flags(given)
    click.echo(test_model(choice, **given))


@cli.command("test-reconstruction")
@flags.dataset_options
@flags.bundle_option
@flags.model_options
@flags.data_options_but("--batch-size", "--num-workers")
@flags.grid_options
@flags.output_option(".png", default="test-reconstruction-MODEL.png")
@flags.threads_option
def test_reconstruction(**given: Any) -> None:
    """Draw test images beside their reconstructions.

    \b
    Example:
      python cli.py test-reconstruction --dataset MNIST --root data
    """
    from commands.models import Choice
    from commands.test import test_reconstruction as draw

    given["autoencoder_version"] = given["model_version"]
    choice = Choice.from_flags(given)
    click.echo(draw(choice, **given))


@cli.command()
@flags.dataset_options
@flags.bundle_option
@flags.model_options
@flags.autoencoder_version_option
@flags.data_options_but("--batch-size", "--num-workers")
@flags.sampling_options
@own.evaluate_options
@flags.threads_option
@flags.json_option
def evaluate(**given: Any) -> None:
    """Judge samples against test images.

    Two networks that have learnt the training images look at both.

    \b
    Example:
      python cli.py evaluate --dataset MNIST --root data
    """
    from commands.evaluate import Extent
    from commands.evaluate import evaluate as judge
    from commands.models import Choice

    choice = Choice.from_flags(given)
    settings = {key: given.pop(key) for key in flags.SAMPLING}
    extent = Extent(**{key: given.pop(key) for key in (field.name for field in fields(Extent))})
    click.echo(judge(choice, settings=settings, extent=extent, **given))


@cli.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@flags.plot_option("Draw measured quality against size and cost")
@flags.json_option
def info(names: tuple[str, ...], plot: Path | None, as_json: bool) -> None:
    """List the shipped bundles, or describe one.

    With NAMEs or paths only those; a single one in detail. Hashes are verified.

    \b
    Example:
      python cli.py info MNIST
    """
    from commands.info import info as describe

    click.echo(describe(names, plot, as_json))


@cli.command()
@click.argument("name")
@flags.output_option(".tar.xz", default="NAME.tar.xz")
def pack(name: str, output: Path | None) -> None:
    """Write a bundle, by name or folder, as one small file.

    The runtime reads it as it is, and `tar -xf` makes the folder of it again.

    \b
    Example:
      python cli.py pack MNIST --output MNIST.tar.xz
    """
    from commands.pack import pack as pack_bundle

    click.echo(pack_bundle(name, output))


@cli.command(cls=VariadicCommand)
@flags.dataset_options
@flags.bundle_option
@own.bench_options
@flags.json_option
def bench(**given: Any) -> None:
    """Time a bundle on this machine.

    Start, latency, throughput, memory, and PyTorch beside it where that is installed.

    Takes a minute or two; let nothing else run.

    \b
    Example:
      python cli.py bench --dataset MNIST --json > bench.json
    """
    from commands.bench import bench as run
    from commands.models import take_bundle

    click.echo(run(take_bundle(given), **given))


def _require_training() -> None:
    from commands.models import require_training

    require_training()


def main() -> None:
    """Run the command line in a process of its own."""
    process.run(cli)


if __name__ == "__main__":
    main()
