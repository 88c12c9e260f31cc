"""`tallygate usage`, `events` and `audit`: what was counted, and is it right?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.asking import path_of
from gateway.cli.options import Failed, config_option, json_option
from gateway.cli.output import cell_text, line_text, print_json, print_table

if TYPE_CHECKING:
    from gateway.cli.office import Office
    from gateway.cli.remote import RemoteOffice

# A page may end early when a filter lets little through.
PAGES_MAX = 25
EVENT_HEAD = ("TIME", "ACCOUNT", "KEY", "METHOD", "PATH", "STATUS", "OUTCOME", "CHARGES", "MS")
# Lines come one by one, so the columns cannot follow the widest cell.
EVENT_WIDTHS = (27, 12, 20, 6, 30, 6, 16, 16, 8)
FILTERS = ("from", "to", "user", "project", "key", "operation", "route", "outcome", "meter")


@click.command(short_help="Show what an account has used.")
@click.argument("account")
@config_option
@json_option
def usage(account: str, config: Path, as_json: bool) -> None:
    """Show what ACCOUNT has used and has left in its current periods."""
    from gateway.cli.office import open_office

    with open_office(config, reads=True) as office:
        document = office.call("GET", path_of("usage", account))
    if as_json:
        print_json(document)
    else:
        _print_usage(document)


@click.command(short_help="Show metered requests; --follow waits for more.")
@click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--account", help="Of this account only.")
@click.option("--from", "from_", metavar="INSTANT", help="Admitted at or after, e.g. 2026-01-05.")
@click.option("--to", metavar="INSTANT", help="Admitted before.")
@click.option("--user")
@click.option("--project")
@click.option("--key", help="Id of a key.")
@click.option("--operation")
@click.option("--route")
@click.option("--outcome", help="charged, free, upstream_error, client_gone ...")
@click.option("--meter", help="Charged in this meter.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@config_option
@json_option
def events(
    follow: bool, limit: int, from_: str | None, config: Path, as_json: bool, **given: str | None
) -> None:
    """Show the latest metered requests, oldest first.

    With --json each event is one line. --follow goes on when the gateway was started anew.
    """
    from gateway.cli.office import open_office
    from gateway.cli.remote import RemoteOffice

    filters = {name: value for name, value in {**given, "from": from_}.items() if value is not None}
    with open_office(config, reads=True) as office:
        live = office if isinstance(office, RemoteOffice) else None
        if follow and live is None:
            raise Failed("no gateway runs on this data directory: nothing will follow")
        shown, after = _latest(office, filters, limit)
        if not as_json:
            click.echo(line_text(EVENT_HEAD, EVENT_WIDTHS))
        _print_events(shown, as_json)
        if follow and live is not None:
            try:
                _follow(live, filters, after, {item["id"] for item in shown}, as_json)
            except KeyboardInterrupt:
                sys.exit(0)


@click.command(short_help="Prove balances and rollups from the events.")
@config_option
@json_option
def audit(config: Path, as_json: bool) -> None:
    """Recompute balances and rollups from the events, and compare.

    Exit codes: 0 everything agrees, 1 it does not.
    """
    from gateway.cli.office import open_office

    with open_office(config, reads=True) as office:
        document = office.call("GET", "/audit")
    if as_json:
        print_json(document)
    else:
        _print_audit(document)
    sys.exit(0 if document["clean"] else 1)


def _latest(
    office: Office, filters: Mapping[str, str], limit: int
) -> tuple[list[dict[str, Any]], str]:
    """The last events that the filters let through, oldest first, and where newer ones begin."""
    items: list[dict[str, Any]] = []
    query = dict(filters)
    after = ""
    for _ in range(PAGES_MAX):
        page = office.call("GET", "/events", query={**query, "limit": str(limit - len(items))})
        items += page["items"]
        after = after or page["follow"]
        if page["next"] is None and page["removed_until"] and len(items) < limit:
            click.echo(f"events before {page['removed_until']} were removed", err=True)
        if page["next"] is None or len(items) >= limit:
            break
        query["cursor"] = page["next"]
    return items[::-1], after


def _follow(
    office: RemoteOffice, filters: Mapping[str, str], after: str, shown: set[str], as_json: bool
) -> None:
    from gateway.cli.following import newer_events

    for items in newer_events(office, filters, after):
        _print_events([item for item in items if item["id"] not in shown], as_json)


def _print_events(items: list[dict[str, Any]], as_json: bool) -> None:
    for item in items:
        if as_json:
            print_json(item, indent=None)
            continue
        charges = ", ".join(f"{meter}={amount}" for meter, amount in item["charges"].items())
        cells = (
            *(item["time"], item["account"], item["key"], item["method"], item["path"]),
            *(item["status"], item["outcome"], charges, f"{item['duration_ms']:.1f}"),
        )
        click.echo(line_text([cell_text(cell) for cell in cells], EVENT_WIDTHS))


def _print_usage(document: dict[str, Any]) -> None:
    click.echo(f"account {document['account']}, plan {document['plan'] or '-'}")
    meters: dict[str, dict[str, Any]] = document["meters"]
    names = ("used", "in_flight", "remaining", "limit", "topped_up", "when_exhausted")
    head = ["METER", *(name.replace("_", " ").upper() for name in names), "FROM", "TO"]
    rows = (
        [meter, *(m[name] for name in names), m["period"]["start"], m["period"]["end"]]
        for meter, m in meters.items()
    )
    click.echo()
    print_table(head, rows)
    operations = [
        (meter, row["operation"], row["events"], row["amount"], f"{row['percent']}%")
        for meter, m in meters.items()
        for row in m["operations"]
    ]
    if operations:
        click.echo()
        print_table(("METER", "OPERATION", "EVENTS", "AMOUNT", "SHARE"), operations)
    if document["rate_limits"]:
        names = ("name", "per", "used", "remaining", "limit", "resets_at")
        click.echo()
        head = [name.replace("_", " ").upper() for name in names]
        print_table(head, ([row[name] for name in names] for row in document["rate_limits"]))


def _print_audit(document: dict[str, Any]) -> None:
    whose = f" of worker {document['worker']} of {document['workers']}"
    checked = (
        f"{document['events']:,} events, {document['charges']:,} charges, "
        f"{document['rollups']:,} rollups, {document['balances']:,} balances, "
        f"{document['counters']:,} live counters{whose * (document['workers'] > 1)}"
        f"{_up_to(document['seq'])} in {document['duration_ms'] / 1000:.1f} s"
    )
    if document["clean"]:
        click.echo(f"clean: {checked}")
        return
    rows = [[d["table"], d["row"], d["expected"], d["found"]] for d in document["differences"]]
    click.echo(f"not clean: {len(rows)} differences in {checked}")
    print_table(("TABLE", "ROW", "EXPECTED", "FOUND"), rows)


def _up_to(seq: int) -> str:
    """Of one journal its record; where a database knows several, the figure says nothing."""
    from gateway.store.checks import JOURNAL_SPAN

    return f", up to record {seq:,}" if seq < JOURNAL_SPAN else ""
