"""Data sets that are missing are downloaded, or said to be missing."""

import shutil
import subprocess
import sys

import pytest

from commands import data
from runtime.datasets import find
from runtime.errors import MissingDataError
from training import download


class Result:
    def __init__(self, returncode, stderr=""):
        self.returncode, self.stderr = returncode, stderr


def test_missing_files_are_downloaded_in_a_process_of_its_own(tmp_path, root, monkeypatch, capsys):
    asked = []

    def bring(command, **_):
        asked.append(command)
        shutil.copytree(root / "MNIST", tmp_path / "MNIST")
        return Result(0)

    monkeypatch.setattr(subprocess, "run", bring)
    assert len(data.load_data(find("MNIST"), tmp_path, "test").images)
    assert asked == [[sys.executable, "-m", "training.download", "MNIST", str(tmp_path)]]
    assert "downloading MNIST" in capsys.readouterr().err
    data.ensure_data(find("MNIST"), tmp_path)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("result", "reason"), [(Result(1, "some lines\nno network"), "no network"), (Result(0), "brought other files")]
)
def test_why_a_download_failed_is_said(tmp_path, monkeypatch, result, reason):
    def fail(command, **_):
        (tmp_path / "gone" / "MNIST" / "raw").mkdir(parents=True)
        return result

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(MissingDataError, match=f"t10k-images-idx3-ubyte.*{reason}"):
        data.ensure_data(find("MNIST"), tmp_path / "gone")
    assert not list(tmp_path.iterdir())


def test_without_torchvision_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"pip install '.\[train\]'"):
        data.ensure_data(find("MNIST"), tmp_path)


@pytest.mark.parametrize(("split", "more"), [(None, {}), ("byclass", {"split": "byclass"})])
def test_torchvision_is_asked_for_both_parts(tmp_path, monkeypatch, split, more):
    asked = []
    dataset = find("EMNIST", split) if split else find("FashionMNIST")
    monkeypatch.setattr(
        download.torchvision.datasets, dataset.name, lambda root, **options: asked.append((root, options))
    )
    download.download(dataset, tmp_path)
    assert asked == [(str(tmp_path), {"train": train, "download": True, **more}) for train in (True, False)]
