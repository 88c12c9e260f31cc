"""The ledger: top-ups, grants, bundles, adjustments and refunds of an account.

Invariant: every change of what an account has is an entry that says what, why,
who and when; one id is one entry, however often it is sent, and the same id
with other values is refused. A negative amount takes back, never more than is
left. Must not know HTTP.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from typing import Any

from gateway.api.fields import Fields, count_parser, expiry_parser, parse_any_text, parse_moment_us
from gateway.api.figures import bundle_document
from gateway.api.operations import PAGE_FIELDS, Call, Change, Hot, Operations, Paging, Reply
from gateway.api.problem import ApiProblem, expected, unknown_name
from gateway.config.fields import parse_text
from gateway.config.problems import Expected
from gateway.core.book import Account, Book, Bundle, Meter
from gateway.core.instants import iso
from gateway.core.ledger import OWN_LOT, Balance
from gateway.core.money import format_micro
from gateway.core.rows import EntryKind, LedgerEntry
from gateway.core.units import json_amount, parse_amount
from gateway.state.base import AccountState
from gateway.store.ledger import find_entry, insert_entry, list_entries
from gateway.store.lookups import find_event

PRIORITY_MAX = 1_000
REPEATS = ("hour", "day", "week", "month")


def list_ledger(ops: Operations, call: Call) -> Reply:
    """Every change of what an account has, newest first."""
    fields = Fields(call.query, ("account", *PAGE_FIELDS), "parameter")
    account = ops.account(fields.need("account", parse_any_text))
    paging = Paging.of(fields)
    before = None if paging.after == "" else _parse_cursor(paging.after)
    rows = ops.place.read(
        lambda c: list_entries(c, account.id, before=before, limit=paging.limit + 1)
    )
    book = ops.book
    shown = [entry_document(row, book) for row in rows[: paging.limit]]
    more = len(rows) > paging.limit
    last = rows[paging.limit - 1] if more else None
    return Reply(200, {"items": shown, "next": f"{last.time_us}.{last.id}" if last else None})


def create_topup(ops: Operations, call: Call) -> Reply:
    """Add units to the current period; a negative amount takes back what was topped up."""
    fields = Fields(call.body, ("account", "meter", "amount", "reason", "id"), "field")
    account, meter = _account_and_meter(ops, fields)
    amount = _amount(fields, meter)
    period_us = _limited_period_us(ops, account, meter)
    entry = _entry(
        ops, call, fields, account, meter, kind="topup", amount=amount, period_us=period_us
    )
    return _record(ops, call, "account.topup", [entry], check=_refuse_overdrawn_topup)


def show_bundles(ops: Operations, call: Call) -> Reply:
    """What the account's plan offers."""
    Fields(call.query, (), "parameter")
    account = ops.account(call.params["account"])
    plan = ops.place.hot(lambda hot: hot.directory.plan_of(account))
    items = [bundle_document(bundle, ops.book) for bundle in plan.bundles]
    return Reply(200, {"items": items, "next": None})


def create_grant(ops: Operations, call: Call) -> Reply:
    """Give units of their own: promotional, or given anew in each period (`every`)."""
    names = ("account", "meter", "amount", "reason", "id", "starts", "expires", "priority", "every")
    fields = Fields(call.body, names, "field")
    account, meter = _account_and_meter(ops, fields)
    amount = _positive(fields, meter)
    now_us = ops.place.now_us()
    every = fields.get("every", _parse_repeat, "")
    starts_us = fields.get("starts", parse_moment_us, now_us)
    expires_us = fields.get("expires", expiry_parser(now_us), None)
    if expires_us is not None and expires_us <= starts_us:
        raise expected("expires", "an instant after `starts`", call.body.get("expires"))
    entry = _entry(
        ops, call, fields, account, meter,
        kind="recurring" if every else "promotion", amount=amount, starts_us=starts_us,
        expires_us=expires_us, every=every,
        priority=fields.get("priority", count_parser(0, PRIORITY_MAX), 0),
    )  # fmt: skip
    return _record(ops, call, "account.grant", [entry])


def buy_bundle(ops: Operations, call: Call) -> Reply:
    """Add one of the bundles that the account's plan offers, at its price."""
    fields = Fields(call.body, ("account", "bundle", "reason", "id"), "field")
    account = ops.account(fields.need("account", parse_any_text))
    bundle = _bundle(ops, account, fields.need("bundle", parse_any_text))
    now_us = ops.place.now_us()
    entry = _entry(
        ops, call, fields, account, ops.book.meters[bundle.meter],
        kind="bundle", amount=bundle.amount, price_micro=bundle.price_micro,
        expires_us=None if bundle.valid_us is None else now_us + bundle.valid_us,
    )  # fmt: skip
    if not entry.reason:
        entry = entry._replace(reason=bundle.title or bundle.name)
    return _record(ops, call, "account.bundle", [entry])


