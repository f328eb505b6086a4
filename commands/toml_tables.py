"""Tables of TOML turned into what they are of, value by value, by the flags that say what a value may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import click

from runtime.errors import DataError

Convert = Callable[[Any], Any]  # a value of the file to one as the flag has it; DataError where it is none


def table_of(
    known: Mapping[str, Convert],
    needed: tuple[str, ...] = (),
    check: Callable[[Mapping[str, Any]], None] = lambda found: None,
) -> Convert:
    """What converts the values of a table, which has no keys but the known and all those needed.

    check: UsageError where values do not fit each other.
    """

    def convert(table: Any) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise DataError("is no table")
        for key in needed:
            if key not in table:
                raise DataError(f"lacks {key}")
        found = {}
        for key, value in table.items():
            if key not in known:
                raise DataError(f"has {key!r}, which nothing takes")
            try:
                found[key] = known[key](value)
            except click.UsageError as error:
                raise DataError(f"{key}: {error.message}") from error
            except (DataError, TypeError, ValueError, OverflowError) as error:
                raise DataError(f"{key}: {error}") from error
        check(found)
        return found

    return convert


def tables_of(one: Convert, anew: tuple[str, ...] = ()) -> Convert:
    """What converts a list of tables, given what converts one.

    What a table leaves out is as in the one before of its "name", but for these keys that each says anew.
    """

    def convert(tables: Any) -> list[dict[str, Any]]:
        if not isinstance(tables, list):
            raise DataError("is no list of tables, [[...]]")
        return [numbered(number, table) for number, table in enumerate(_carried(tables, anew), 1)]

    def numbered(number: int, table: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = one(table)
        except click.UsageError as error:
            raise DataError(f"number {number}: {error.message}") from error
        except DataError as error:
            raise DataError(f"number {number}: {error}") from error
        return found

    return convert


def values_of(options: Callable[[click.Command], click.Command]) -> dict[str, Convert]:
    """What converts the values of flags, by their names."""
    command = options(click.Command("flags"))
    return {str(flag.name): partial(_as_flag, flag, click.Context(command)) for flag in command.params}


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{value!r} is no text")
    return value


def _carried(tables: Sequence[Any], anew: tuple[str, ...]) -> Iterator[Any]:
    """The tables with what each leaves out."""
    last: dict[Any, dict[str, Any]] = {}
    for table in tables:
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            yield table  # to be refused
            continue
        whole = {**last.get(table["name"], {}), **table}
        last[table["name"]] = {key: value for key, value in whole.items() if key not in anew}
        yield whole


def _as_flag(flag: click.Parameter, context: click.Context, value: Any) -> Any:
    """A value of TOML as the flag has it: a whole number stays one, and only true and false are such."""
    whole, truth = (isinstance(flag.type, kind) for kind in (click.types.IntParamType, click.types.BoolParamType))
    if isinstance(value, list) and not (isinstance(flag, click.Option) and flag.multiple):
        raise DataError(f"{value!r} is no {flag.type.name}")
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, bool) != truth or (whole and not isinstance(each, int)):
            raise DataError(f"{each!r} is no {flag.type.name}")
    return flag.type_cast_value(context, value)
