import signal
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("body", [SWALLOWING, SLOW_TO_END])
def test_a_process_that_is_to_end_is_told_until_it_hears(body):
    code = f"{START}{body}\nprocess.run(command)"
    result = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True)
    assert result.returncode == 128 + signal.SIGTERM
    assert not result.stderr
