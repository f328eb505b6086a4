"""How fast and how small the runtime is, on this machine: everything a user of a bundle would time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL

import runtime
from runtime.chunks import CHUNK, cores
from runtime.sessions import ONNXRUNTIME_VERSION
from runtime.tracking import Tracker, untracked

Task = Callable[[], object]
BATCHES = (1, 8, 64, 256, 1024)
PAGE = 64
SECONDS = 1.5  # of each measurement
PROCESSES = 5  # of each kind
LEAST_CALLS = 5
IMPORTS = "import numpy, onnxruntime, PIL, click"
PACKAGES = Path(__file__).resolve().parent.parent
MATRIX = """
import time, numpy
a = numpy.random.default_rng(0).random((1024, 1024), numpy.float32)
best = 1e9
for _ in range(20):
    started = time.perf_counter(); a @ a; best = min(best, time.perf_counter() - started)
print(2 * 1024**3 / best)
"""
LAUNCH = """
import json, subprocess, sys, time
try:
    import resource
except ImportError:  # of Windows
    resource = None
started = time.perf_counter()
result = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seconds = time.perf_counter() - started
if result.returncode:
    sys.exit(result.stderr)
print(json.dumps([seconds, resource and resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
START = """
import json, sys, time
started = time.perf_counter()
import runtime
imported = time.perf_counter()
model = runtime.load(sys.argv[1], threads=int(sys.argv[2]))
loaded = time.perf_counter()
model.generate([0])
drawn = time.perf_counter()
found = {"import": imported - started, "load": loaded - imported, "first image": drawn - loaded}
if not model.bundle.only_generates:
    import numpy
    model.classify(numpy.zeros((1, 28, 28), numpy.uint8))
    found["first classification"] = time.perf_counter() - drawn
print(json.dumps(found))
"""


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "platform": platform.platform(),
        "versions": {
            "toolkit": runtime.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": ONNXRUNTIME_VERSION,
            "pillow": PIL.__version__,
            **({"torch": metadata.version("torch")} if find_spec("torch") else {}),
        },
    }


def matrix_peak(threads: int) -> float:
    """The most floating-point operations a second that numpy gets out of a float32 product of 1024 x 1024."""
    return float(_python(MATRIX, threads=threads))


def start(path: Path, threads: int) -> dict[str, float]:
    """Seconds from nothing to the first results: the medians of processes of their own."""
    found = [json.loads(_python(START, str(path.absolute()), str(threads), threads=threads)) for _ in range(PROCESSES)]
    return {step: float(np.median([each[step] for each in found])) for step in found[0]}


def interleaved(tasks: Mapping[str, Task]) -> dict[str, list[float]]:
    """Seconds of each call of tasks that take turns, after one call each that does not count."""
    for task in tasks.values():
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    finish = time.perf_counter() + SECONDS * len(tasks)
    while time.perf_counter() < finish or min(map(len, times.values())) < LEAST_CALLS:
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - started)
    return times


def uses(bundle: runtime.Bundle) -> tuple[str, ...]:
    """What it is good for."""
    return ("generate",) if bundle.only_generates else ("generate", "classify")


def latency(model: runtime.Model) -> dict[str, dict[str, float]]:
    """Milliseconds from a call of a warm model to its result, the median and the 95th percentile.

    One image and one classification take turns, and pages do, which would clear the caches of what one image needs.
    """
    one, page = [0], np.arange(PAGE) % len(model.classes)
    images = model.generate(page)
    single: dict[str, Task] = {"one image": lambda: model.generate(one)}
    paged: dict[str, Task] = {f"a page of {PAGE} images": lambda: model.generate(page)}
    if "classify" in uses(model.bundle):
        single["one classification"] = lambda: model.classify(images[:1])
        paged[f"{PAGE} classifications"] = lambda: model.classify(images)
    found = {**interleaved(single), **interleaved(paged)}
    return {name: percentiles(seconds) for name, seconds in found.items()}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 95th percentile in milliseconds, and of how many."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, (50, 95))
    return {"p50": float(p50), "p95": float(p95), "calls": len(seconds)}


def throughput(model: runtime.Model, peak: float, track: Tracker = untracked) -> list[dict[str, Any]]:
    """Images a second for every batch size, and what share of `peak` the multiply-adds of the graphs come to."""
    rows = []
    for batch in track(BATCHES, len(BATCHES), f"throughput, {model.settings.threads} threads"):
        labels = np.arange(batch) % len(model.classes)
        images = model.generate(labels)
        tasks: dict[str, Task] = {
            "generate": lambda labels=labels: model.generate(labels),  # type: ignore[misc]
            "classify": lambda images=images: model.classify(images),  # type: ignore[misc]
        }
        row: dict[str, Any] = {"batch": batch, "threads": model.settings.threads}
        for name, found in interleaved({each: tasks[each] for each in uses(model.bundle)}).items():
            rate = batch / float(np.median(found))
            facts = model.bundle.manifest["files"][f"{name}.onnx"]
            cost = 2 * facts.get("multiply_adds_at_least", facts["multiply_adds"])  # at least, and so are the shares
            row |= {f"{name} a second": rate, f"{name} share of peak": rate * cost / peak}
        rows.append(row)
    return rows


def processes(bundle: runtime.Bundle) -> dict[str, dict[str, float]]:
    """Whole processes that take turns: the least seconds and megabytes of a page to PNG, and of its imports alone.

    The page is drawn with the runtime's own number of threads. Where the system does not tell them there are no
    megabytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.png"
        commands = {
            "imports": [sys.executable, "-c", IMPORTS],
            "generate": [sys.executable, str(PACKAGES / "cli.py"), *_drawing(bundle), "--output", str(page)],
        }
        found: dict[str, list[dict[str, float]]] = {each: [] for each in commands}
        for _ in range(PROCESSES):
            for each, command in commands.items():
                found[each].append(_run(command))
    best = {each: {what: min(run[what] for run in runs) for what in runs[0]} for each, runs in found.items()}
    return best | {"ratio": {what: least / best["imports"][what] for what, least in best["generate"].items()}}


def to_disk(bundle: runtime.Bundle, num: int) -> dict[str, float]:
    """Images a second of `num` images written to an archive, beside the same in memory; peak megabytes of a tenth.

    Both with the runtime's own number of threads, and neither with the start. Megabytes as in `processes`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(PACKAGES / "cli.py"), *_drawing(bundle), "--batch-size", str(CHUNK)]
        output = ["--output", str(Path(folder) / "images.npz")]
        tenth, whole = (_run([*command, "--num", str(count), *output]) for count in (num // 10, num))
    model = runtime.Model(bundle)
    model.generate(np.arange(CHUNK) % len(model.classes))
    started = time.perf_counter()
    for _ in model.stream(num // 4, batch_size=CHUNK):
        pass
    in_memory = (num // 4) / (time.perf_counter() - started)
    peaks = {"": whole, " for a tenth": tenth}
    return {
        "images": num,
        "a second": (num - num // 10) / (whole["seconds"] - tenth["seconds"]),
        "a second in memory": in_memory,
        **{f"megabytes{of}": run["megabytes"] for of, run in peaks.items() if "megabytes" in run},
    }


def _drawing(bundle: runtime.Bundle) -> list[str]:
    """The words of the command that draws with a bundle."""
    return ["generate", "--bundle", str(bundle.path.absolute())]


def _run(command: Sequence[str]) -> dict[str, float]:
    """Seconds and peak megabytes of a process, started by a small one: it would inherit a large one's peak."""
    seconds, peak = json.loads(_python(LAUNCH, *command, threads=1))
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds} | ({} if peak is None else {"megabytes": peak * unit / 1e6})


def _python(code: str, *arguments: str, threads: int) -> str:
    """What a Python process with so many threads for matrix products prints."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": str(PACKAGES)}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise runtime.ToolkitError(f"a process that measures ended with status {result.returncode}: {last}")
    return result.stdout


def _cpu_name() -> str:
    """The processor's name, where the system tells it."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
