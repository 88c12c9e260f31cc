"""`tallygate accounts create|list|update` and `tallygate topup`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_fields, print_json, print_table

COLUMNS = ("id", "title", "plan", "disabled", "cycle_start", "declared")


@click.group(short_help="Create, list and change accounts.")
def accounts() -> None:
    """Accounts: who pays. Those declared in the configuration are changed there."""


@accounts.command("create")
@click.argument("account")
@click.option("--plan", help="Name of the plan. Default: the configuration's default_plan.")
@click.option("--title", help="Name for people.")
@click.option("--cycle-start", help="Anchor of weekly periods, e.g. 2026-01-05. Default: Mondays.")
@click.option("--disabled", is_flag=True, help="Refuse every call for now.")
@config_option
@json_option
def create(
    account: str,
    plan: str | None,
    title: str | None,
    cycle_start: str | None,
    disabled: bool,
    config: Path,
    as_json: bool,
) -> None:
    """Create ACCOUNT."""
    body = _given(id=account, plan=plan, title=title, cycle_start=cycle_start)
    if disabled:
        body["disabled"] = True
    _change("POST", "/accounts", body, config, as_json)


@accounts.command("update")
@click.argument("account")
@click.option("--plan", help="Name of the plan.")
@click.option("--title", help="Name for people.")
@click.option("--cycle-start", help="Anchor of weekly periods, e.g. 2026-01-05.")
@click.option("--disable/--enable", "disabled", default=None, help="Refuse every call, or not.")
@config_option
@json_option
def update(
    account: str,
    plan: str | None,
    title: str | None,
    cycle_start: str | None,
    disabled: bool | None,
    config: Path,
    as_json: bool,
) -> None:
    """Change ACCOUNT."""
    body = _given(plan=plan, title=title, cycle_start=cycle_start, disabled=disabled)
    if not body:
        raise click.UsageError("nothing to change: give --plan, --title, --cycle-start, --disable")
    _change("PATCH", f"/accounts/{account}", body, config, as_json)


@accounts.command("list")
@config_option
@json_option
def list_(config: Path, as_json: bool) -> None:
    """List declared and created accounts."""
    from gateway.cli.office import open_office
    from gateway.cli.paging import all_items

    with open_office(config) as office:
        items = all_items(office, "/accounts")
    if as_json:
        print_json(items)
    else:
        print_table(_head(COLUMNS), ([item[name] for name in COLUMNS] for item in items))


@click.command(
    short_help="Add units to an account's current period.",
    # So that a negative AMOUNT is not taken for an option.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("account")
@click.argument("meter")
@click.argument("amount")
@click.option("--reason", help="Why, for the record.")
@click.option("--id", "topup_id", help="Names the top-up: the same id again adds nothing.")
@config_option
@json_option
def topup(
    account: str,
    meter: str,
    amount: str,
    reason: str | None,
    topup_id: str | None,
    config: Path,
    as_json: bool,
) -> None:
    """Add AMOUNT of METER to the current period of ACCOUNT; negative takes back."""
    from gateway.cli.office import open_office

    body = _given(account=account, meter=meter, amount=amount, reason=reason, id=topup_id)
    with open_office(config) as office:
        document = office.call("POST", "/topups", body=body)
    if as_json:
        print_json(document)
    else:
        print_fields((name.replace("_", " "), value) for name, value in document.items())


def _change(method: str, path: str, body: dict[str, Any], config: Path, as_json: bool) -> None:
    from gateway.cli.office import open_office

    with open_office(config) as office:
        document = office.call(method, path, body=body)
    if as_json:
        print_json(document)
    else:
        print_fields((name.replace("_", " "), document[name]) for name in COLUMNS)


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _head(columns: tuple[str, ...]) -> list[str]:
    return [name.replace("_", " ").upper() for name in columns]
