"""What training writes down about itself: the description in a checkpoint and the log beside it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from runtime.datasets import Dataset
from training.loop import Options
from training.paths import log_path


class EpochLog:
    """Writes each epoch's record as a line of JSON beside the checkpoint, and reports it in words."""

    def __init__(self, checkpoint: Path, report: Callable[[str], None]) -> None:
        self._path = log_path(checkpoint)
        self._report = report
        self.last: dict[str, Any] = {}

    def write(self, record: dict[str, Any]) -> None:
        mode = "a" if self.last else "w"  # a new training starts a new log, once it has something to say
        self.last = record
        with self._path.open(mode) as file:
            file.write(json.dumps(record) + "\n")
        losses = "; ".join(f"{part} {in_words(record[part])}" for part in ("train", "test"))
        self._report(f"epoch {record['epoch']}: {losses}; {record['seconds']:.1f} s")


def describe(dataset: Dataset, options: Options, record: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a checkpoint says of its training, as JSON values."""
    return {
        "dataset": dataset.key,
        "lr": options.lr,
        "total_epochs": options.total_epochs,
        "batch_size": options.batch_size,
        "milestones": list(options.milestones),
        "gamma": options.gamma,
        "seed": options.seed,
        "ema_decay": options.ema_decay,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "last_epoch": record,
        **more,
    }


def in_words(losses: dict[str, float]) -> str:
    """Named figures in a line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
