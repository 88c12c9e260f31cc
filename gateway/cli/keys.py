"""`tallygate keys create|list|revoke|rotate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.asking import ask, given, list_all, path_of, print_items
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_fields, print_json

COLUMNS = ("id", "account", "name", "user", "project", "hint", "state", "expires", "declared")
SHOWN = ("id", "account", "name", "user", "project", "state", "expires", "routes", "networks")


@click.group(short_help="Create, list, revoke and rotate API keys.")
def keys() -> None:
    """API keys. A key is shown once, when it is made; only its SHA-256 is kept."""


@keys.command("create")
@click.argument("account")
@click.option("--name", help="Name for people.")
@click.option("--user", help="Who calls with it.")
@click.option("--project", help="The project of its calls.")
@click.option("--environment", type=click.Choice(["live", "test"]), help="Prefix. Default: live.")
@click.option("--expires", help="A duration (30d) or an instant (2030-01-01T00:00:00Z).")
@click.option("--route", "routes", multiple=True, help="A route it may call; repeatable.")
@click.option("--network", "networks", multiple=True, help="A source network; repeatable.")
@config_option
@json_option
def create(
    routes: tuple[str, ...],
    networks: tuple[str, ...],
    config: Path,
    as_json: bool,
    **given: str | None,
) -> None:
    """Create a key of ACCOUNT and print it, this once."""
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, values in (("routes", routes), ("networks", networks)):
        if values:
            body[name] = [part for value in values for part in value.split(",")]
    document = ask(config, "POST", "/keys", body)
    _print_new(document, as_json)


@keys.command("list")
@click.option("--account", help="Keys of this account only.")
@config_option
@json_option
def list_(account: str | None, config: Path, as_json: bool) -> None:
    """List declared and created keys."""
    print_items(list_all(config, "/keys", given(account=account)), COLUMNS, as_json)


@keys.command("revoke")
@click.argument("key_id")
@config_option
@json_option
def revoke(key_id: str, config: Path, as_json: bool) -> None:
    """Refuse KEY_ID from the next request on."""
    document = ask(config, "DELETE", path_of("keys", key_id))
    if as_json:
        print_json(document)
    else:
        print_fields((name, document[name]) for name in ("id", "account", "state", "revoked"))


@keys.command("rotate")
@click.argument("key_id")
@click.option("--overlap", default="24h", show_default=True, help="How long the old key lives on.")
@click.option("--expires", help="When the new key ends. Default: it lives as long as the old one.")
@config_option
@json_option
def rotate(key_id: str, overlap: str, expires: str | None, config: Path, as_json: bool) -> None:
    """Replace KEY_ID by a new key with the same rights, and print it, this once."""
    body = {"overlap": overlap, **({"expires": expires} if expires else {})}
    document = ask(config, "POST", path_of("keys", key_id, "rotate"), body)
    _print_new(document, as_json)


def _print_new(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    rows: list[tuple[str, object]] = [("key", document["key"])]
    rows += [(name, document[name]) for name in SHOWN]
    replaced = document.get("replaces")
    if replaced is not None:
        rows += [("replaces", replaced["id"]), ("which ends", replaced["expires"])]
    print_fields(rows)
    click.echo("The key is not kept anywhere: store it now.", err=True)
