"""``evaluate``: how good a bundle's samples and classification are, beside real images in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import runtime
from commands.data import load_data
from commands.models import Choice, opened, require_training
from commands.options import checked_way
from commands.process import not_lost
from commands.progress import track
from evaluation.accuracy import evenly_spread, measure_accuracy
from evaluation.evaluator import WHICH, Evaluator, shipped
from evaluation.pictures import draw_nearest
from evaluation.samples import FIGURES, Judge, Memorisation
from runtime import pages, places
from runtime.bundle import record_measurements
from runtime.datasets import Images, LabelledImages, Part

Figures = dict[str, float]
OF_OTHERS = ("fidelity", "frechet_multiple", "recall", "coverage")  # what is recorded of other evaluators
CALIBRATION = ("negative_log_posterior", "calibration_error")  # of measure_accuracy


@dataclass(frozen=True)
class Extent:
    """How much to measure and what to do with it."""

    part: Part  # settings are chosen on "validation" and reported on "test"
    seeds: int
    num: int | None  # of the part's images, and as many samples; None is all
    train_networks: bool  # measure what takes a network trained on samples, too
    nearest: Path | None  # where to draw samples beside the training images nearest to them
    record: bool  # into the bundle's manifest, with the command


def evaluate(choice: Choice, root: Path, settings: dict[str, Any], extent: Extent, as_json: bool) -> str:
    """Judge samples made for a part's labels with several seeds; returns a table or one JSON object."""
    _check_recordable(choice, settings, extent)
    if extent.train_networks:
        require_training(("torch",))
    model = opened(choice)
    way = checked_way(model.bundle, settings)
    if extent.record and not model.bundle.manifest["files"]:
        raise click.UsageError("--record goes with a bundle: export the checkpoints first.")
    wanted, train = load_data(choice.dataset, root, extent.part), load_data(choice.dataset, root, "train")
    if extent.num is not None:
        wanted = _some(wanted, extent.num, extent.part)
    result, first_samples = _judged(model, choice, settings, extent, wanted, train)
    if not model.bundle.only_generates:
        found = measure_accuracy(model, wanted, track=track)
        result |= {name: found[name] for name in ("accuracy", "rule", *CALIBRATION)}
    said = json.dumps(result) if as_json else "\n".join(_table(result))
    with not_lost(said):
        if extent.record:
            record_measurements(model.bundle, _recorded(result) | {"command": _command(choice, extent)})
        if extent.nearest:
            drawn = {"bundle": model.bundle.name, "checksum": model.bundle.checksum, **way.described()}
            pages.save_png(draw_nearest(first_samples, train.images), extent.nearest, drawn)
    if as_json or not extent.nearest:
        return said
    return f"{said}\n{extent.nearest}: samples, each left of the nearest training image"


def _check_recordable(choice: Choice, settings: Mapping[str, Any], extent: Extent) -> None:
    """Refuse to record figures that a bundle's user would not get by its own settings."""
    if not extent.record:
        return
    if not choice.version == choice.autoencoder_version == "main":
        raise click.UsageError("--record goes with main versions: a dev model has no bundle to write to.")
    if extent.part != "test":
        raise click.UsageError("--record is of figures of test images, as info says: leave --part out.")
    if any(value is not None for value in settings.values()):
        raise click.UsageError("--record goes with the bundle's own settings, which its figures are of.")
    if extent.num is not None:
        raise click.UsageError("--record goes without --num: recorded figures are of all images.")


def _judged(
    model: runtime.Model,
    choice: Choice,
    settings: dict[str, Any],
    extent: Extent,
    wanted: LabelledImages,
    train: LabelledImages,
) -> tuple[dict[str, Any], Images]:
    """Figures of samples in the place of the wanted images, and the samples of the first seed."""
    evaluators = {which: Evaluator(choice.dataset, which, choice.threads) for which in shipped(choice.dataset)}
    judges = {which: Judge(evaluator, wanted, train) for which, evaluator in evaluators.items()}
    memorisation = Memorisation(wanted.images, train.images)
    runs: list[dict[str, Figures]] = []
    real: list[Figures] = []
    for seed in track(range(extent.seeds), extent.seeds, "judging seeds"):
        samples = LabelledImages(model.generate(wanted.labels, seed=seed, **settings), wanted.labels)
        if seed == 0:
            first_samples = samples.images
        runs.append({which: judge(samples) for which, judge in judges.items()})
        runs[-1]["other"] = {"memorisation": memorisation(samples.images)}
        if extent.train_networks:
            runs[-1]["other"] |= _trained(model, settings, seed, samples, wanted, train)
            real.append(_trained_on_real(model, seed, wanted, train))
    result: dict[str, Any] = {
        "part": extent.part,
        "samples": len(wanted.images),
        "seeds": extent.seeds,
        **{which: _summary([run[which] for run in runs], judges[which]) for which in judges},
        "other": _summary([run["other"] for run in runs], None),
    }
    if extent.train_networks:
        result["other"]["real"] = _summary(real, None)["mean"]
    return result, first_samples


