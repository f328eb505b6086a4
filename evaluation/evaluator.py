"""The evaluators: CNNs trained on the real images, whose features and readings judge samples.

They ship as ONNX below ``evaluation/evaluators``, so that judging needs no torch. The second, of another architecture
and seed, guards against what suits the first one only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.chunks import DEFAULT_THREADS, in_chunks
from runtime.datasets import Dataset
from runtime.errors import DataError
from runtime.sessions import Graph, SessionSettings

FOLDER = Path(__file__).resolve().parent / "evaluators"
Which = Literal["first", "second"]
WHICH: tuple[Which, ...] = get_args(Which)


class Reading(NamedTuple):
    """Features float32 (N, 128) and the classes read, int64 (N,)."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]


def file_name(dataset: Dataset, which: Which) -> str:
    """The file of an evaluator in FOLDER."""
    return f"{dataset.key}.onnx" if which == "first" else f"{dataset.key}-{which}.onnx"


def shipped(dataset: Dataset) -> tuple[Which, ...]:
    """The evaluators there are for a data set; DataError where there are none."""
    found = tuple(which for which in WHICH if (FOLDER / file_name(dataset, which)).is_file())
    if not found:
        raise DataError(
            f"there is no evaluator for {dataset.key} in {FOLDER}: the project's repository has those of what ships, "
            "and `python -m evaluation.train_evaluator` makes others"
        )
    return found


class Evaluator:
    """Reads uint8 images (N, 28, 28)."""

    def __init__(self, dataset: Dataset, which: Which = "first", threads: int = DEFAULT_THREADS) -> None:
        path = FOLDER / file_name(dataset, which)
        if not path.is_file():
            raise DataError(f"there is no evaluator for {dataset.key} at {path}")
        self._settings = SessionSettings(threads)
        self._graph = Graph(path.read_bytes(), str(path), self._settings)

    def __call__(self, images: NDArray[np.uint8]) -> Reading:
        def read(rows: slice) -> list[NDArray[np.float32]]:
            return self._graph(images[rows, None].astype(np.float32) / np.float32(255))

        features, logits = zip(*in_chunks(read, len(images), self._settings.threads), strict=True)
        return Reading(np.concatenate(features), np.concatenate(logits).argmax(1))
