"""Data sets for commands: read from --root, downloaded there first where files are missing and there is a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from commands.progress import note
from runtime import datasets
from runtime.datasets import Dataset, LabelledImages, Part
from runtime.errors import MissingDataError

PACKAGES = Path(__file__).resolve().parent.parent  # where `python -m training.download` is found


def load_data(dataset: Dataset, root: Path, part: Part) -> LabelledImages:
    """One part of a data set. Raises MissingDataError, which says which files were looked for, where."""
    ensure_data(dataset, root, [part])
    return datasets.load(dataset, root, part)


def ensure_data(dataset: Dataset, root: Path, parts: Sequence[Part] = datasets.PARTS) -> None:
    """Have torchvision download the data set below `root` where files of these parts are missing.

    It runs in a process of its own, so that commands that need no torch import none.
    """
    missing = datasets.missing_files(dataset, root, parts)
    if not missing:
        return
    looked_for = f"no {' or '.join(path.name for path in missing)} (or .gz) in {missing[0].parent}"
    if find_spec("torchvision") is None:
        raise MissingDataError(f"{looked_for}; downloading needs torchvision: pip install '.[train]'")
    note(f"{looked_for}: downloading {dataset.name}")
    command = [sys.executable, "-m", "training.download", dataset.key, str(root.resolve())]
    folder = missing[0].parent
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    result = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True, check=False)
    if result.returncode or datasets.missing_files(dataset, root, parts):
        for each in new:
            with suppress(OSError):  # what is not there, or not empty, stays as it is
                each.rmdir()
        reason = (result.stderr.strip().splitlines() or ["torchvision brought other files"])[-1]
        raise MissingDataError(f"{looked_for}, and downloading failed: {reason[:200]}")
