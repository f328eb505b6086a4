"""``test`` and ``test-reconstruction``: accuracy and reconstructions on the test set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commands.data import load_data
from commands.models import Choice, opened
from commands.options import check_page
from commands.process import not_lost
from commands.progress import track
from evaluation.accuracy import LIKELIHOOD_IMAGES, measure_accuracy, measure_likelihood, measure_separation
from evaluation.pictures import draw_confusion
from runtime import pages
from runtime.bayes import Rule
from runtime.datasets import find

NOISE = "noise"
HARDEST = 5  # classes to name; --json has all


def test(
    choice: Choice,
    root: Path,
    rule: Rule | None,
    batch_size: int,
    confusion: Path | None,
    against: Sequence[str],
    as_json: bool,
) -> str:
    """Test on the whole test set; returns lines for people or one JSON object.

    The confusion matrix is drawn at `confusion`, where that is given; against: data sets, or NOISE, from which
    the log-density is to tell the test images.
    """
    model = opened(choice)
    bundle = model.bundle
    rule = rule or bundle.classifier.rule
    data = load_data(choice.dataset, root, "test")
    strangers = {name: _stranger(name, root) for name in against}
    result = measure_accuracy(model, data, rule, batch_size, track)
    result["log_likelihood"] = measure_likelihood(model, data, track=track)
    if strangers:
        result["separation"] = measure_separation(model, data.images, strangers, track=track)
    versions = {
        "dataset": choice.dataset.key,
        "model": bundle.manifest["autoencoder"],
        "model_version": choice.version,
        "autoencoder_version": choice.autoencoder_version,
        "bundle": bundle.checksum,
    }
    said = json.dumps({**result, **versions}) if as_json else "\n".join(_lines(result))
    if confusion is None:
        return said
    with not_lost(said):
        picture = draw_confusion(np.array(result["confusion"]), bundle.classes)
        pages.save_png(picture, confusion, {"bundle": bundle.name, "checksum": bundle.checksum})
    return said if as_json else f"{said}\n{confusion}: the confusion matrix"


def _stranger(name: str, root: Path) -> NDArray[np.uint8]:
    """Images that a model of another data set should find strange."""
    if name == NOISE:
        return np.random.default_rng(0).integers(0, 256, (LIKELIHOOD_IMAGES, 28, 28), np.uint8)
    return load_data(find(name), root, "test").images


def _lines(result: dict[str, Any]) -> list[str]:
    likelihood = result["log_likelihood"]
    mistakes = ", ".join(
        f"{each['class']} as {each['read_as']} ({each['images']})" for each in result["worst_confusions"]
    )
    known = [(accuracy, name) for name, accuracy in result["class_accuracy"].items() if accuracy is not None]
    hardest = ", ".join(f"{name} {accuracy:.3f}" for accuracy, name in sorted(known)[:HARDEST])
    losses = ", ".join(f"{name} {value:.4f}" for name, value in result["losses"].items())
    return [
        f"accuracy {result['accuracy']:.4f}: {result['correct']:,} of {result['images']:,}, "
        f"rule {result['rule']}, {result['seconds']:.1f} s",
        f"negative log-posterior {result['negative_log_posterior']:.4f} nats",
        f"expected calibration error {result['calibration_error']:.4f}, "
        f"before temperature {result['calibration_error_before_temperature']:.4f}",
        f"least accurate classes: {hardest}",
        f"most frequent mistakes: {mistakes or 'none'}",
        f"log p(z) {likelihood['nats']:.2f} nats, {likelihood['bits_per_dimension']:.3f} bits a dimension, "
        f"on {likelihood['images']} images, of which {likelihood['unlike_training_data']:.1%} are said to be unlike "
        "the training data",
        *(
            f"told from {name} by log p(z) with an area under the ROC curve of {told['area_under_curve']:.4f}; "
            f"{told['flagged']:.1%} of {name} are said to be unlike the training data"
            for name, told in result.get("separation", {}).items()
        ),
        f"autoencoder: {losses}",
    ]


def test_reconstruction(choice: Choice, root: Path, height: int, width: int, scale: float, output: Path | None) -> str:
    """Write a page of test images, each beside its reconstruction; returns a line that says where."""
    check_page(height, 2 * width, scale)
    model = opened(choice, flow_needed=False)
    data = load_data(choice.dataset, root, "test")
    count = min(height * width, len(data.images))
    originals = data.images[:count]
    pairs = np.stack([originals, model.reconstruct(originals)], axis=1).reshape(-1, *originals.shape[1:])
    parameters: dict[str, Any] = {"bundle": model.bundle.name, "checksum": model.bundle.checksum, "images": count}
    path = output or Path(f"test-reconstruction-{choice.name}.png")
    pages.save_png(pages.page(pairs, height, 2 * width, scale), path, parameters)
    return f"{path}: {count:,} test images of {choice.dataset.key}, each left of its reconstruction"
