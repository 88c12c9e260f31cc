"""`tallygate topup`, `grant`, `bundle`, `adjust`, `refund` and `ledger`: an account's units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from gateway.cli.asking import ask, given, path_of, print_document, print_items
from gateway.cli.options import config_option, json_option

ENTRY_COLUMNS = ("time", "kind", "meter", "amount", "lot", "expires", "price", "reason", "actor")
OFFER_COLUMNS = ("name", "title", "meter", "amount", "price", "per_dollar", "badge", "savings")
# So that a negative AMOUNT is not taken for an option.
NEGATIVE = {"ignore_unknown_options": True}

Command = TypeVar("Command", bound=Callable[..., object])


def _why_options(command: Command) -> Command:
    """What every entry of the ledger may have."""
    named = click.option("--id", "entry_id", help="Names it: the same id again adds nothing.")
    return click.option("--reason", help="Why, for the record.")(named(command))


@click.command(short_help="Add units to an account's current period.", context_settings=NEGATIVE)
@click.argument("account")
@click.argument("meter")
@click.argument("amount")
@_why_options
@config_option
@json_option
def topup(
    account: str,
    meter: str,
    amount: str,
    reason: str | None,
    entry_id: str | None,
    config: Path,
    as_json: bool,
) -> None:
    """Add AMOUNT of METER to the current period of ACCOUNT; negative takes back."""
    body = given(account=account, meter=meter, amount=amount, reason=reason, id=entry_id)
    print_document(ask(config, "POST", "/topups", body), as_json)


@click.command(short_help="Give units of their own: promotional or recurring.")
@click.argument("account")
@click.argument("meter")
@click.argument("amount")
@click.option("--starts", help="An instant or date. Default: now.")
@click.option("--expires", help="A duration (30d), an instant or a date. Default: never.")
@click.option("--priority", type=int, help="Of lots that expire together the lower burns first.")
@click.option(
    "--every",
    type=click.Choice(["hour", "day", "week", "month"]),
    help="Given anew in each such period, and gone with it.",
)
@_why_options
@config_option
@json_option
def grant(
    account: str,
    meter: str,
    amount: str,
    entry_id: str | None,
    config: Path,
    as_json: bool,
    **options: object,
) -> None:
    """Give AMOUNT of METER to ACCOUNT, beside its allowance."""
    body = given(account=account, meter=meter, amount=amount, id=entry_id, **options)
    print_document(ask(config, "POST", "/grants", body), as_json)


@click.command(short_help="List the bundles that an account may buy, or add one.")
@click.argument("account")
@click.argument("bundle", required=False)
@_why_options
@config_option
@json_option
def bundle(
    account: str,
    bundle: str | None,
    reason: str | None,
    entry_id: str | None,
    config: Path,
    as_json: bool,
) -> None:
    """Add BUNDLE to ACCOUNT, at its price; without BUNDLE, list what its plan offers."""
    if bundle is None:
        offers = ask(config, "GET", path_of("accounts", account, "bundles"))["items"]
        print_items(offers, OFFER_COLUMNS, as_json)
        return
    body = given(account=account, bundle=bundle, reason=reason, id=entry_id)
    print_document(ask(config, "POST", "/bundles", body), as_json)


@click.command(short_help="Correct what an account has.", context_settings=NEGATIVE)
@click.argument("account")
@click.argument("meter")
@click.argument("amount")
@click.option("--reason", required=True, help="Why, for the record.")
@click.option("--lot", help="Id of the entry that brought the units. Default: the current period.")
@click.option("--id", "entry_id", help="Names it: the same id again changes nothing.")
@config_option
@json_option
def adjust(
    account: str,
    meter: str,
    amount: str,
    reason: str,
    lot: str | None,
    entry_id: str | None,
    config: Path,
    as_json: bool,
) -> None:
    """Add AMOUNT of METER to what ACCOUNT has; negative takes back, if it is still there."""
    body = given(account=account, meter=meter, amount=amount, reason=reason, lot=lot, id=entry_id)
    print_document(ask(config, "POST", "/adjustments", body), as_json)


@click.command(short_help="Give back what an event was charged.")
@click.argument("account")
@click.argument("event")
@click.option("--reason", help="Why, for the record.")
@config_option
@json_option
def refund(account: str, event: str, reason: str | None, config: Path, as_json: bool) -> None:
    """Give back what EVENT (its id) of ACCOUNT was charged; a second time changes nothing."""
    body = given(account=account, event=event, reason=reason)
    print_items(ask(config, "POST", "/refunds", body)["items"], ENTRY_COLUMNS, as_json)


@click.command(short_help="Show every change of what an account has.")
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@config_option
@json_option
def ledger(account: str, limit: int, config: Path, as_json: bool) -> None:
    """Show the latest changes of what ACCOUNT has, newest first: what, why, who, when."""
    found = ask(config, "GET", "/ledger", query={"account": account, "limit": str(limit)})
    print_items(found["items"], ENTRY_COLUMNS, as_json)
