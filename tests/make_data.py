"""Make tests/data: a root with some hundred real images of each data set, from full data sets.

python tests/make_data.py --root data
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

from runtime.datasets import DATASETS, read_idx

TARGET = Path(__file__).resolve().parent / "data"
TRAIN, TEST = 240, 120


def write_idx(path: Path, array: np.ndarray) -> None:
    header = b"\x00\x00\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def main(root: Path) -> None:
    for dataset in DATASETS.values():
        for official_test, count in ((False, TRAIN), (True, TEST)):
            sources = dataset.paths(root, official_test)
            if not sources[0].with_name(sources[0].name + ".gz").is_file():
                print(f"{sources[0].name} is not there")
                continue
            for source, target in zip(sources, dataset.paths(TARGET, official_test), strict=True):
                write_idx(
                    target.with_name(target.name + ".gz"), read_idx(source.with_name(source.name + ".gz"))[:count]
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    main(parser.parse_args().root)
