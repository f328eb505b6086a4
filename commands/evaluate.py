"""``evaluate``: how good a bundle's samples and classification are, beside real images in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from commands.data import load_data
from commands.models import Choice, opened
from commands.progress import track
from evaluation.accuracy import measure_accuracy
from evaluation.evaluator import Evaluator
from evaluation.samples import judge_samples
from runtime.bundle import record_measurements
from runtime.datasets import LabelledImages, Part

FIGURES = ("fidelity", "frechet_multiple", "precision", "recall", "density", "coverage")


def evaluate(
    choice: Choice, root: Path, settings: dict[str, Any], part: Part, seeds: int, record: bool, as_json: bool
) -> str:
    """Judge samples made for a part's labels with several seeds; returns a table or one JSON object.

    Settings are chosen on the part "validation" and reported on "test". With `record`, mean figures and accuracy are
    written into the bundle's manifest with the command that gave them.
    """
    if record and not choice.version == choice.autoencoder_version == "main":
        raise click.UsageError("--record goes with main versions: a dev model has no bundle to write to.")
    wanted, train = load_data(choice.dataset, root, part), load_data(choice.dataset, root, "train")
    evaluator = Evaluator(choice.dataset, choice.threads)
    with opened(choice) as model:
        runs = []
        for seed in track(range(seeds), seeds, "judging seeds"):
            samples = LabelledImages(model.generate(wanted.labels, seed=seed, **settings), wanted.labels)
            runs.append(judge_samples(samples, wanted, train, evaluator))
        accuracy = measure_accuracy(model, wanted, track=track)
        means, spreads = (
            {name: float(of([run[name] for run in runs])) for name in FIGURES} for of in (np.mean, np.std)
        )
        if record:
            given = "".join(f" --{name} {value}" for name, value in settings.items() if value is not None)
            command = f"{_evaluate_command(choice)} --part {part} --seeds {seeds}{given}"
            measured = {"accuracy": accuracy["accuracy"], **means, "command": command}
            record_measurements(model.bundle.folder, measured)
    real = runs[0]["real"]
    if as_json:
        figures = {"part": part, "samples": runs[0]["samples"], "seeds": seeds, "mean": means, "spread": spreads}
        return json.dumps({**figures, "real": real, "accuracy": accuracy["accuracy"], "runs": runs})
    lines = [f"{'':18s}{'samples':>10s}{'spread':>10s}{'real':>10s}"]
    for name in FIGURES:
        beside = 1.0 if name == "frechet_multiple" else real[name]
        lines.append(f"{name:18s}{means[name]:10.4f}{spreads[name]:10.4f}{beside:10.4f}")
    lines.append(
        f"accuracy {accuracy['accuracy']:.4f} by rule {accuracy['rule']}; the evaluator's {real['accuracy']:.4f}"
    )
    return "\n".join(lines)


def _evaluate_command(choice: Choice) -> str:
    split = f" --split {choice.dataset.split}" if choice.dataset.split else ""
    return f"python cli.py evaluate --dataset {choice.dataset.name}{split}"
