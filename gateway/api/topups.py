"""Top-ups: units added to an account's current period of a meter.

Invariant: one id is one top-up, however often it is sent; the same id with
other values is refused. A negative amount takes back, never more than was added.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Any

from gateway.api.fields import Fields, parse_any_text
from gateway.api.operations import Call, Change, Hot, Operations, Reply
from gateway.api.problem import ApiProblem, expected, unknown_name
from gateway.config.fields import parse_text
from gateway.core.book import Account, Book, Meter
from gateway.core.instants import iso
from gateway.core.units import json_amount, parse_amount
from gateway.store.base import Topup
from gateway.store.mutations import insert_topup, list_topups

FIELDS = ("account", "meter", "amount", "reason", "id")


def show_topups(ops: Operations, call: Call) -> Reply:
    """An account's top-ups, oldest first."""
    fields = Fields(call.query, ("account",), "parameter")
    account = ops.account(fields.need("account", parse_any_text))
    rows = ops.place.read(lambda connection: list_topups(connection, account.id))
    book = ops.book
    return Reply(200, {"items": [topup_document(row, book) for row in rows], "next": None})


def create_topup(ops: Operations, call: Call) -> Reply:
    """Add units to the current period. Body: FIELDS; amount is decimal text.

    The Idempotency-Key header, or `id`, names the top-up: 201 when it is new, 200 with
    what was made before when it is not.
    """
    fields = Fields(call.body, FIELDS, "field")
    book = ops.book
    account = ops.account(fields.need("account", parse_any_text))
    meter = _meter(fields.need("meter", parse_any_text), book)
    topup_id = fields.get("id", parse_text, call.idempotency_key) or secrets.token_hex(12)
    topup = Topup(
        id=topup_id,
        account=account.id,
        meter=meter.name,
        period_us=_current_period_us(ops, account, meter),
        amount=_amount(fields, meter),
        reason=fields.get("reason", parse_text, ""),
        actor=call.operator.name,
        time_us=ops.place.now_us(),
    )
    with ops.place.exclusive():
        stored, is_new = ops.change(call, lambda connection: _insert(connection, topup, book))
        ops.place.hot(lambda hot: _tell(hot, stored))
    return Reply(201 if is_new else 200, topup_document(stored, book))


def topup_document(topup: Topup, book: Book) -> dict[str, Any]:
    meter = book.meters.get(topup.meter, Meter(topup.meter))
    return {
        "id": topup.id,
        "account": topup.account,
        "meter": topup.meter,
        "amount": json_amount(topup.amount, meter.decimals),
        "period_start": iso(topup.period_us),
        "reason": topup.reason,
        "actor": topup.actor,
        "time": iso(topup.time_us),
    }


def _insert(
    connection: sqlite3.Connection, topup: Topup, book: Book
) -> tuple[tuple[Topup, bool], Change | None]:
    """Make the top-up, or find the one that was made with its id."""
    for made in list_topups(connection, topup.account):
        if made.id == topup.id:
            # A repetition may come after its period has ended: what was made, stays.
            if (made.meter, made.amount) != (topup.meter, topup.amount):
                raise _used(topup)
            return (made, False), None
    _refuse_overdraft(connection, topup)
    try:
        insert_topup(connection, topup)
    except ValueError:
        raise _used(topup) from None
    change = Change("account.topup", topup.account, None, topup_document(topup, book))
    return (topup, True), change


def _refuse_overdraft(connection: sqlite3.Connection, topup: Topup) -> None:
    """What is taken back must have been added in this period."""
    if topup.amount >= 0:
        return
    period = (topup.meter, topup.period_us)
    added = sum(
        made.amount
        for made in list_topups(connection, topup.account)
        if (made.meter, made.period_us) == period
    )
    if added + topup.amount < 0:
        raise ApiProblem(
            "invalid_parameter",
            "amount: expected to take back no more than was topped up in this period",
            parameter="amount",
        )


def _used(topup: Topup) -> ApiProblem:
    text = f"top-up {topup.id!r} was made before with another account, meter or amount"
    return ApiProblem("idempotency_conflict", text)


def _meter(name: str, book: Book) -> Meter:
    if name not in book.meters:
        raise unknown_name("meter", "a meter", name, book.meters)
    return book.meters[name]


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


def _current_period_us(ops: Operations, account: Account, meter: Meter) -> int:
    """The start of the period that is topped up."""

    def find(hot: Hot) -> int | None:
        plan = hot.directory.plan_of(account)
        if all(allowance.meter != meter.name for allowance in plan.allowances):
            return None
        state = hot.directory.account_state(account.id)
        assert state is not None, "the account was found"
        return hot.state.balance(state, meter.name, ops.place.now_us()).span.start_us

    period_us = ops.place.hot(find)
    if period_us is None:
        raise expected(
            "meter",
            f"a meter that the plan of account {account.id!r} limits",
            meter.name,
            "there is nothing to top up",
        )
    return period_us


def _tell(hot: Hot, topup: Topup) -> None:
    """Bring the live balance to what the store has.

    Not by adding the amount: the balance may have been loaded after the top-up was
    committed, and then has it already.
    """
    state = hot.state.loaded(topup.account)
    balance = state.balances.get(topup.meter) if state is not None else None
    if state is None or balance is None or balance.span.start_us != topup.period_us:
        return
    for row in hot.store.balances(topup.account):
        if (row.meter, row.period_us) == (topup.meter, topup.period_us):
            missing = row.topped_up - balance.topped_up
            hot.state.top_up(state, topup.meter, missing, topup.period_us)
