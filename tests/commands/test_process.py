import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from commands import test
from commands.models import Choice
from runtime.datasets import find
from tests.command_line import PROJECT, heeding

CLI = PROJECT / "cli.py"

START = """
import os, signal, threading, time
import click
from commands import process

@click.command()
def command():
"""
SWALLOWING = """
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except SystemExit:
        pass  # as some compiled modules do
    time.sleep(60)
"""
SLOW_TO_END = """
    threading.Thread(target=time.sleep, args=(2,)).start()
    os.kill(os.getpid(), signal.SIGTERM)
"""
STUCK = """
    threading.Thread(target=threading.Event().wait).start()  # as for a lock that the signal left locked
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("body", [SWALLOWING, SLOW_TO_END, STUCK])
def test_a_process_that_is_to_end_is_told_until_it_hears(body):
    code = f"{START}{body}\nprocess.run(command)"
    result = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True)
    assert result.returncode == 128 + signal.SIGTERM
    assert not result.stderr


def test_an_interrupt_that_was_swallowed_comes_again():
    body = SWALLOWING.replace("SIGTERM", "SIGINT").replace("SystemExit", "KeyboardInterrupt")
    code = f"{START}{body}\nprocess.run(command)"
    heed = heeding(signal.SIGINT)
    result = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True, preexec_fn=heed)
    assert (result.returncode, result.stderr.strip()) == (130, "Interrupted.")


def test_an_interrupt_while_modules_load_says_nothing(tmp_path):
    shutil.copy(CLI, tmp_path)
    (tmp_path / "click.py").write_text("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)")
    heed = heeding(signal.SIGINT)
    result = subprocess.run([sys.executable, tmp_path / "cli.py"], timeout=30, capture_output=True, preexec_fn=heed)
    assert (result.returncode, result.stderr) == (-signal.SIGINT, b"")


def test_what_is_to_be_done_at_exit_is_done():
    body = """
    import atexit
    atexit.register(lambda: os.write(1, b" and done"))
    print("said", end="")
"""
    result = subprocess.run([sys.executable, "-c", f"{START}{body}\nprocess.run(command)"], capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"said and done", b"")


def test_a_path_that_the_terminal_can_not_show_is_said_all_the_same(tmp_path):
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(tmp_path / "字.png")
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    result = subprocess.run(
        [sys.executable, CLI, "classify", "字.png"], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert result.stdout.startswith(rb"\u5b57.png: ")


def test_a_process_without_standard_error_draws(tmp_path):
    words = f'exec "{sys.executable}" "{CLI}" generate --height 1 --width 1 --output page.png 2>&-'
    subprocess.run(["sh", "-c", words], cwd=tmp_path, check=True)
    assert (tmp_path / "page.png").is_file()


def test_what_was_measured_is_said_where_its_picture_can_not_be_written(root, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(test.pages, "save_png", full)
    with pytest.raises(OSError, match="no space"):
        test.test(Choice(find("MNIST", size="tiny")), root, None, 100, tmp_path / "a.png", [], as_json=False)
    assert capsys.readouterr().out.startswith("accuracy ")


def test_a_page_is_drawn_without_what_takes_longer_to_load(tmp_path):
    words = ["generate", "--threads", "2", "--output", str(tmp_path / "page.png")]
    code = "import sys, numpy, onnxruntime, click; before = set(sys.modules); import cli; "
    code += f"cli.cli({words}, standalone_mode=False); print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = set(found.stdout.splitlines()[-1].split())
    assert (tmp_path / "page.png").is_file()
    assert "runtime" in loaded
    assert not loaded & {"PIL", "numpy.random", "_hashlib", "gzip", "lzma", "tempfile"}


def test_garbage_is_looked_for_again_once_modules_are_loaded():
    code = "import gc, cli; print(gc.isenabled(), gc.get_freeze_count() > 0)"
    found = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "True"]
