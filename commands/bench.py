"""``bench``: how fast and how small a bundle is here, as tables for people, one JSON object, or a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from commands import plots
from commands.process import not_lost
from commands.progress import note, track
from evaluation import benchmark
from evaluation.benchmark import PAGE, interleaved
from runtime.chunks import DEFAULT_THREADS, cores
from runtime.errors import one_line

Result = dict[str, Any]


def bench(bundle: runtime.Bundle, threads: Sequence[int], to_disk: int | None, plot: Path | None, as_json: bool) -> str:
    """Measure a bundle; returns tables, or one JSON object.

    threads: numbers of them to measure with; to_disk: images to write to an archive, if any.
    """
    if plot is not None:
        plots.require_matplotlib()
    counts = sorted(set(threads or (1, cores())))
    result: Result = {**benchmark.machine(), "bundle": bundle.name, "threads": {}, "default_threads": DEFAULT_THREADS}
    facts = bundle.manifest["files"]
    result["multiply_adds"] = {each: facts[f"{each}.onnx"]["multiply_adds"] for each in benchmark.uses(bundle)}
    result["kilobytes"] = {file: of["bytes"] / 1024 for file, of in facts.items()}
    for count in counts:
        note(f"{bundle.name} with {count} threads")
        result["threads"][str(count)] = _with_threads(bundle.path, count)
    note("whole processes")
    result["processes"] = benchmark.processes(bundle)
    if to_disk:
        note(f"{to_disk:,} images to disk")
        result["to_disk"] = benchmark.to_disk(bundle, to_disk)
    said = json.dumps(result) if as_json else "\n".join(_tables(result))
    if plot is not None:
        with not_lost(said):
            plots.draw_throughput(result, plot)
    return said


def _with_threads(path: Path, threads: int) -> Result:
    model = runtime.load(path, threads=threads)
    peak = benchmark.matrix_peak(threads)
    found: Result = {
        "matrix_peak_gflops": peak / 1e9,
        "start_seconds": benchmark.start(path, threads),
        "latency_ms": benchmark.latency(model),
        "throughput": benchmark.throughput(model, peak, track),
    }
    if find_spec("torch") is None:
        note("PyTorch is not installed: its rows are left out")
        return found
    import torch

    from evaluation import torch_benchmark

    torch.set_num_threads(threads)
    compiled = not model.bundle.only_generates and _compiles()
    tasks = torch_benchmark.sde_tasks(model, PAGE, compiled)
    found["page_ms"] = _compared(tasks, torch_benchmark.REFERENCE)
    if not model.bundle.only_generates:
        tasks = torch_benchmark.classifying_tasks(model)
        found["classification_ms"] = _compared(tasks, torch_benchmark.REFERENCE)
    return found


def _compared(tasks: dict[str, benchmark.Task], baseline: str) -> Result:
    """The median milliseconds of tasks that take turns, and how many times faster than the baseline each is."""
    medians = {each: float(np.median(times)) * 1000 for each, times in interleaved(tasks).items()}
    return {each: {"p50": ms, "times faster": medians[baseline] / ms} for each, ms in medians.items()}


def _compiles() -> bool:
    """Whether torch.compile works here; a note where it does not."""
    import torch

    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(2))
    except Exception as error:  # whatever a compiler that is not there or not fit makes torch raise
        note(f"torch.compile does not work here: {one_line(error, 120)}")
        return False
    return True


def _tables(result: Result) -> list[str]:
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    lines = [
        f"{result['bundle']} on {result['cpu']}, {result['cores']} cores, {result['platform']}",
        versions,
        ", ".join(f"{each}: {count:,} multiply-adds" for each, count in result["multiply_adds"].items()),
        ", ".join(f"{file} {size:,.0f} KB" for file, size in result["kilobytes"].items()),
    ]
    uses = list(result["multiply_adds"])
    for threads, found in result["threads"].items():
        lines += [
            "",
            f"{threads} threads, matrix peak {found['matrix_peak_gflops']:,.0f} GFLOP/s",
            *_in_process(found, uses),
        ]
    lines += ["", f"whole processes, {result['default_threads']} threads"]
    for each, of in result["processes"].items():
        units = {} if each == "ratio" else {"seconds": " s", "megabytes": " MB"}
        told = ", ".join(f"{value:.2f}{units.get(what, '')}" for what, value in of.items())
        lines.append(f"  {each:10s} {told}")
    return [*lines, *(_to_disk(result["to_disk"], result["default_threads"]) if "to_disk" in result else [])]


def _in_process(found: Result, shown: Sequence[str]) -> list[str]:
    """What was measured with one number of threads, of the uses shown."""
    lines = ["  " + ", ".join(f"{each} {s * 1000:,.1f} ms" for each, s in found["start_seconds"].items())]
    lines += [f"  {each:26s} {t['p50']:9.3f} ms, p95 {t['p95']:9.3f}" for each, t in found["latency_ms"].items()]
    lines.append("   batch" + "".join(f"  {each + ' a second':>17s}  of peak" for each in shown))
    lines += [
        f"  {row['batch']:6,}"
        + "".join(f"  {row[f'{each} a second']:17,.0f}  {row[f'{each} share of peak']:7.1%}" for each in shown)
        for row in found["throughput"]
    ]
    compared = {
        "page_ms": f"  {PAGE} images, 50 steps of the SDE unless said otherwise",
        "classification_ms": "  one classification",
    }
    for key, title in compared.items():
        if key in found:
            ways = [f"  {way:34s} {of['p50']:9.2f} ms, {of['times faster']:7.1f} x" for way, of in found[key].items()]
            lines += [title, *ways]
    return lines


def _to_disk(found: Result, threads: int) -> list[str]:
    peak = ""
    if "megabytes" in found:
        peak = f"; peak {found['megabytes']:.0f} MB, of a tenth of them {found['megabytes for a tenth']:.0f} MB"
    return [
        "",
        f"{found['images']:,} images to disk, {threads} threads: {found['a second']:,.0f} a second, "
        f"in memory {found['a second in memory']:,.0f}{peak}",
    ]
