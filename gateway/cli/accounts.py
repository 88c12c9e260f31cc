"""`tallygate accounts` and `tallygate members`: who pays, and who may change what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.asking import ask, given, list_all, pairs, path_of, print_document, print_items
from gateway.cli.options import config_option, json_option

COLUMNS = ("id", "title", "plan", "seats", "overage", "disabled", "cycle_start", "declared")
MEMBER_COLUMNS = ("user", "role")

Command = TypeVar("Command", bound=Callable[..., object])

_TERMS = (
    click.option("--plan", help="Name of the plan."),
    click.option("--title", help="Name for people."),
    click.option(
        "--cycle-start", help="Anchor of weekly and fixed periods, e.g. 2026-01-05. First: Mondays."
    ),
    click.option("--seats", type=int, help="Of allowances per seat."),
    click.option(
        "--overage",
        type=click.Choice(["on", "off", "default"]),
        help="Past the allowances: go on or block; default: as the plan says.",
    ),
    click.option("--cap", help="Most dollars of overage in a calendar month; none: no cap."),
    click.option("--timezone", help="Of its days, weekdays and months, e.g. Europe/Kyiv."),
    click.option(
        "--setting",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        callback=pairs,
        help="A setting's value; NAME= for the default. Repeatable.",
    ),
    click.option(
        "--allowance",
        "allowances",
        metavar="NAME=VALUE",
        multiple=True,
        callback=pairs,
        help="An own amount of a meter; METER= for the plan's. Repeatable.",
    ),
    click.option(
        "--limit",
        "limits",
        metavar="NAME=VALUE",
        multiple=True,
        callback=pairs,
        help="An own quota of a limit; 0 is unlimited; NAME= for the default. Repeatable.",
    ),
)


def _terms_options(command: Command) -> Command:
    """The options that create and update share."""
    for option in reversed(_TERMS):
        command = option(command)
    return command


@click.group(short_help="Create, list, show and change accounts.")
def accounts() -> None:
    """Accounts: who pays. Those declared in the configuration are changed there."""


@accounts.command("create")
@click.argument("account")
@_terms_options
@click.option("--disabled", is_flag=True, default=None, help="Refuse every call for now.")
@config_option
@json_option
def create(account: str, config: Path, as_json: bool, **options: Any) -> None:
    """Create ACCOUNT. Without --plan it is on the configuration's default_plan."""
    body = {"id": account, **_body(**options)}
    print_document(ask(config, "POST", "/accounts", body), as_json)


@accounts.command("update")
@click.argument("account")
@_terms_options
@click.option("--disable/--enable", "disabled", default=None, help="Refuse every call, or not.")
@click.option("--as", "as_", metavar="USER", help="In the name of this member, if the role may.")
@click.option("--as-address", metavar="IP", help="Where the member's own request came from.")
@config_option
@json_option
def update(
    account: str,
    as_: str | None,
    as_address: str | None,
    config: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Change ACCOUNT; what is not given stays as it is."""
    body = _body(**options)
    if not body:
        raise click.UsageError("nothing to change: see --help for what can be")
    body |= given(**{"as": as_, "as_address": as_address})
    print_document(ask(config, "PATCH", path_of("accounts", account), body), as_json)


@accounts.command("show")
@click.argument("account")
@config_option
@json_option
def show(account: str, config: Path, as_json: bool) -> None:
    """Show everything that is ACCOUNT's own."""
    print_document(ask(config, "GET", path_of("accounts", account)), as_json)


@accounts.command("list")
@config_option
@json_option
def list_(config: Path, as_json: bool) -> None:
    """List declared and created accounts."""
    print_items(list_all(config, "/accounts"), COLUMNS, as_json)


@click.group(short_help="List, set and remove members of accounts.")
def members() -> None:
    """Members: users of an account. Their role says which settings they may change."""


@members.command("list")
@click.argument("account")
@config_option
@json_option
def list_members(account: str, config: Path, as_json: bool) -> None:
    """List the members of ACCOUNT."""
    items = list_all(config, path_of("accounts", account, "members"))
    print_items(items, MEMBER_COLUMNS, as_json)


@members.command("set")
@click.argument("account")
@click.argument("user")
@click.argument("role")
@config_option
@json_option
def set_member(account: str, user: str, role: str, config: Path, as_json: bool) -> None:
    """Give USER a ROLE in ACCOUNT."""
    path = path_of("accounts", account, "members", user)
    print_document(ask(config, "PUT", path, {"role": role}), as_json)


@members.command("remove")
@click.argument("account")
@click.argument("user")
@config_option
@json_option
def remove_member(account: str, user: str, config: Path, as_json: bool) -> None:
    """Take USER out of ACCOUNT."""
    print_document(ask(config, "DELETE", path_of("accounts", account, "members", user)), as_json)


def _body(
    *,
    settings: dict[str, str | None],
    allowances: dict[str, str | None],
    limits: dict[str, str | None],
    overage: str | None,
    cap: str | None,
    **plain: object,
) -> dict[str, Any]:
    """The fields that were given, as the admin API takes them."""
    body = given(**plain)
    if overage is not None:
        body["overage"] = {"on": True, "off": False, "default": None}[overage]
    if cap is not None:
        body["cap"] = None if cap == "none" else cap
    counts = {name: _count(text) for name, text in limits.items()}
    named = {"settings": settings, "allowances": allowances, "limits": counts}
    return {**body, **{name: entries for name, entries in named.items() if entries}}


def _count(text: str | None) -> int | str | None:
    """A whole number; the API says what is wrong with anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else text
