import shutil

import pytest

from commands import recipe_files
from tests.brief_cli import SHORTENED
from tests.recipes import TINY, run
from training.objectives import finishing


def enter(folder, monkeypatch):
    """Make a folder the current one, with the recipe "tiny", whose judges learn for a moment only."""
    (folder / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(recipe_files, "FOLDER", folder)
    for steps in SHORTENED:
        monkeypatch.setattr(finishing, steps, 2)
    monkeypatch.chdir(folder)


@pytest.fixture
def folder(tmp_path, monkeypatch, conversions):
    enter(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, root, conversions):
    """A folder in which the tiny recipe has been run, and its results promoted."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(folder, monkeypatch)
        run(root, promote=True)
    return folder


@pytest.fixture
def promoted(folder, finished):
    """A copy of it that is the current folder."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    return folder