def _some(images: LabelledImages, num: int, part: Part) -> LabelledImages:
    """So many of a part's images, evenly spread."""
    there = len(images.images)
    if num > there:
        raise click.UsageError(f"--num {num:,} is more than the {there:,} images of {part}.")
    rows = evenly_spread(there, num)
    return LabelledImages(images.images[rows], images.labels[rows])


def _recorded(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of what was measured, in few bytes; some of another evaluator than the first by its name."""
    means = {**result["first"]["mean"], **result["other"]["mean"]}
    means |= {"accuracy": result["accuracy"]} if "accuracy" in result else {}
    others: dict[str, Figures] = {
        which: _short({name: result[which]["mean"][name] for name in OF_OTHERS})
        for which in WHICH[1:]
        if which in result
    }
    return {**_short(means), "samples": result["samples"], **others}


def _short(figures: Figures) -> Figures:
    return {name: round(value, 6) for name, value in figures.items()}


def _trained(
    model: runtime.Model,
    settings: dict[str, Any],
    seed: int,
    samples: LabelledImages,
    wanted: LabelledImages,
    train: LabelledImages,
) -> Figures:
    from evaluation.trained import learning_accuracy, learning_labels, two_sample_accuracy

    labels = learning_labels(train.labels)
    more = LabelledImages(model.generate(labels, seed=seed, **settings), labels)
    return {
        "two_sample_accuracy": two_sample_accuracy(samples, wanted, seed, track),
        "train_on_samples": learning_accuracy(more, wanted, len(model.classes), seed, track),
    }


def _trained_on_real(model: runtime.Model, seed: int, wanted: LabelledImages, train: LabelledImages) -> Figures:
    from evaluation.samples import stand_in
    from evaluation.trained import LEARNING_COUNT, learning_accuracy, two_sample_accuracy

    some = LabelledImages(train.images[:LEARNING_COUNT], train.labels[:LEARNING_COUNT])
    return {
        "two_sample_accuracy": two_sample_accuracy(stand_in(train, wanted.labels), wanted, seed, track),
        "train_on_samples": learning_accuracy(some, wanted, len(model.classes), seed, track),
    }


def _summary(runs: Sequence[Figures], judge: Judge | None) -> dict[str, Any]:
    """Mean and spread (standard deviation, of one 0) over seeds, and the real images' figures beside."""
    table = {name: [run[name] for run in runs] for name in runs[0]}
    found: dict[str, Any] = {
        "mean": {name: float(np.mean(values)) for name, values in table.items()},
        "spread": {name: float(np.std(values, ddof=len(values) > 1)) for name, values in table.items()},
    }
    return found if judge is None else found | {"real": judge.real, "accuracy": judge.accuracy}


def _table(result: Mapping[str, Any]) -> list[str]:
    seeds = f"{result['seeds']} seed" + "s" * (result["seeds"] > 1)
    lines = [f"samples beside {result['samples']:,} images of {result['part']}, {seeds}"]
    for which in filter(result.get, WHICH):
        judged = result[which]
        lines.append(f"{which} evaluator, which reads {judged['accuracy']:.4f} of the real images right")
        lines.append(f"{'':20s}{'samples':>10s}{'spread':>10s}{'real':>10s}")
        lines += [_line(judged, name) for name in FIGURES]
    lines += ["", *(_line(result["other"], name) for name in result["other"]["mean"])]
    if "accuracy" in result:
        lines.append(f"accuracy {result['accuracy']:.4f} by rule {result['rule']}, {_calibration(result)}")
    return lines


def _calibration(result: Mapping[str, Any]) -> str:
    nats, error = (result[name] for name in CALIBRATION)
    return f"negative log-posterior {nats:.4f} nats, calibration error {error:.4f}"


def _line(judged: Mapping[str, Any], name: str) -> str:
    real = judged.get("real", {}).get(name, 1.0)
    return f"{name:20s}{judged['mean'][name]:10.4f}{judged['spread'][name]:10.4f}{real:10.4f}"


def _command(choice: Choice, extent: Extent) -> str:
    dataset = choice.dataset
    split = f" --split {dataset.split}" if dataset.split else ""
    size = f" --size {dataset.size}" if dataset.size != "base" else ""
    of_model = f"--dataset {dataset.name}{split}{size}"
    if choice.bundle is not None:
        of_model = f"--bundle {_named(choice.bundle.path)}"
    networks = " --train-networks" if extent.train_networks else ""
    return f"python cli.py evaluate {of_model} --part {extent.part} --seeds {extent.seeds}{networks}"


def _named(bundle: Path) -> str:
    """A bundle for --bundle: a shipped one's name, any other's path without folders of this machine."""
    if bundle.parent == places.SHIPPED:
        return bundle.name.removesuffix(places.SUFFIX)
    return places.as_text(Path(bundle.name) if bundle.is_absolute() else bundle)
