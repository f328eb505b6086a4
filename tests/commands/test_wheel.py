"""The built wheel carries the shipped models and runs outside the project."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MAX_BYTES = 5_000_000


def test_wheel_generates_and_classifies_with_the_models_inside(tmp_path):
    """It is built of a copy, since setuptools packs what it finds in an older build/, too."""
    source = tmp_path / "source"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns("build", ".*", "tests", "checkpoints", "docs"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < MAX_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {"cli.py", "commands/generate.py", "training/recipes/MNIST.toml", "runtime/py.typed"} <= names
    assert any(name.endswith("entry_points.txt") for name in names)
    code = (
        "import cli, commands, runtime; model = runtime.load('MNIST'); "
        "print(*(module.__file__ for module in (cli, commands, runtime))); "
        "print((model.classify(model.generate(range(10), seed=0)).argmax(1) == range(10)).mean())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    *places, share = result.stdout.split()
    assert len(places) == 3
    assert all(place.startswith(str(tmp_path / "site")) for place in places)
    assert float(share) >= 0.8
