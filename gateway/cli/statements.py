"""`tallygate history`, `breakdown`, `overage` and `invoice`: what an account comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.asking import ask, given, path_of, print_items
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, print_table

PERIOD_COLUMNS = ("granted", "carried_in", "consumed", "overage", "expired", "utilization")
DAY_COLUMNS = ("day", "meter", "units", "amount", "id")
LINE_COLUMNS = ("kind", "title", "meter", "units", "amount")
USE_COLUMNS = ("included", "used", "from_lots", "remaining", "overage")


@click.command(short_help="Show periods of a meter: granted, consumed, expired.")
@click.argument("account")
@click.option("--meter", help="Default: the only one that the plan limits.")
@click.option("--periods", type=click.IntRange(1, 400), help="How many. Default: 13.")
@config_option
@json_option
def history(
    account: str, meter: str | None, periods: int | None, config: Path, as_json: bool
) -> None:
    """Show the periods of one meter of ACCOUNT, newest first."""
    query = given(meter=meter, periods=None if periods is None else str(periods))
    document = ask(config, "GET", path_of("usage", account, "history"), query=query)
    if as_json:
        print_json(document)
        return
    head = ["FROM", "TO", *(name.replace("_", " ").upper() for name in PERIOD_COLUMNS)]
    rows = [
        [item["period"]["start"], item["period"]["end"], *(item[n] for n in PERIOD_COLUMNS)]
        for item in document["items"]
    ]
    click.echo(f"{document['meter']} of {document['account']}")
    print_table(head, rows)


@click.command(short_help="Show which operation, project, user or key used what.")
@click.argument("account")
@click.option(
    "--by",
    type=click.Choice(["operation", "project", "user", "key", "route", "service"]),
    default="operation",
    show_default=True,
)
@click.option("--meter", help="Default: the only one that there is.")
@click.option("--from", "from_", metavar="INSTANT", help="Default: the current period's start.")
@click.option("--to", metavar="INSTANT", help="Default: now.")
@config_option
@json_option
def breakdown(
    account: str,
    by: str,
    meter: str | None,
    from_: str | None,
    to: str | None,
    config: Path,
    as_json: bool,
) -> None:
    """Show who used what of one meter of ACCOUNT."""
    query = given(by=by, meter=meter, to=to, **{"from": from_})
    document = ask(config, "GET", path_of("usage", account, "breakdown"), query=query)
    if as_json:
        print_json(document)
        return
    click.echo(f"{document['meter']} of {document['account']}: {document['total']}")
    print_items(document["items"], (by, "events", "amount", "percent"), as_json)


@click.command(short_help="Show what is billed beyond the plan, by day.")
@click.argument("account")
@click.option("--month", metavar="YYYY-MM", help="Default: the current one.")
@config_option
@json_option
def overage(account: str, month: str | None, config: Path, as_json: bool) -> None:
    """Show the billable overage of ACCOUNT in a month, by meter and day."""
    document = ask(config, "GET", path_of("usage", account, "overage"), query=given(month=month))
    if as_json:
        print_json(document)
    else:
        print_items(document["items"], DAY_COLUMNS, as_json)


@click.command(short_help="Preview an account's invoice of a month.")
@click.argument("account")
@click.option("--month", metavar="YYYY-MM", help="Default: the current one.")
@config_option
@json_option
def invoice(account: str, month: str | None, config: Path, as_json: bool) -> None:
    """Preview the invoice of ACCOUNT: use and overage of each meter, lines, total."""
    document = ask(config, "GET", path_of("invoices", account), query=given(month=month))
    if as_json:
        print_json(document)
    else:
        _print_invoice(document)


def _print_invoice(document: dict[str, Any]) -> None:
    state = "final" if document["is_final"] else "so far"
    click.echo(
        f"account {document['account']}, {document['month']} ({state}), plan {document['plan']},"
        f" {document['seats']} seats"
    )
    if document["meters"]:
        click.echo()
        rows = (
            [meter, *(use[n] for n in USE_COLUMNS)] for meter, use in document["meters"].items()
        )
        head = ["METER", *(name.replace("_", " ").upper() for name in USE_COLUMNS)]
        print_table(head, rows)
    click.echo()
    print_items(document["lines"], LINE_COLUMNS, as_json=False)
    click.echo()
    if document["spending_cap"] is not None:
        click.echo(f"spending cap: {document['spending_cap']} {document['currency']}")
    click.echo(f"total: {document['total']} {document['currency']}")
