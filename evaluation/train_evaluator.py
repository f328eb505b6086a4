"""Train an evaluator of a data set: ``python -m evaluation.train_evaluator MNIST --root data``. Needs torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import nn

from evaluation.evaluator import FOLDER, WHICH, Evaluator, Which, file_name
from evaluation.networks import BATCH_SIZE, PoolingNetwork, ResidualNetwork, fit
from export import onnx_files
from export.graphs import GraphSpec
from export.verify import check_graph
from runtime import datasets
from runtime.files import written_aside
from runtime.sessions import Graph, SessionSettings

Item = TypeVar("Item")
NETWORKS: dict[Which, type[nn.Module]] = {"first": PoolingNetwork, "second": ResidualNetwork}
SEEDS: dict[Which, int] = {"first": 101, "second": 202}


def train(dataset: datasets.Dataset, which: Which, root: Path, epochs: int) -> float:
    """Train, write the ONNX file, and return its accuracy on the test set; ExportMismatchError if it is not torch's."""
    torch.manual_seed(SEEDS[which])
    data = datasets.load(dataset, root, "train")
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    network = NETWORKS[which](len(dataset.classes))
    fit(network, images, labels, epochs * len(images) // BATCH_SIZE, SEEDS[which], _told)
    example = (images[:3, None].float() / 255,)
    spec = GraphSpec(file_name(dataset, which), network, ("image",), ("features", "logits"), example)
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, written_aside(FOLDER / spec.file) as aside:
        onnx_files.write(spec, Path(folder))
        content = (Path(folder) / spec.file).read_bytes()
        check_graph(spec, Graph(content, spec.file, SessionSettings()))
        aside.write_bytes(content)
    test = datasets.load(dataset, root, "test")
    return float((Evaluator(dataset, which)(test.images).labels == test.labels).mean())


def _told(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    for done, step in enumerate(items):
        if done % 500 == 0:
            print(f"{label}: step {done:,} of {total:,}", flush=True)
        yield step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=datasets.DATASETS)
    parser.add_argument("--which", choices=WHICH, default="first")
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    accuracy = train(datasets.DATASETS[given.dataset], given.which, given.root, given.epochs)
    print(f"accuracy on test images: {accuracy:.4f}")
