"""Flags that one command other than `train` alone takes."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from commands.click_extras import Command, GivenPath, NamedFile, all_of
from commands.options import BITS, THREADS, grid_options, output_option, plot_option
from runtime.bayes import RULES
from runtime.datasets import NAMES, Invert

LEAST_TO_DISK = 20_000  # images: a tenth of fewer takes no time that could be told from that of a start


def export_options(command: Command) -> Command:
    """Where the bundle lies, and how its weights are stored."""
    return all_of(
        command,
        click.option(
            "-o",
            "--output",
            type=GivenPath(path_type=Path),
            metavar="PATH",
            help="Folder of the bundle, or a .tar.xz to pack it in.  [default: models_onnx/NAME]",
        ),
        click.option(
            "--quantize",
            type=click.Choice(["float32", "float16", *BITS]),
            default="float32",
            help="Store weights so, rounded; they are float32 again when loaded.",
        ),
    )


def bench_options(command: Command) -> Command:
    """With how many threads, and what besides."""
    return all_of(
        command,
        click.option(
            "--threads",
            type=THREADS,
            multiple=True,
            metavar="N...",
            help="Numbers of threads to measure with.  [default: 1 and all cores]",
        ),
        click.option(
            "--to-disk",
            type=click.IntRange(LEAST_TO_DISK),
            help="Write so many images to an archive, too.  [default: none]",
        ),
        plot_option("Draw throughput"),
    )


def generate_options(command: Command) -> Command:
    """What is drawn, and where to."""
    return all_of(
        command,
        click.option(
            "--labels",
            metavar="CLASS...",
            multiple=True,
            help="Class names or indices, with spaces or commas between, cycled.  [default: all classes in turn]",
        ),
        grid_options,
        output_option(".png", ".npz", default="generate-MODEL.png"),
        click.option("--num", type=click.IntRange(0, 10**9), help="How many images in an .npz.  [default: a page's]"),
        click.option(
            "--path",
            "as_path",
            is_flag=True,
            help="Draw how images arise: a row for each of --height images, a column for each step from noise on.",
        ),
    )


def classify_options(command: Command) -> Command:
    """What is told, and how it is found."""
    return all_of(
        command,
        click.option("--top", type=click.IntRange(1), default=3, help="How many classes to name."),
        click.option("--rule", type=click.Choice(RULES), help="How to score classes.  [default: the bundle's]"),
        click.option(
            "--invert",
            type=click.Choice(get_args(Invert)),
            default="auto",
            help="Models know light on dark; auto inverts pictures with a light border.",
        ),
    )


def test_options(command: Command) -> Command:
    """How classes are scored, and what else is measured."""
    return all_of(
        command,
        click.option("--rule", type=click.Choice(RULES), help="How to score classes.  [default: the bundle's]"),
        click.option(
            "--confusion",
            type=NamedFile(".png"),
            metavar="FILE",
            help="Draw the confusion matrix: rows are classes, columns what they are read as.",
        ),
        click.option(
            "--against",
            type=click.Choice([*NAMES, "noise"]),
            multiple=True,
            help="Measure how well the log-density tells test images from these, one or several.",
        ),
    )


def evaluate_options(command: Command) -> Command:
    """What is judged, how often, and by what."""
    return all_of(
        command,
        click.option(
            "--part",
            type=click.Choice(["test", "validation"]),
            default="test",
            help="Real images to judge against; choose settings on validation.",
        ),
        click.option("--seeds", type=click.IntRange(1, 100), default=3, help="How often to draw."),
        click.option(
            "--num",
            type=click.IntRange(100),
            help="Judge by so many real images, evenly spread, and as many samples; of fewer the distance comes out "
            "smaller, recall and coverage larger.  [default: all of the part]",
        ),
        click.option(
            "--train-networks",
            is_flag=True,
            help="Train networks on samples, too: the two-sample test and train-on-samples. Needs torch; "
            "several minutes a seed.",
        ),
        click.option(
            "--nearest",
            type=NamedFile(".png"),
            metavar="FILE",
            help="Draw samples, each left of the training image nearest to it.",
        ),
        click.option("--record", is_flag=True, help="Write the figures into the bundle's manifest."),
    )
