"""Commands as whole processes, as their users run them, for tests."""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import cli
from tests import brief_cli

PROJECT = Path(__file__).resolve().parents[1]
SECONDS = 300  # that a command may take
FORKS = multiprocessing.get_context("forkserver")  # loads torch, which takes seconds, once
FORKS.set_forkserver_preload(["tests.brief_cli", "commands.recipe", "commands.train", "commands.encode_dataset"])
NO_TORCH = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
hidden = {"torch", "torchvision", "onnx", "onnxscript", "safetensors"}
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in hidden else find_spec(name, *rest)
"""


def run(command, cwd, status=0, torch=False, brief=False):
    """Run a command line in a process where, unless asked, torch can't be imported; brief: as `start` does."""
    result = _run_with_torch(command, cwd, brief) if torch or brief else _run_without_torch(command, cwd)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result


def _run_without_torch(command, cwd):
    return subprocess.run(
        [sys.executable, "-c", f"{NO_TORCH}import cli; cli.main()", *shlex.split(command)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def _run_with_torch(command, cwd, brief):
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder, name) for name in ("out", "err"))
        process = start(command, cwd, out, err, brief)
        process.join(SECONDS)
        process.kill()
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text(), err.read_text())


def start(command, cwd, out, err, brief=False):
    """A command line as a process with torch, which writes to the files out and err; brief: by brief_cli.py."""
    process = FORKS.Process(target=_command, args=(shlex.split(command), cwd, out, err, dict(os.environ), brief))
    process.start()
    return process


def _command(words, cwd, out, err, environment, brief):
    """What that process does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with Path(path).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = ["cli.py", *words]
    (brief_cli if brief else cli).main()


def heeding(stop):
    """For preexec_fn: has a process heed a signal that a test run in the background, or under nohup, ignores."""
    return lambda: signal.signal(stop, signal.SIG_DFL)


def picture(path):
    """Size and text of a picture."""
    with Image.open(path) as opened:
        return opened.size, opened.text


def error_line(result):
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert not result.stdout
    return lines[0]
