"""The runtime stands alone: it brings numpy, onnxruntime and pillow, and can be copied elsewhere."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import runtime

PROJECT = Path(runtime.__file__).resolve().parent.parent
ALLOWED = {"runtime", "numpy", "onnxruntime", "PIL"}
HEAVY = ("torch", "torchvision", "onnx", "onnxscript", "safetensors", "training", "export", "click")


def run(code, cwd):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_runtime_brings_its_dependencies_only():
    code = "import sys; before = set(sys.modules); import runtime; print(*sorted(set(sys.modules) - before))"
    found = {name.partition(".")[0] for name in run(code, PROJECT).split()}
    assert not found & set(HEAVY)
    foreign = {name for name in found if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign <= ALLOWED


def test_running_a_model_leaves_no_files(tmp_path, gaussian_bundle):
    """As onnxruntime's telemetry would."""
    folders = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in folders.values():
        Path(folder).mkdir()
    code = f"import runtime; m = runtime.load({str(gaussian_bundle)!r}); m.classify(m.generate([1], seed=0))"
    command = [sys.executable, "-c", code]
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | folders
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)
    assert not [path for folder in folders.values() for path in Path(folder).rglob("*")]


def test_a_copy_beside_a_bundle_works(tmp_path, gaussian_bundle):
    shutil.copytree(PROJECT / "runtime", tmp_path / "vendored", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(gaussian_bundle, tmp_path / "digits")
    code = "import vendored; m = vendored.load('digits'); print(m.classify(m.generate([1, 2], seed=0)).shape)"
    assert run(code, tmp_path).strip() == "(2, 10)"


def test_everything_exported_is_there():
    assert all(hasattr(runtime, name) for name in runtime.__all__)


def test_nothing_in_the_runtime_knows_the_network():
    nodes = [node for path in (PROJECT / "runtime").glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    assert "numpy" in found
    assert not {name.partition(".")[0] for name in found} & {"socket", "ssl", "urllib", "http", "requests", "ftplib"}
