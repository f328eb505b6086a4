"""The built wheel carries the shipped models and runs outside the project."""

import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MAX_BYTES = 5_000_000


def test_wheel_generates_and_classifies_with_the_models_inside(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(PROJECT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < MAX_BYTES
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import runtime; model = runtime.load('MNIST'); print(runtime.__file__); "
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
    place, share = result.stdout.split()
    assert place.startswith(str(tmp_path))
    assert float(share) >= 0.8
