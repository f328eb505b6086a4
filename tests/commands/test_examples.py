"""The examples that need nothing but onnxruntime and numpy run as their first lines say."""

import subprocess
import sys

import pytest

from runtime import places
from tests.command_line import PROJECT


@pytest.mark.parametrize("name", ["MNIST", "MNIST-nano"])
def test_one_call_draws_and_reads_what_it_can(name, tmp_path):
    command = [sys.executable, PROJECT / "docs/examples/one_call.py", places.SHIPPED / name, "3", "1", "4"]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "images (3, 28, 28)" in said
    assert ("3 is read as 3" in said) == (name == "MNIST")