def create_adjustment(ops: Operations, call: Call) -> Reply:
    """Correct what an account has, with a reason: the current period's units, or a lot's."""
    fields = Fields(call.body, ("account", "meter", "amount", "reason", "id", "lot"), "field")
    account, meter = _account_and_meter(ops, fields)
    amount = _amount(fields, meter)
    fields.need("reason", parse_text)
    lot = fields.get("lot", parse_any_text, OWN_LOT)
    period_us = _limited_period_us(ops, account, meter) if lot == OWN_LOT else 0
    entry = _entry(
        ops, call, fields, account, meter,
        kind="adjustment", amount=amount, lot=lot, period_us=period_us,
    )  # fmt: skip
    return _record(ops, call, "account.adjustment", [entry], hot_check=_refuse_below_used)


def create_refund(ops: Operations, call: Call) -> Reply:
    """Give back what an event was charged, once: to the current period of each meter."""
    fields = Fields(call.body, ("account", "event", "reason"), "field")
    account = ops.account(fields.need("account", parse_any_text))
    event_id = fields.need("event", parse_any_text)
    ops.place.wait_shipped(2.0)
    event = ops.place.read(lambda c: find_event(c, account.id, event_id))
    if event is None:
        raise ApiProblem("not_found", f"account {account.id!r} has no event {event_id!r}")
    charged: dict[str, int] = {}
    for charge in event.charges:
        if not charge.lot.startswith("@"):
            charged[charge.meter] = charged.get(charge.meter, 0) + charge.amount
    book = ops.book
    limited = {
        m: n for m, n in charged.items() if m in book.meters and _is_limited(ops, account, m)
    }
    if not limited:
        raise expected("event", "an event that was charged for a limited meter", event_id)
    entries = [
        _entry(
            ops, call, fields, account, book.meters[meter], kind="refund", amount=amount,
            period_us=_limited_period_us(ops, account, book.meters[meter]),
            entry_id=f"refund:{event_id}:{meter}",
        )
        for meter, amount in limited.items()
    ]  # fmt: skip
    return _record(ops, call, "account.refund", entries)


def entry_document(entry: LedgerEntry, book: Book) -> dict[str, Any]:
    meter = book.meters.get(entry.meter, Meter(entry.meter))
    return {
        "id": entry.id,
        "account": entry.account,
        "meter": entry.meter,
        "kind": entry.kind,
        "amount": json_amount(entry.amount, meter.decimals),
        "lot": entry.lot or None,
        "period_start": iso(entry.period_us) if entry.lot == OWN_LOT else None,
        "starts": iso(entry.starts_us),
        "expires": None if entry.expires_us is None else iso(entry.expires_us),
        "priority": entry.priority,
        "every": entry.every or None,
        "price": format_micro(entry.price_micro),
        "reason": entry.reason,
        "actor": entry.actor,
        "time": iso(entry.time_us),
    }


def _entry(
    ops: Operations,
    call: Call,
    fields: Fields,
    account: Account,
    meter: Meter,
    *,
    kind: EntryKind,
    amount: int,
    lot: str | None = None,
    period_us: int = 0,
    starts_us: int | None = None,
    expires_us: int | None = None,
    priority: int = 0,
    every: str = "",
    price_micro: int = 0,
    entry_id: str = "",
) -> LedgerEntry:
    """An entry made now by this operator; without a lot it brings one, or the period's own."""
    now_us = ops.place.now_us()
    if not entry_id:
        given = fields.get("id", parse_text, call.idempotency_key) if "id" in fields else ""
        entry_id = given or call.idempotency_key or secrets.token_hex(12)
    if lot is None:
        lot = OWN_LOT if kind in ("topup", "adjustment", "refund") else entry_id
    return LedgerEntry(
        id=entry_id,
        account=account.id,
        meter=meter.name,
        kind=kind,
        lot=lot,
        period_us=period_us,
        amount=amount,
        starts_us=now_us if starts_us is None else starts_us,
        expires_us=expires_us,
        priority=priority,
        every=every,
        price_micro=price_micro,
        reason=fields.get("reason", parse_text, ""),
        actor=call.operator.name,
        time_us=now_us,
    )


Check = Callable[[sqlite3.Connection, LedgerEntry], None]
HotCheck = Callable[[Hot, LedgerEntry, int], None]


