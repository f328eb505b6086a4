"""Files written whole or not at all."""

import pytest

from runtime.files import written_aside


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "page.txt"
    path.write_text("before")

    def interrupted():
        with written_aside(path) as aside:
            aside.write_text("after")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_keeps_its_permissions_and_is_left_where_it_is_protected(tmp_path, monkeypatch):
    path = tmp_path / "page.txt"
    path.write_text("before")
    path.chmod(0o640)
    with written_aside(path) as aside:
        aside.write_text("after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    monkeypatch.setattr("os.access", lambda file, mode: False)  # as it is for others than root
    with pytest.raises(PermissionError), written_aside(path) as aside:
        aside.write_text("again")
    assert path.read_text() == "after"


def test_an_error_names_the_file_that_it_is_of(tmp_path):
    path, other = tmp_path / "nowhere" / "page.txt", tmp_path / "other.txt"
    with pytest.raises(FileNotFoundError) as caught, written_aside(path) as aside:
        aside.write_text("after")
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as caught, written_aside(tmp_path / "page.txt"):
        other.read_text()
    assert caught.value.filename == str(other)
