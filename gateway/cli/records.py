"""`tallygate holds`, `audit-log`, `openapi`: what goes on, who changed what, what can be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gateway.cli.asking import ask, flat, given, print_items
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, print_table

HOLD_COLUMNS = ("since", "account", "user", "key", "route", "request_id", "amounts", "expires")
SCOPE_TEXT = "only holds of this gateway and its workers: others that share the state tell theirs"
CHANGE_HEAD = ("TIME", "ACTOR", "MEMBER", "ADDRESS", "ACTION", "SUBJECT", "BEFORE", "AFTER")


@click.command(short_help="Show what requests in flight have reserved.")
@click.option("--account", help="Of this account only.")
@config_option
@json_option
def holds(account: str | None, config: Path, as_json: bool) -> None:
    """Show the open holds of the running gateway, oldest first.

    Each gateway that shares a state tells its own: this shows those of this one and its workers.
    """
    from gateway.cli.office import open_office
    from gateway.cli.paging import all_pages

    with open_office(config, reads=True) as office:
        pages = list(all_pages(office, "/holds", given(account=account)))
    print_items([item for page in pages for item in page["items"]], HOLD_COLUMNS, as_json)
    if pages[-1]["scope"] == "gateway":
        click.echo(SCOPE_TEXT, err=True)


@click.command("audit-log", short_help="Show who changed what, newest first.")
@click.option("--subject", help="An account with its members, or a key.")
@click.option("--action", help="E.g. account.change, account.overage_on, key.create.")
@click.option("--actor", help="An operator, e.g. cli:ada.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@config_option
@json_option
def audit_log(limit: int, config: Path, as_json: bool, **filters: str | None) -> None:
    """Show changes with actor, address, time, and what was there before and after."""
    query = {**given(**filters), "limit": str(limit)}
    items = ask(config, "GET", "/audit-log", query=query)["items"]
    if as_json:
        print_json(items)
    else:
        print_table(CHANGE_HEAD, (_change_row(item) for item in items))


def _change_row(item: dict[str, Any]) -> list[object]:
    address = item["member_address"] or item["address"]
    named = [item["time"], item["actor"], item["member"], address, item["action"], item["subject"]]
    return [*named, _text(item["before"]), _text(item["after"])]


def _text(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else flat(value)


@click.command(short_help="Print the admin API's OpenAPI document.")
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the admin API, as GET /openapi.json answers it."""
    from gateway.api.openapi import openapi_document
    from gateway.core.version import installed_version

    print_json(openapi_document(installed_version()))
