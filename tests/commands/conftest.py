import pytest

from commands import recipe_files
from tests.brief_cli import SHORTENED
from tests.recipes import TINY
from training import finishing


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(recipe_files, "FOLDER", tmp_path)
    for steps in SHORTENED:
        monkeypatch.setattr(finishing, steps, 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path
