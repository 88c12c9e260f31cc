"""Documents as people and programs read them: aligned tables, or JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click

CELL_CHARS_MAX = 80  # a path may have thousands; --json has all of it


def print_json(document: object, *, indent: int | None = 2) -> None:
    click.echo(json.dumps(document, indent=indent, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, two spaces between; none is shown as "-"."""
    lines = [list(head), *([cell_text(value) for value in row] for row in rows)]
    widths = [max(width(line[n]) for line in lines) for n in range(len(head))]
    for line in lines:
        click.echo(line_text(line, widths))


def print_fields(rows: Iterable[tuple[str, object]]) -> None:
    """`name:  value` lines with the values in one column."""
    shown = [(f"{name}:", cell_text(value)) for name, value in rows]
    wide = max(width(name) for name, _ in shown)
    for name, text in shown:
        click.echo(f"{name}{' ' * (wide - width(name))}  {text}")


def line_text(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * max(wide - width(cell), 0) for cell, wide in zip(cells, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


def cell_text(value: Any) -> str:
    """One line without control characters: a caller chose some of these texts."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def width(text: str) -> int:
    """Columns that a terminal takes for the text."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
