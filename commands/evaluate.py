"""``evaluate``: how good a bundle's samples and classification are, beside real images in their place."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from commands.data import load_data
from commands.models import Choice, opened
from commands.progress import track
from evaluation.accuracy import measure_accuracy
from evaluation.evaluator import Evaluator
from evaluation.samples import judge_samples
from runtime.bundle import record_measurements
from runtime.datasets import LabelledImages

FIGURES = ("fidelity", "frechet_multiple", "precision", "recall", "density", "coverage")


def evaluate(choice: Choice, root: Path, settings: dict[str, Any], seeds: int, record: bool, as_json: bool) -> str:
    """Judge samples made for the test set's labels with several seeds; returns a table or one JSON object.

    With `record`, mean figures and accuracy are written into the bundle's manifest with the command that gave them.
    """
    test, train = (load_data(choice.dataset, root, part) for part in ("test", "train"))
    evaluator = Evaluator(choice.dataset, choice.threads)
    with opened(choice) as model:
        runs = []
        for seed in track(range(seeds), seeds, "judging seeds"):
            samples = model.generate(test.labels, seed=seed, **settings)
            runs.append(judge_samples(LabelledImages(samples, test.labels), test, train, evaluator))
        accuracy = measure_accuracy(model, test, track=track)
        means = {name: float(np.mean([run[name] for run in runs])) for name in FIGURES}
        spreads = {name: float(np.std([run[name] for run in runs])) for name in FIGURES}
        measured = {"accuracy": accuracy["accuracy"], **means}
        if record:
            command = "python cli.py " + shlex.join(word for word in sys.argv[1:] if word != "--record")
            record_measurements(model.bundle.folder, measured | {"command": _without_root(command, root)})
    real = runs[0]["real"]
    if as_json:
        figures = {"samples": runs[0]["samples"], "seeds": seeds, "mean": means, "spread": spreads}
        return json.dumps({**figures, "real": real, "accuracy": accuracy["accuracy"], "runs": runs})
    lines = [f"{'':18s}{'samples':>10s}{'spread':>10s}{'real':>10s}"]
    for name in FIGURES:
        beside = 1.0 if name == "frechet_multiple" else real[name]
        lines.append(f"{name:18s}{means[name]:10.4f}{spreads[name]:10.4f}{beside:10.4f}")
    lines.append(
        f"accuracy {accuracy['accuracy']:.4f} by rule {accuracy['rule']}; the evaluator's {real['test_accuracy']:.4f}"
    )
    return "\n".join(lines)


def _without_root(command: str, root: Path) -> str:
    """A command that names no folder of this machine."""
    return command.replace(str(root), "ROOT")
