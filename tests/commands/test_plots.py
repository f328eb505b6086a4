"""Plots by matplotlib, and one line where it is not installed."""

import shutil

import pytest
from PIL import Image

from commands import plots
from commands.info import info
from runtime import bundle as bundles
from runtime.errors import ToolkitError
from runtime.places import SHIPPED


def test_the_ladder_is_drawn_of_all_bundles(tmp_path, monkeypatch):
    save, figures = plots._save, []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure) or save(figure, path))
    info((), tmp_path / "ladder.png", as_json=False)
    with Image.open(tmp_path / "ladder.png") as picture:
        assert min(picture.size) > 500
    axes = figures[0].axes[3]  # of fidelity and weights in all
    assert (axes.get_ylabel(), figures[0].axes[9].get_xlabel()) == ("fidelity", "weights in all")
    lines = {line.get_label(): line for line in axes.get_lines()}
    weights, fidelities = lines["MNIST"].get_data()
    nano = bundles.read("MNIST-nano").manifest
    assert (weights[0], fidelities[0]) == (nano["parameters"], nano["measured"]["fidelity"])
    assert list(lines["MNIST, the reference"].get_xdata()) == [99_141]
    marks = [line for line in axes.get_lines() if line.get_marker() == "v" and line.get_fillstyle() == "full"]
    (marked,) = [line for line in marks if weights[0] in line.get_xdata()]
    assert marked.get_color() == lines["MNIST"].get_color()


def test_a_rung_that_does_not_ship_is_hollow(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    shutil.copytree(SHIPPED / "MNIST-nano", tmp_path / "rung")
    info(("MNIST-tiny", str(tmp_path / "rung")), tmp_path / "ladder.png", as_json=False)
    marks = [line for line in figures[0].axes[0].get_lines() if line.get_marker() in "Dv" and len(line.get_xdata())]
    assert [(line.get_marker(), line.get_fillstyle()) for line in marks] == [("D", "full"), ("v", "none")]


def test_a_packed_bundle_has_the_size_of_its_file(tmp_path):
    graph = {"generate.onnx": {"bytes": 100 << 10}}
    found = [
        {"path": path, "bytes": 64 << 10, "files": graph, "measured": {"fidelity": 0.9}} for path in ("a", "a.tar.xz")
    ]
    assert plots._points(found, "bytes", "fidelity", "generate") == [(100, 0.9), (64, 0.9)]


def test_without_matplotlib_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ToolkitError, match=r"pip install '\.\[plot\]'"):
        info((), tmp_path / "ladder.png", as_json=False)
