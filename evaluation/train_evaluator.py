"""Train the evaluator of a data set: ``python -m evaluation.train_evaluator MNIST --root data``. Needs torch."""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.evaluator import FOLDER, Evaluator
from export import onnx_files
from export.graphs import GraphSpec
from runtime import datasets

LEARNING_RATE = 2e-3
BATCH_SIZE = 128
MAX_SHIFT = 2


class EvaluatorNetwork(nn.Module):
    """Images (N, 1, 28, 28) in [0, 1] to features (N, 128) and class logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (1, 32, 48, 64)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
                for a, b in pairwise(widths)
            )
        )
        self.features = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 9, 128), nn.ReLU())
        self.head = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(self.stages(images))
        return features, self.head(features)


def train(dataset: datasets.Dataset, root: Path, epochs: int, seed: int) -> float:
    """Train, write the ONNX file, and return its accuracy on the test set."""
    torch.manual_seed(seed)
    data = datasets.load(dataset, root, "train")
    images, labels = torch.from_numpy(data.images)[:, None], torch.from_numpy(data.labels)
    network = EvaluatorNetwork(len(dataset.classes))
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = len(images) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / (epochs * steps)))
    )
    for epoch in range(epochs):
        for rows in torch.randperm(len(images))[: steps * BATCH_SIZE].split(BATCH_SIZE):
            loss = F.cross_entropy(network(_shifted(images[rows].float() / 255))[1], labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)
    FOLDER.mkdir(exist_ok=True)
    example = (images[:3].float() / 255,)
    onnx_files.write(GraphSpec(f"{dataset.key}.onnx", network, ("image",), ("features", "logits"), example), FOLDER)
    test = datasets.load(dataset, root, "test")
    return float((Evaluator(dataset)(test.images).labels == test.labels).mean())


def _shifted(images: Tensor) -> Tensor:
    """A batch moved by up to MAX_SHIFT pixels each way."""
    down, right = (int(torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, ())) for _ in range(2))
    return torch.roll(images, (down, right), (2, 3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=datasets.DATASETS)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=101)
    given = parser.parse_args()
    accuracy = train(datasets.DATASETS[given.dataset], given.root, given.epochs, given.seed)
    print(f"accuracy on test images: {accuracy:.4f}")
