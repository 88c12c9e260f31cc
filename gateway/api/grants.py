"""What changes an account's units: top-ups, grants, bundles, adjustments, refunds.

Each makes entries of the ledger (gateway/api/ledger.py) and nothing else. The
id of an entry is the Idempotency-Key, or the body's `id`: whoever sends the
same again adds nothing. Must not know HTTP.
"""

from __future__ import annotations

import re
import secrets

from gateway.api.fields import (
    Fields,
    count_parser,
    expiry_parser,
    parse_any_text,
    parse_moment_us,
    parse_value,
)
from gateway.api.figures import bundle_document
from gateway.api.ledger import entry_document, record, record_one, state_of
from gateway.api.operations import SHIP_WAIT_S, Call, Hot, Operations, Reply
from gateway.api.problem import ApiProblem, expected, unknown_name
from gateway.config.fields import parse_text
from gateway.config.problems import Expected
from gateway.core.book import Account, Bundle, Meter
from gateway.core.events import Event
from gateway.core.instants import iso
from gateway.core.rows import OWN_LOT, EntryKind, LedgerEntry, is_cap_lot
from gateway.core.units import parse_amount
from gateway.store.database import Database
from gateway.store.ledger import find_entry, list_entries
from gateway.store.lookups import find_event, time_of_id
from gateway.store.removal import removed_until_us

PRIORITY_MAX = 1_000
REPEATS = ("hour", "day", "week", "month")
# "GRANT@1767225600000000" is how one lot of a recurring grant is called.
_LOT_OF_GRANT = re.compile(r".*@[0-9]+", re.ASCII | re.DOTALL)


def show_bundles(ops: Operations, call: Call) -> Reply:
    """What the account's plan offers."""
    Fields(call.query, (), "parameter")
    account = ops.account(call.params["account"])
    plan = ops.place.hot(lambda hot: hot.directory.plan_of(account))
    items = [bundle_document(bundle, ops.book) for bundle in plan.bundles]
    return Reply(200, {"items": items, "next": None})


def create_topup(ops: Operations, call: Call) -> Reply:
    """Add units to the current period; a negative amount takes back what was topped up."""
    fields = Fields(call.body, ("account", "meter", "amount", "reason", "id"), "field")
    account, meter = _account_and_meter(ops, fields)
    amount = _amount(fields, meter)
    period_us = _limited_period_us(ops, account, meter)
    entry = _entry(ops, call, fields, account, meter, "topup", amount)
    return record_one(
        ops,
        call,
        "account.topup",
        entry._replace(lot=OWN_LOT, period_us=period_us),
        _refuse_overdrawn_topup,
    )


def create_grant(ops: Operations, call: Call) -> Reply:
    """Give units of their own: promotional, or given anew in each period (`every`)."""
    names = ("account", "meter", "amount", "reason", "id", "starts", "expires", "priority", "every")
    fields = Fields(call.body, names, "field")
    account, meter = _account_and_meter(ops, fields)
    amount = _positive(fields, meter)
    every = fields.get("every", _parse_repeat, "")
    kind: EntryKind = "recurring" if every else "promotion"
    entry = _entry(ops, call, fields, account, meter, kind, amount)
    starts_us = fields.get("starts", parse_moment_us, entry.time_us)
    expires_us = fields.get("expires", expiry_parser(entry.time_us), None)
    if expires_us is not None and expires_us <= starts_us:
        raise expected("expires", "an instant after `starts`", call.body.get("expires"))
    entry = entry._replace(
        every=every,
        starts_us=starts_us,
        expires_us=expires_us,
        priority=fields.get("priority", count_parser(0, PRIORITY_MAX), 0),
    )
    return record_one(ops, call, "account.grant", entry)


def buy_bundle(ops: Operations, call: Call) -> Reply:
    """Add one of the bundles that the account's plan offers, at its price."""
    fields = Fields(call.body, ("account", "bundle", "reason", "id"), "field")
    account = ops.account(fields.need("account", parse_any_text))
    bundle = _bundle(ops, account, fields.need("bundle", parse_any_text))
    meter = ops.book.meters[bundle.meter]
    entry = _entry(ops, call, fields, account, meter, "bundle", bundle.amount)
    entry = entry._replace(
        price_micro=bundle.price_micro,
        expires_us=None if bundle.valid_us is None else entry.time_us + bundle.valid_us,
        reason=entry.reason or bundle.title or bundle.name,
    )
    return record_one(ops, call, "account.bundle", entry)