def _record(
    ops: Operations,
    call: Call,
    action: str,
    entries: list[LedgerEntry],
    *,
    check: Check | None = None,
    hot_check: HotCheck | None = None,
) -> Reply:
    """Write the entries, or find those that were made with their ids; tell the hot state."""
    book = ops.book
    now_us = ops.place.now_us()

    def insert(c: sqlite3.Connection) -> tuple[tuple[list[LedgerEntry], bool], Change | None]:
        stored, is_new = [], False
        for entry in entries:
            if check is not None and find_entry(c, entry.id) is None:
                check(c, entry)
            try:
                made, made_now = insert_entry(c, entry)
            except ValueError as exc:
                raise ApiProblem("idempotency_conflict", str(exc)) from None
            stored.append(made)
            is_new = is_new or made_now
        documents = [entry_document(entry, book) for entry in stored]
        after = documents[0] if len(documents) == 1 else documents
        change = Change(action, entries[0].account, None, after) if is_new else None
        return (stored, is_new), change

    with ops.place.exclusive():
        if hot_check is not None:
            ids = [e for e in entries if not ops.place.read(lambda c, e=e: find_entry(c, e.id))]  # type: ignore[misc]
            for entry in ids:
                ops.place.hot(lambda hot, entry=entry: hot_check(hot, entry, now_us))  # type: ignore[misc]
        stored, is_new = ops.change(call, insert)
        ops.place.hot(lambda hot: _tell(hot, stored))
    documents = [entry_document(entry, book) for entry in stored]
    document = documents[0] if len(documents) == 1 else {"items": documents}
    return Reply(201 if is_new else 200, document)


def _tell(hot: Hot, entries: list[LedgerEntry]) -> None:
    for entry in entries:
        state = hot.state.loaded(entry.account)
        if state is not None:
            hot.state.apply_entry(state, entry)


def _refuse_overdrawn_topup(connection: sqlite3.Connection, entry: LedgerEntry) -> None:
    """What is taken back must have been topped up in this period."""
    if entry.amount >= 0:
        return
    period = (entry.meter, "topup", entry.period_us)
    made = list_entries(connection, entry.account)
    added = sum(e.amount for e in made if (e.meter, e.kind, e.period_us) == period)
    if added + entry.amount < 0:
        raise ApiProblem(
            "invalid_parameter",
            "amount: expected to take back no more than was topped up in this period",
            parameter="amount",
        )


def _refuse_below_used(hot: Hot, entry: LedgerEntry, now_us: int) -> None:
    """What is taken back must be there, neither used nor held."""
    state = _state(hot, entry.account)
    balance = hot.state.balance(state, entry.meter, now_us)
    if entry.lot != OWN_LOT:
        lot = next((lot for lot in balance.lots if lot.id == entry.lot), None)
        if lot is None:
            raise expected("lot", "a lot of this account and meter that is valid now", entry.lot)
        free = min(lot.left, balance.remaining or 0)
    else:
        free = max(0, balance.own_left - balance.held)
    if entry.amount < 0 and free + entry.amount < 0:
        raise ApiProblem(
            "invalid_parameter",
            f"amount: expected to take back at most {free} of what is left",
            parameter="amount",
        )


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
        text = f"the plan {account.plan!r} of account {account.id!r} sells no bundles"
        raise ApiProblem("forbidden", text)
    if found is None:
        raise unknown_name(
            "bundle", "a bundle of the account's plan", name, [b.name for b in bundles]
        )
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


def _parse_cursor(text: str) -> tuple[int, str]:
    time_us, _, entry_id = text.partition(".")
    if not time_us.isdigit() or len(time_us) > 18 or not entry_id:
        raise ApiProblem("invalid_parameter", "cursor: expected the `next` of an earlier page")
    return int(time_us), entry_id


def _is_limited(ops: Operations, account: Account, meter: str) -> bool:
    plan = ops.place.hot(lambda hot: hot.directory.plan_of(account))
    return any(allowance.meter == meter for allowance in plan.allowances)


def _limited_period_us(ops: Operations, account: Account, meter: Meter) -> int:
    """The start of the current period of a meter that the account's plan limits."""
    if not _is_limited(ops, account, meter.name):
        raise expected(
            "meter",
            f"a meter that the plan of account {account.id!r} limits",
            meter.name,
            "there is nothing to top up",
        )
    now_us = ops.place.now_us()

    def find(hot: Hot) -> Balance:
        return hot.state.balance(_state(hot, account.id), meter.name, now_us)

    return ops.place.hot(find).span.start_us


def _state(hot: Hot, account_id: str) -> AccountState:
    state = hot.directory.account_state(account_id)
    assert state is not None, "the account was found"
    return state
