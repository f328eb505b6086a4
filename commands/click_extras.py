"""What click lacks: types of values, flags that take several, help in sections, which flags were given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Command = TypeVar("Command", bound=Callable[..., Any])


class GivenPath(click.Path):
    """A path, which the empty text of a variable that nobody has set is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty.", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = GivenPath(path_type=Path, file_okay=False)


class NamedFile(click.Path):
    """A path with one of these endings in a folder that exists."""

    def __init__(self, *endings: str) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.name.lower().endswith(self.endings) or path.name.lower() in self.endings:
            self.fail(f"{str(path)!r} does not end in {' or '.join(self.endings)}.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {str(path.parent)!r}.", param, ctx)
        return path


class Number(click.ParamType):  # type: ignore[type-arg]  # takes an argument from click 8.4 on
    """A finite number within bounds, both allowed."""

    name = "number"

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.least <= number <= self.most:
            self.fail(f"{value!r} is not a number from {self.least:g} to {self.most:g}.", param, ctx)
        return number


class VariadicCommand(click.Command):
    """Lets options that may be repeated take several values at once: --milestones 15 20 25.

    Its help has a section for each title of `titled`. late: adds options when they are first asked for, so that other
    commands need not import what they are made of.
    """

    def __init__(self, *args: Any, late: Callable[[click.Command], click.Command] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._late = late
        self.titles: dict[str | None, str] = {}  # of parameters, by their names

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if self._late is not None:
            late, self._late = self._late, None
            late(self)
            self.params.reverse()  # a command, other than a function, has what is applied first before the rest
        return super().get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(self.titles.get(param.name, "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = self.get_params(ctx)
        repeatable = {
            name for param in known if isinstance(param, click.Option) and param.multiple for name in param.opts
        }
        flags = {name for param in known for name in param.opts}
        expanded: list[str] = []
        option, values = "", 0
        for word in args:
            if word.startswith("--") or word[:2] in flags:  # "-ofile", too
                option, _, value = word.partition("=")
                values = 1 if value else 0
            elif option in repeatable:
                values += 1
                if values > 1:
                    expanded.append(option)
            expanded.append(word)
        return super().parse_args(ctx, expanded)


def all_of(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Apply options so that help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def titled(title: str, *options: Callable[[click.Command], click.Command]) -> Callable[[click.Command], click.Command]:
    """Apply options so that the help of a VariadicCommand has them in a section of this title; others have none."""

    def apply(command: click.Command) -> click.Command:
        before = len(command.params)
        command = all_of(command, *options)
        if isinstance(command, VariadicCommand):
            command.titles.update((param.name, title) for param in command.params[before:])
        return command

    return apply


def flag(name: str) -> str:
    """The flag that gives the parameter of this name."""
    return f"--{name.replace('_', '-')}"


@contextmanager
def as_usage_errors(of: str = "") -> Iterator[None]:
    """Within it a ValueError is one of usage, said to be of what is named."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(f"{of}{error}.") from error


def given_flags(ctx: click.Context) -> list[str]:
    """The names of the flags that stand on the command line."""
    return [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
