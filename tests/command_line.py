"""Commands as whole processes, as their users run them, for tests."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
NO_TORCH = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
hidden = {"torch", "torchvision", "onnx", "onnxscript", "safetensors"}
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in hidden else find_spec(name, *rest)
"""


def run(command, cwd, status=0, torch=False):
    """Run a command line in a process where, unless asked, torch can't be imported."""
    code = ("" if torch else NO_TORCH) + "import cli; cli.main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(command)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result


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
