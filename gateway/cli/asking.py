"""One operation asked, and its answer printed: what most commands do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.cli.output import print_fields, print_json, print_table


def path_of(*segments: str) -> str:
    """The path of names that may have any character: `path_of("usage", account)`."""
    return "".join(f"/{quote(segment, safe='', errors='surrogateescape')}" for segment in segments)


def ask(
    config: Path,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The document of one operation. Raises Failed."""
    from gateway.cli.office import open_office

    with open_office(config, reads=method == "GET") as office:
        return office.call(method, path, query=query, body=body)


def list_all(config: Path, path: str, query: Mapping[str, str] | None = None) -> list[Any]:
    """Every item of a list, page after page. Raises Failed."""
    from gateway.cli.office import open_office
    from gateway.cli.paging import all_items

    with open_office(config, reads=True) as office:
        return all_items(office, path, query)


def given(**fields: object) -> dict[str, Any]:
    """Those that were given on the command line."""
    return {name: value for name, value in fields.items() if value is not None}


def print_document(document: Mapping[str, Any], as_json: bool) -> None:
    """One document: `name:  value` lines, or JSON."""
    if as_json:
        print_json(document)
    else:
        print_fields((title(name), flat(value)) for name, value in document.items())


def print_items(items: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """A list: a table of some columns, or JSON with all."""
    if as_json:
        print_json(items)
    else:
        head = [title(name).upper() for name in columns]
        print_table(head, ([flat(item[name]) for name in columns] for item in items))


def title(name: str) -> str:
    return name.replace("_", " ")


def flat(value: object) -> object:
    """An object as `name=value, ...`; everything else as it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={inner}" for name, inner in value.items())
    return value


def pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str | None]:
    """NAME=VALUE options by name; nothing behind the sign takes away what there is."""
    found: dict[str, str | None] = {}
    for value in values:
        name, mark, text = value.partition("=")
        if not mark or not name:
            raise click.BadParameter(f"expected NAME=VALUE, found {value!r}", ctx, param)
        found[name] = text or None
    return found
