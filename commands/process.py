"""How the process of a command ends: exit status and one line for every problem, and nothing half-written."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from runtime.errors import ToolkitError, one_line

SECONDS_TO_EXIT = 1.0


class _Stopped(SystemExit):
    """The exit that a signal asks for; its code is the process's status."""

    code: int


def run(command: click.Command) -> None:
    """Run the command line: exit status 2 for wrong use, 1 for a problem in the world, each with one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may have characters that the terminal has not
    for stop in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:  # Windows has no SIGHUP
        if signal.getsignal(stop) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(stop, _exit_cleanly)
    try:
        status = command(standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.ClickException as error:
        click.echo(f"Error: {one_line(error.format_message(), None)}", err=True)
        status = error.exit_code
    except ToolkitError as error:
        click.echo(f"Error: {one_line(error, None)}", err=True)
        status = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {one_line(where + (error.strerror or str(error)), None)}", err=True)
        status = 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        status = 130
    except _Stopped as stopped:  # perhaps where a lock was held that other threads wait for: they aren't waited for
        status = stopped.code
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)  # an exit that was asked for is under way
    _end(status)


@contextmanager
def not_lost(said: str) -> Iterator[None]:
    """Print what took minutes to measure where the block, which writes it or draws it, fails."""
    try:
        yield
    except (OSError, ToolkitError):
        click.echo(said)
        raise


def _end(status: int) -> NoReturn:
    """End the process, at once where it has not loaded torch: to take modules apart takes part of a page's time."""
    if "torch" in sys.modules:  # which may have processes of its own
        sys.exit(status)
    atexit._run_exitfuncs()
    os._exit(status)


def _exit_cleanly(number: int, _frame: object) -> None:
    """End by an exception, so that what is half-written is removed.

    Compiled modules may ignore an exception while they are imported, as numpy.random does, so it is raised again until
    the process has ended.
    """
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: _stop(number))
        signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_EXIT, SECONDS_TO_EXIT)
    _stop(number)


def _stop(number: int) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else _Stopped(128 + number)
