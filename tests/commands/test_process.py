import signal
import subprocess
import sys

SWALLOWING = """
import os, signal, time
import click
from commands import process

@click.command()
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except SystemExit:
        pass  # as some compiled modules do
    time.sleep(60)

process.run(command)
"""


def test_a_process_that_did_not_hear_that_it_is_to_end_is_told_again():
    assert subprocess.run([sys.executable, "-c", SWALLOWING], timeout=30).returncode == 128 + signal.SIGTERM
