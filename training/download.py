"""Download a data set with torchvision: ``python -m training.download KEY ROOT``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import torchvision

from runtime.datasets import DATASETS, Dataset

TIMEOUT_SECONDS = 30


def download(dataset: Dataset, root: Path) -> None:
    """Bring the files of a data set below `root`, in torchvision's layout."""
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    options = {} if dataset.split is None else {"split": dataset.split}
    for train in (True, False):
        getattr(torchvision.datasets, dataset.name)(str(root), train=train, download=True, **options)


if __name__ == "__main__":
    download(DATASETS[sys.argv[1]], Path(sys.argv[2]))