def create_adjustment(ops: Operations, call: Call) -> Reply:
    """Correct what an account has, with a reason: the current period's units, or a lot's."""
    fields = Fields(call.body, ("account", "meter", "amount", "reason", "id", "lot"), "field")
    account, meter = _account_and_meter(ops, fields)
    amount = _amount(fields, meter)
    fields.need("reason", parse_text)
    lot = fields.get("lot", parse_any_text, OWN_LOT)
    period_us = _limited_period_us(ops, account, meter) if lot == OWN_LOT else 0
    entry = _entry(ops, call, fields, account, meter, "adjustment", amount)
    return record_one(ops, call, "account.adjustment", entry._replace(lot=lot, period_us=period_us))


def create_refund(ops: Operations, call: Call) -> Reply:
    """Give back what an event was charged, once: to the lots that paid while they are valid,

    else to the current period.
    """
    fields = Fields(call.body, ("account", "event", "reason"), "field")
    account = ops.account(fields.need("account", parse_any_text))
    event_id = fields.need("event", parse_any_text)
    ops.place.wait_shipped(SHIP_WAIT_S)
    event = ops.place.read(lambda c: find_event(c, account.id, event_id))
    if event is None:
        raise ApiProblem("not_found", _missing(ops, account, event_id))
    entries = [
        entry
        for (meter, lot), amount in _charged(event).items()
        if (entry := _refund(ops, call, fields, account, event, meter, lot, amount)) is not None
    ]
    if not entries:
        raise expected("event", "an event that was charged for a limited meter", event_id)
    made, is_new = record(ops, call, "account.refund", entries)
    book = ops.book
    items = [entry_document(entry, book) for entry in made]
    return Reply(201 if is_new else 200, {"items": items, "next": None})


def _missing(ops: Operations, account: Account, event_id: str) -> str:
    """Why there is no such event; an old one may have left the store."""
    text = f"account {account.id!r} has no event {event_id!r}"
    until_us, time_us = ops.place.read(removed_until_us), time_of_id(event_id)
    if until_us is None or time_us is None or time_us >= until_us:
        return text
    return f"{text}; events before {iso(until_us)} were removed"


def _charged(event: Event) -> dict[tuple[str, str], int]:
    """What each lot of each meter paid; further allowances only counted."""
    paid: dict[tuple[str, str], int] = {}
    for charge in event.charges:
        if not is_cap_lot(charge.lot):
            key = (charge.meter, charge.lot)
            paid[key] = paid.get(key, 0) + charge.amount
    return paid


def _refund(
    ops: Operations,
    call: Call,
    fields: Fields,
    account: Account,
    event: Event,
    meter_name: str,
    lot: str,
    amount: int,
) -> LedgerEntry | None:
    """The entry that gives back what one lot paid; None where nothing is limited."""
    entry_id = f"refund:{event.id}:{meter_name}" + (f":{lot}" if lot else "")
    made = ops.place.read(lambda c: find_entry(c, entry_id))
    if made is not None:
        return made  # as it was: since then a lot may have ended, or the plan have changed
    meter = ops.book.meters.get(meter_name)
    if meter is None:
        return None
    entry = _entry(ops, call, fields, account, meter, "refund", amount, entry_id)
    if lot and _is_valid(ops, account, meter, lot):
        return entry._replace(lot=lot)
    if not _is_limited(ops, account, meter):
        return None
    return entry._replace(lot=OWN_LOT, period_us=_limited_period_us(ops, account, meter))


def _entry(
    ops: Operations,
    call: Call,
    fields: Fields,
    account: Account,
    meter: Meter,
    kind: EntryKind,
    amount: int,
    entry_id: str = "",
) -> LedgerEntry:
    """An entry made now by this operator that brings a lot of its own, without an end."""
    now_us = ops.place.now_us()
    entry_id = entry_id or _entry_id(call, fields)
    return LedgerEntry(
        id=entry_id,
        account=account.id,
        meter=meter.name,
        kind=kind,
        lot=entry_id,
        period_us=0,
        amount=amount,
        starts_us=now_us,
        expires_us=None,
        priority=0,
        every="",
        price_micro=0,
        reason=fields.get("reason", parse_text, ""),
        actor=call.operator.name,
        time_us=now_us,
    )


