"""``test`` and ``test-reconstruction``: accuracy and reconstructions on the test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from commands.data import load_data
from commands.models import Choice, opened
from commands.options import check_page
from commands.progress import track
from evaluation.accuracy import measure_accuracy
from runtime import images as pictures
from runtime.bayes import Rule


def test(choice: Choice, root: Path, rule: Rule | None, batch_size: int, as_json: bool) -> str:
    """Test on the whole test set; returns lines for people or one JSON object."""
    data = load_data(choice.dataset, root, "test")
    with opened(choice) as model:
        result = measure_accuracy(model, data, rule, batch_size, track)
        bundle = model.bundle
    versions = {
        "dataset": choice.dataset.key,
        "model": bundle.manifest["autoencoder"],
        "model_version": choice.version,
        "autoencoder_version": choice.autoencoder_version,
        "bundle": bundle.checksum,
    }
    if as_json:
        return json.dumps({**result, **versions})
    losses = ", ".join(f"{name} {value:.4f}" for name, value in result["losses"].items())
    return (
        f"accuracy {result['accuracy']:.4f}: {result['correct']:,} of {result['images']:,}, "
        f"rule {result['rule']}, {result['seconds']:.1f} s\n"
        f"negative log-posterior {result['negative_log_posterior']:.4f} nats\n"
        f"autoencoder: {losses}"
    )


def test_reconstruction(choice: Choice, root: Path, height: int, width: int, scale: float, output: Path | None) -> str:
    """Write a page of test images, each beside its reconstruction; returns a line that says where."""
    check_page(height, 2 * width, scale)
    data = load_data(choice.dataset, root, "test")
    count = min(height * width, len(data.images))
    with opened(choice, flow_needed=False) as model:
        originals = data.images[:count]
        pairs = np.stack([originals, model.reconstruct(originals)], axis=1).reshape(-1, *originals.shape[1:])
        parameters: dict[str, Any] = {"bundle": model.bundle.name, "checksum": model.bundle.checksum, "images": count}
    path = output or Path(f"test-reconstruction-{choice.dataset.key}.png")
    pictures.save_png(pictures.page(pairs, height, 2 * width, scale), path, parameters)
    return f"{path}: {count:,} test images of {choice.dataset.key}, each left of its reconstruction"
