"""Flags that `train` alone takes, which of them belong to what it calls, and which go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

import click

from commands.click_extras import Command, Number, all_of, flag, given_flags, titled
from commands.options import BITS, THREADS, latents_option
from training.options import (
    DRAWING_WEIGHTS,
    FEATURE_STEPS,
    AutoencoderObjective,
    FlowObjective,
    GeneratorObjective,
    Optimizer,
    Options,
    Precision,
    SamplerOptions,
)
from training.paths import CLASSIFIER, DECODER, KINDS, VERSIONS

# Flags of `train` that are fields of Options.
RUN = tuple(each.name for each in fields(Options) if each.name != "device")

# Flags of `train` that are fields of objectives, with the models that take them.
OBJECTIVES: dict[str, Any] = {
    **dict.fromkeys(KINDS, AutoencoderObjective),
    "flow": FlowObjective,
    "generator": GeneratorObjective,
}
LOSS = {
    name: tuple(model for model, other in OBJECTIVES.items() if hasattr(other, name))
    for of in OBJECTIVES.values()
    for name in (each.name for each in fields(of))
    if name != "sampler"  # which has flags of its own
}

# Other flags of `train` that not all models take, by those that do.
OF_SOME = {
    ("vae",): ("alpha",),
    (*KINDS, "flow", CLASSIFIER): ("shift", "distort"),
    ("flow",): ("classifier_version", "latents", "diffusion"),
    ("generator", DECODER): ("teacher_version",),
    ("flow", "generator", DECODER): ("autoencoder",),
    ("flow", "generator"): ("sampler", "weight", "guidance_start", "steps"),
    (*KINDS, "flow", "generator", CLASSIFIER): ("model_version", "initial_share", "quantize"),
}
TAKEN_BY = LOSS | {name: models for models, names in OF_SOME.items() for name in names}
SAMPLER = asdict(SamplerOptions())  # flags that say how images are drawn, with their defaults
MODELS = (*KINDS, "flow", "generator", CLASSIFIER, DECODER)  # that can be trained


def training_options(command: click.Command) -> click.Command:
    """What `train` alone takes, but for its machine_options."""
    return all_of(
        command,
        titled(
            "What is trained",
            click.option(
                "--recipe",
                metavar="NAME|FILE",
                help="Run all stages of a shipped model's recipe, or of a .toml, instead.",
            ),
            click.option(
                "--model",
                type=click.Choice(MODELS),
                help="What to train.",
            ),
            click.option(
                "--model-version",
                type=click.Choice(VERSIONS),
                help="Go on from this checkpoint.  [default: fresh weights]",
            ),
            click.option(
                "--autoencoder",
                type=click.Choice(KINDS),
                help="Whose latents a flow learns; what a generator or a decoder learns from.  "
                "[default: the shipped one]",
            ),
            click.option(
                "--teacher-version",
                type=click.Choice(VERSIONS),
                default="main",
                help="Version of the autoencoder and flow that a generator, or another decoder, learns from.",
            ),
            click.option(
                "--classifier-version",
                type=click.Choice(VERSIONS),
                help="Version of the classifier from whose reading of each image, rather than from its label, a flow "
                "learns classes.  [default: from the label]",
            ),
            click.option("--resume", is_flag=True, help="Go on where the same command was interrupted."),
            click.option(
                "--promote/--no-promote",
                default=None,
                help="Make the result the main checkpoint, or not, without asking.",
            ),
        ),
        titled(
            "Data",
            latents_option,
            click.option(
                "--sample-latents",
                is_flag=True,
                help="A flow learns draws from the vae's distributions rather than their means.",
            ),
            click.option(
                "--shift",
                type=click.IntRange(0, 27),
                default=Options.shift,
                help="Move training images at random, by up to so many pixels: those that an autoencoder or a "
                "classifier learns, or by which a flow learns to classify.",
            ),
            click.option(
                "--distort",
                type=Number(0, 1),
                default=Options.distort,
                help="Turn the same images at random, by up to so many radians, and shear and scale them by as much.",
            ),
        ),
        titled(
            "Learning",
            click.option(
                "--total-epochs",
                type=click.IntRange(1),
                default=Options.total_epochs,
                help="Passes over the training images.",
            ),
            click.option("--lr", type=Number(1e-8, 10), default=Options.lr, help="Learning rate."),
            click.option(
                "--milestones",
                type=click.IntRange(1),
                multiple=True,
                metavar="EPOCH...",
                help="Epochs at which the rate is multiplied by gamma; without any it falls to 0 along a cosine.",
            ),
            click.option(
                "--gamma",
                type=Number(1e-6, 1),
                default=Options.gamma,
                help="Factor of the rate at each of --milestones.",
            ),
            click.option(
                "--optimizer",
                type=click.Choice(get_args(Optimizer)),
                default=Options.optimizer,
                help="soap (arXiv 2409.11321) distils small networks in fewer epochs, at larger rates.",
            ),
            click.option(
                "--clip",
                type=Number(0, 1e6),
                default=Options.clip,
                help="Norm to which longer gradients are shortened; 0: none are.",
            ),
            click.option(
                "--ema-decay",
                type=Number(0, 0.99999),
                default=Options.ema_decay,
                help="Decay of the moving average of weights, which is what is saved.",
            ),
            click.option(
                "--initial-share",
                type=Number(0, 1),
                default=Options.initial_share,
                help="Share of the weights of --model-version in those that are saved.",
            ),
            click.option(
                "--patience",
                type=click.IntRange(0),
                default=Options.patience,
                help="Stop after so many epochs without a better validation loss, and keep the best; 0: never.",
            ),
            click.option(
                "--quantize",
                type=click.Choice(BITS),
                help="Learn with weights rounded as export --quantize rounds them.  [default: not rounded]",
            ),
        ),
        titled(
            "Losses",
            _weight(
                "--alpha",
                "Weight of KL against the reconstruction (vae).",
                default=AutoencoderObjective.alpha,
            ),
            _weight(
                "--class-weight",
                "Weight of classification in the loss: by a small classifier of an autoencoder's latents, or by a "
                "flow's denoising rule.",
            ),
            click.option(
                "--pairs",
                type=click.IntRange(1, 1000),
                default=FlowObjective.pairs,
                help="Pairs of time and noise by which a flow classifies.",
            ),
            _weight(
                "--regression-weight",
                "Weight of how far a generator's images are from those that the sampler draws from the same noise.",
                default=GeneratorObjective.regression_weight,
            ),
        ),
        titled(
            "Losses of samples beside real images (finishing)",
            _weight(
                "--frechet-weight",
                "Weight of the distance of samples to real images: finishing, of a generator, or of a flow's sampler "
                "that --sampler, --steps, --weight, --guidance-start and --diffusion describe, and its decoder.",
            ),
            click.option(
                "--frechet-spread",
                type=Number(0.5, 2),
                default=FlowObjective.frechet_spread,
                help="Variance within a class that --frechet-weight aims at, over that of real images: other networks "
                "than those of --judges see less of it.",
            ),
            _weight(
                "--kernel-weight",
                "Weight of the kernel discrepancy of such samples and real images, class by class: it drives apart "
                "what is too much alike.",
            ),
            _weight(
                "--reading-weight",
                "Weight of how far such samples are from being read as their classes by a small classifier: the "
                "clearer, the less like all real ones.",
            ),
            _weight(
                "--detail-weight",
                "Weight of the distance of what is fine in such samples, patterns of 4x4 pixels and grey levels, to "
                "what is in real images: classifiers overlook it.",
            ),
            _weight(
                "--adversarial-weight",
                "Weight of a critic that tells such samples from real images.",
            ),
            click.option(
                "--judges",
                type=click.IntRange(1, 8),
                default=FlowObjective.judges,
                help="Networks of --frechet-weight, --kernel-weight and --reading-weight, and critics of "
                "--adversarial-weight; the mean of each counts.",
            ),
            click.option(
                "--judge-steps",
                type=click.IntRange(0),
                default=FlowObjective.judge_steps,
                help="Steps for which those networks learn moved images, at a falling rate.  [default: "
                f"{FEATURE_STEPS} of images as they are, at one rate]",
                show_default=False,
            ),
        ),
    )


def machine_options(command: click.Command) -> click.Command:
    """What `train` alone takes of how its machine is used."""
    return all_of(
        command,
        click.option("--threads", type=THREADS, help="Threads of torch.  [default: torch's own choice]"),
        click.option(
            "--precision",
            type=click.Choice(get_args(Precision)),
            default=Options.precision,
            help="Of matrix products and convolutions in training; weights stay float32.",
        ),
        click.option("--compile", is_flag=True, help="Run the network and its losses through torch.compile."),
    )


def _weight(name: str, text: str, default: float = 0.0) -> Callable[[Command], Command]:
    """An option for the weight of a part of a loss."""
    return click.option(name, type=Number(0, 1000), default=default, help=text)


def check_together(given: Mapping[str, Any], model: str, going_on: bool) -> None:
    """UsageError where a flag of `train` lacks another of which it says something; going_on: from a checkpoint."""
    if model == "flow":
        _check_flow(given, going_on)
    if given.get("initial_share") and not going_on:
        raise click.UsageError("--initial-share is of the weights of --model-version: give that, too.")
    judged = [
        name for name in DRAWING_WEIGHTS if name != "detail_weight"
    ]  # its features are not learnt: it has no judges
    if given.get("judges", 1) > 1 and not any(given.get(name) for name in judged):
        weights = " and ".join(flag(name) for name in judged)
        raise click.UsageError(f"--judges are of {weights}: give one of these, too.")
    if given.get("judge_steps") and not any(given.get(name) for name in judged if name != "adversarial_weight"):
        raise click.UsageError(
            "--judge-steps are of networks: give --frechet-weight, --kernel-weight or --reading-weight."
        )
    drawn = [flag(name) for name in DRAWING_WEIGHTS if given.get(name)]
    if given.get("patience") and drawn:
        raise click.UsageError(f"--patience goes by a validation loss, of which {drawn[0]} is no part: leave one out.")
    if given.get("frechet_spread", 1) != 1 and not given.get("frechet_weight"):
        raise click.UsageError("--frechet-spread says what --frechet-weight aims at: give that, too.")
    if given.get("classifier_version") and not given.get("class_weight"):
        raise click.UsageError("--classifier-version says where classes are learnt from: give --class-weight, too.")


def _check_flow(given: Mapping[str, Any], going_on: bool) -> None:
    """UsageError for what a flow learns, or draws, only once it has learnt to generate."""
    for name in ("class_weight", *DRAWING_WEIGHTS):
        if given.get(name) and not going_on:
            raise click.UsageError(
                f"{flag(name)} is for a flow that has learnt to generate: give --model-version, too."
            )
    for name in ("shift", "distort"):
        if given.get(name) and not given.get("class_weight"):
            raise click.UsageError(f"--{name} changes the images that a flow learns to classify: give --class-weight.")


def refuse_beside_recipe(ctx: click.Context) -> None:
    """UsageError for flags of `train` that a recipe already decides."""
    allowed = {"recipe", "root", "latents", "device", "num_workers", "threads", "promote", "resume"}
    refused = [flag(name) for name in given_flags(ctx) if name not in allowed] + ctx.args
    if refused:
        raise click.UsageError(f"--recipe decides {' '.join(refused)}: leave it out, or train without --recipe.")


def refuse_for_others(ctx: click.Context, model: str) -> None:
    """UsageError for flags that the training of other models takes."""
    for name in given_flags(ctx):
        takers = TAKEN_BY.get(name, MODELS)
        if model not in takers:
            raise click.UsageError(f"{flag(name)} goes with --model {' or '.join(takers)}, not {model}.")