def _entry_id(call: Call, fields: Fields) -> str:
    """The body's `id`, the Idempotency-Key, or one that nobody else has."""
    if "id" in fields:
        return fields.need("id", _parse_entry_id)
    if call.idempotency_key:
        return parse_value("Idempotency-Key", call.idempotency_key, _parse_entry_id)
    return secrets.token_hex(12)


def _parse_entry_id(value: object) -> str:
    text = parse_text(value)
    if is_cap_lot(text) or _LOT_OF_GRANT.fullmatch(text):
        raise Expected("a text that neither begins with '@' nor ends in '@' and digits")
    return text


def _refuse_overdrawn_topup(connection: Database, entry: LedgerEntry) -> None:
    """What is taken back must have been topped up in this period."""
    if entry.amount >= 0:
        return
    period = (entry.meter, "topup", entry.period_us)
    made = list_entries(connection, entry.account)
    added = sum(e.amount for e in made if (e.meter, e.kind, e.period_us) == period)
    if added + entry.amount < 0:
        text = "amount: expected to take back no more than was topped up in this period"
        raise ApiProblem("invalid_parameter", text, parameter="amount")


# -- what is asked for ------------------------------------------------------------


def _account_and_meter(ops: Operations, fields: Fields) -> tuple[Account, Meter]:
    account = ops.account(fields.need("account", parse_any_text))
    name = fields.need("meter", parse_any_text)
    meters = ops.book.meters
    if name not in meters:
        raise unknown_name("meter", "a meter", name, meters)
    return account, meters[name]


def _bundle(ops: Operations, account: Account, name: str) -> Bundle:
    bundles = ops.place.hot(lambda hot: hot.directory.plan_of(account)).bundles
    found = next((bundle for bundle in bundles if bundle.name == name), None)
    if found is None and not bundles:
        text = f"the plan {account.plan!r} of account {account.id!r} offers no bundles"
        raise ApiProblem("forbidden", text)
    if found is None:
        names = [bundle.name for bundle in bundles]
        raise unknown_name("bundle", "a bundle of the account's plan", name, names)
    return found


def _positive(fields: Fields, meter: Meter) -> int:
    amount = _amount(fields, meter)
    if amount < 0:
        raise expected("amount", "an amount above 0; an adjustment takes back", amount)
    return amount


def _amount(fields: Fields, meter: Meter) -> int:
    text = fields.need("amount", _parse_amount_text)
    try:
        amount = parse_amount(text, meter.decimals)
    except ValueError as exc:
        raise ApiProblem("invalid_parameter", f"amount: {exc}", parameter="amount") from None
    if amount == 0:
        raise expected("amount", "an amount that is not 0", text)
    return amount


def _parse_amount_text(value: object) -> str:
    """Decimal text; a JSON integer is as exact. A JSON fraction may not be."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise expected(
            "amount", 'decimal text such as "0.25"', value, "a JSON number may be inexact"
        )
    return parse_any_text(value)


def _parse_repeat(value: object) -> str:
    if value not in REPEATS:
        raise Expected(f"one of {', '.join(REPEATS)}")
    return str(value)


def _is_limited(ops: Operations, account: Account, meter: Meter) -> bool:
    plan = ops.place.hot(lambda hot: hot.directory.plan_of(account))
    return any(allowance.meter == meter.name for allowance in plan.allowances)


def _is_valid(ops: Operations, account: Account, meter: Meter, lot: str) -> bool:
    """Whether a lot can be used now."""
    now_us = ops.place.now_us()

    def find(hot: Hot) -> bool:
        balance = hot.state.balance(state_of(hot, account.id), meter.name, now_us)
        return any(one.id == lot for one in balance.lots)

    return ops.place.hot(find)


def _limited_period_us(ops: Operations, account: Account, meter: Meter) -> int:
    """The start of the current period of a meter that the account's plan limits."""
    if not _is_limited(ops, account, meter):
        raise expected(
            "meter",
            f"a meter that the plan of account {account.id!r} limits",
            meter.name,
            "there is nothing to top up",
        )
    now_us = ops.place.now_us()

    def find(hot: Hot) -> int:
        balance = hot.state.balance(state_of(hot, account.id), meter.name, now_us)
        return balance.span.start_us

    return ops.place.hot(find)
