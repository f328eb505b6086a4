"""Plots of what was measured, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runtime
from runtime import datasets
from runtime.files import written_aside
from runtime.places import is_packed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A public PyTorch project of the same shape, as measured at its default guidance: what generates and what classifies is
# all of it. EMNIST's accuracy is of the official split.
REFERENCE: dict[str, dict[str, float]] = {
    "MNIST": {
        "parameters": 99_141, "generate": 65e6, "classify": 625e6,
        "frechet_multiple": 163, "fidelity": 0.996, "coverage": 0.12, "accuracy": 0.881,
    },
    "EMNIST-balanced": {
        "parameters": 244_000, "generate": 108e6, "classify": 4.7e9,
        "frechet_multiple": 26, "coverage": 0.62, "accuracy": 0.537,
    },
}  # fmt: skip
PLOTTED = {
    "frechet_multiple": ("Fréchet multiple", "generate"),
    "fidelity": ("fidelity", "generate"),
    "coverage": ("coverage", "generate"),
    "accuracy": ("accuracy", "classify"),
}
MARKERS: dict[datasets.Size, str] = {"base": "o", "compact": "s", "fast": "^", "tiny": "D", "nano": "v"}
COSTS = {"parameters": "weights in all", "bytes": "kilobytes", "multiply_adds": "multiply-adds"}


def require_matplotlib() -> None:
    """ToolkitError where it is not installed."""
    if find_spec("matplotlib") is None:
        raise runtime.ToolkitError("--plot needs matplotlib: pip install '.[plot]'")


def draw_throughput(result: Mapping[str, Any], path: Path) -> None:
    """What `bench` found, by batch size and threads."""
    from matplotlib.figure import Figure

    uses = list(result["multiply_adds"])
    figure = Figure(figsize=(4 * len(uses), 3.2), layout="constrained")
    for axes, each in zip(figure.subplots(1, len(uses), squeeze=False)[0], uses, strict=True):
        for threads, found in result["threads"].items():
            rows = found["throughput"]
            axes.loglog(
                [r["batch"] for r in rows], [r[f"{each} a second"] for r in rows], "o-", label=f"{threads} threads"
            )
        axes.set(title=each, xlabel="images in a call", ylabel="images a second")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"{result['bundle']}, {result['cpu']}")
    _save(figure, path)


def draw_ladder(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Quality against size and cost of the bundles that `info` describes in detail, and of the reference.

    Those that do not ship have hollow markers, through which no line goes.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(10, 10), layout="constrained")
    grid = figure.subplots(len(PLOTTED), len(COSTS), sharey="row", sharex="col")
    for row, (figure_name, (title, use)) in zip(grid, PLOTTED.items(), strict=True):
        for axes, (cost, unit) in zip(row, COSTS.items(), strict=True):
            for index, dataset in enumerate(sorted({facts["dataset"] for facts in found})):
                rungs = [facts for facts in found if facts["dataset"] == dataset]
                _draw_rungs(axes, rungs, f"C{index}", dataset, cost, figure_name, use)
            axes.set_xscale("log")
            if figure_name == "frechet_multiple":
                axes.set_yscale("log")
            axes.grid(alpha=0.3)
            axes.set_xlabel(unit if cost == "parameters" else f"{unit}, to {use}")
        row[0].set_ylabel(title)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    sizes = [Line2D([], [], color="gray", linestyle="", marker=marker, label=size) for size, marker in MARKERS.items()]
    sizes.append(Line2D([], [], color="gray", linestyle="", marker="v", fillstyle="none", label="does not ship"))
    figure.legend(handles=sizes, loc="outside lower left", ncols=len(sizes))
    _save(figure, path)


def _draw_rungs(
    axes: Axes, rungs: Sequence[Mapping[str, Any]], color: str, dataset: str, cost: str, figure: str, use: str
) -> None:
    """One data set's line, its markers and the reference's."""
    line = sorted(_points([facts for facts in rungs if facts["shipped"]], cost, figure, use))
    axes.plot([x for x, _ in line], [y for _, y in line], "-", color=color, label=dataset)
    for size, marker in MARKERS.items():
        for fill in ("full", "none"):
            alike = [facts for facts in rungs if _size(facts) == size and facts["shipped"] == (fill == "full")]
            points = _points(alike, cost, figure, use)
            style: dict[str, Any] = {"marker": marker, "fillstyle": fill, "linestyle": "", "color": color}
            axes.plot([x for x, _ in points], [y for _, y in points], **style)
    x, y = _reference(dataset, cost, use), REFERENCE.get(dataset, {}).get(figure)
    if x is not None and y is not None:
        axes.plot(x, y, "x", color=color, markersize=9, label=f"{dataset}, the reference")


def _size(facts: Mapping[str, Any]) -> str:
    """By its name, or else by what it holds: a generator alone as nano, one beside a flow as fast, others as base."""
    size: str = facts["name"].removeprefix(facts["dataset"]).removeprefix("-")
    if size in MARKERS:
        return size
    if "generator" not in facts["networks"]:
        return "base"
    return "fast" if "flow" in facts["networks"] else "nano"


def _points(found: Sequence[Mapping[str, Any]], cost: str, figure: str, use: str) -> list[tuple[float, float]]:
    """A cost and a figure of every bundle that has both; a packed one is all there or not at all."""
    scale = 1 / 1024 if cost == "bytes" else 1

    def whole(facts: Mapping[str, Any]) -> bool:
        return cost == "parameters" or (cost == "bytes" and is_packed(facts["path"]))

    return [
        ((facts if whole(facts) else facts["files"][f"{use}.onnx"])[cost] * scale, facts["measured"][figure])
        for facts in found
        if f"{use}.onnx" in facts["files"] and figure in facts["measured"]
    ]


def _reference(dataset: str, cost: str, use: str) -> float | None:
    facts = REFERENCE.get(dataset)
    if facts is None:
        return None
    return {
        "parameters": facts["parameters"],
        "bytes": facts["parameters"] * 4 / 1024,
        "multiply_adds": facts[use],
    }[cost]


def _save(figure: Figure, path: Path) -> None:
    with written_aside(path) as aside:
        figure.savefig(aside, format=path.suffix[1:])
