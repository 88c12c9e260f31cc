"""History, breakdown, invoice and daily overage of an account, as documents.

One answer for the caller's own and for the operator's. Everything comes from
the store, up to the account's last event, and from core/statement.py. Blocks;
must not run on the loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway.api.fields import Fields, count_parser, parse_any_text, parse_moment_us
from gateway.api.operations import Hot, Place
from gateway.api.problem import expected, unknown_name
from gateway.config.problems import Expected
from gateway.core.book import Account, Allowance, Book, Meter, Plan
from gateway.core.instants import iso
from gateway.core.invoice import Invoice, MeterUse, make_invoice
from gateway.core.money import format_cents, format_micro, overage_micro
from gateway.core.periods import MONTH, Period, Span
from gateway.core.rows import BalanceRow, LedgerEntry
from gateway.core.statement import PERIODS_MAX, PeriodFigures, history
from gateway.core.terms import Timeline, effective_plan
from gateway.core.units import json_amount, percent
from gateway.state.base import AccountState
from gateway.store.ledger import account_versions, list_entries, plans_versions
from gateway.store.reports import OperationRow
from gateway.store.sqlite import read_balances
from gateway.store.sums import Dimension, read_periods, read_spans, read_sums

SHIP_WAIT_S = 2.0
PERIODS_DEFAULT = 13  # the present one and twelve before it
DIMENSIONS: tuple[Dimension, ...] = ("operation", "project", "user", "key", "route", "service")


class Records(NamedTuple):
    """What the store has on an account, read in one go."""

    timeline: Timeline
    entries: list[LedgerEntry]
    balances: list[BalanceRow]


def read_records(place: Place, account: Account, last_seq: int | None = None) -> Records:
    """After what has ended has reached the store, or was waited for long enough."""
    place.wait_shipped(SHIP_WAIT_S, last_seq)

    def read(connection: sqlite3.Connection) -> Records:
        timeline = Timeline(account_versions(connection, account.id), plans_versions(connection))
        entries = list_entries(connection, account.id)
        return Records(timeline, entries, read_balances(connection, account.id, 0))

    return place.read(read)


def history_document(
    place: Place, state: AccountState, book: Book, fields: Fields, now_us: int
) -> dict[str, Any]:
    """Periods of one meter, newest first. Parameters: meter, periods."""
    account, plan = state.account, state.plan
    meter = limited_meter(fields, plan, book)
    count = fields.get("periods", count_parser(1, PERIODS_MAX), PERIODS_DEFAULT)
    records = read_records(place, account)
    allowance = _own(plan, meter.name)
    figures = history(
        meter.name, allowance, account, records.timeline, records.entries, records.balances,
        now_us, count,
    )  # fmt: skip
    first_us = figures[0].span.start_us if figures else 0
    _, operations = place.read(
        lambda c: read_periods(c, account.id, meter.name, first_us, now_us + 1)
    )
    items = [_period_document(row, meter, operations) for row in reversed(figures)]
    return {"account": account.id, "meter": meter.name, "items": items, "next": None}


def _period_document(
    row: PeriodFigures, meter: Meter, operations: Sequence[OperationRow]
) -> dict[str, Any]:
    def amount(value: int) -> int | str:
        return json_amount(value, meter.decimals)

    own = [entry for entry in operations if entry.period_us == row.span.start_us]
    return {
        "period": {"start": iso(row.span.start_us), "end": iso(row.span.end_us)},
        "is_over": row.is_over,
        "granted": amount(row.granted_in_all),
        "allowance": amount(row.granted),
        "carried_in": amount(row.carried_in),
        "topped_up": amount(row.topped_up),
        "lots_granted": amount(row.lots_granted),
        "consumed": amount(row.consumed),
        "overage": amount(row.overage),
        "expired": amount(row.expired),
        "carried_out": amount(row.carried_out),
        "utilization": float(percent(row.consumed, row.granted_in_all + row.carried_in)),
        "events": sum(entry.events for entry in own),
        "operations": [
            {
                "operation": entry.operation,
                "events": entry.events,
                "amount": amount(entry.amount),
                "percent": float(percent(entry.amount, row.consumed)),
            }
            for entry in own
        ],
    }


def breakdown_document(
    place: Place, state: AccountState, book: Book, fields: Fields, now_us: int
) -> dict[str, Any]:
    """What each operation, project, user or key used. Parameters: by, meter, from, to.

    Without `from` and `to`: the meter's current period.
    """
    account = state.account
    by: Dimension = fields.get("by", _parse_dimension, DIMENSIONS[0])
    meter = known_meter(fields, book)
    place.wait_shipped(SHIP_WAIT_S, state.last_seq)
    span = place.hot(lambda hot: hot.state.balance(state, meter.name, now_us).span)
    from_us = fields.get("from", parse_moment_us, span.start_us)
    to_us = fields.get("to", parse_moment_us, min(span.end_us, now_us + 1))
    if to_us < from_us:
        raise expected("to", "an instant after `from`", iso(to_us))
    rows = place.read(lambda c: read_sums(c, account.id, from_us, to_us, by, meter.name))
    total = sum(row.amount for row in rows)
    items = [
        {
            by: row.name,
            "events": row.events,
            "amount": json_amount(row.amount, meter.decimals),
            "percent": float(percent(row.amount, total)),
        }
        for row in rows
    ]
    return {
        "account": account.id,
        "meter": meter.name,
        "by": by,
        "from": iso(from_us),
        "to": iso(to_us),
        "total": json_amount(total, meter.decimals),
        "items": items,
        "next": None,
    }


def invoice_document(
    place: Place, state: AccountState, book: Book, fields: Fields, now_us: int
) -> dict[str, Any]:
    """The preview of a calendar month. Parameter: month (YYYY-MM), default the current one."""
    account = state.account
    span = month_span(fields, account, now_us)
    invoice = _invoice(place, state, book, span, now_us)
    decimals = {meter.name: meter.decimals for meter in book.meters.values()}
    lines = [
        {
            "kind": line.kind,
            "title": line.title,
            "meter": line.meter or None,
            "units": json_amount(line.units, decimals.get(line.meter, 0)) if line.meter else None,
            "amount": format_cents(line.cents),
            "exact": format_micro(line.amount_micro),
        }
        for line in invoice.lines
    ]
    return {
        "account": account.id,
        "month": month_name(span, account),
        "period": {"start": iso(span.start_us), "end": iso(span.end_us)},
        "is_final": span.end_us <= now_us,
        "plan": invoice.plan.name,
        "billing": invoice.plan.billing,
        "seats": invoice.seats,
        "currency": "USD",
        "meters": {use.meter.name: _use_document(use) for use in invoice.uses},
        "lines": lines,
        "spending_cap": None if invoice.cap_micro is None else format_micro(invoice.cap_micro),
        "total": format_cents(invoice.total_cents),
    }


def _use_document(use: MeterUse) -> dict[str, Any]:
    decimals = use.meter.decimals
    rate = use.rate
    return {
        "title": use.meter.title,
        "included": json_amount(use.included, decimals),
        "used": json_amount(use.used + use.lots_used, decimals),
        "from_lots": json_amount(use.lots_used, decimals),
        "remaining": json_amount(use.remaining, decimals),
        "overage": json_amount(use.overage, decimals),
        "rate": None
        if rate is None
        else {
            "price": format_micro(rate.price_micro),
            "per": json_amount(rate.units, decimals),
            "rounding": rate.rounding,
        },
    }


def _invoice(place: Place, state: AccountState, book: Book, span: Span, now_us: int) -> Invoice:
    """From the history of the month: what was in force at its end, or is now."""
    records = read_records(place, state.account)
    at_us = min(span.end_us - 1, now_us)
    account = state.account
    plan = state.plan
    if span.end_us <= now_us:
        account = records.timeline.account_at(at_us) or account
        past = records.timeline.plan_at(account.plan, at_us)
        plan = effective_plan(past, account) if past is not None else plan
    uses = [
        _use(book.meters[allowance.meter], allowance, account, records, span, now_us)
        for allowance in _first_allowances(plan)
        if allowance.period == MONTH and allowance.meter in book.meters
    ]
    bundles = [
        entry
        for entry in records.entries
        if entry.price_micro and span.start_us <= entry.time_us < span.end_us
    ]
    return make_invoice(plan, account, uses, bundles[::-1], book.money_rounding)


def _use(
    meter: Meter, allowance: Allowance, account: Account, records: Records, span: Span, now_us: int
) -> MeterUse:
    rows = history(
        meter.name, allowance, account, records.timeline, records.entries, records.balances,
        min(now_us, span.end_us - 1), 1,
    )  # fmt: skip
    figures = rows[0] if rows else PeriodFigures(span, allowance.amount)
    return MeterUse(
        meter,
        figures.limit,
        figures.used,
        figures.lots_used,
        max(0, figures.limit - figures.used),
        figures.overage,
        allowance.overage,
        allowance.overage is not None and _was_overage_on(allowance, records.timeline, span),
    )


def _was_overage_on(allowance: Allowance, timeline: Timeline, span: Span) -> bool:
    """Whether the account could go past its grants at some time of the month."""
    if allowance.on_exhausted == "overage":
        return True
    for n, version in enumerate(timeline.accounts):
        ends_us = timeline.accounts[n + 1].from_us if n + 1 < len(timeline.accounts) else None
        if version.from_us < span.end_us and (ends_us is None or ends_us > span.start_us):
            plan = timeline.plan_at(version.account.plan, min(version.from_us, span.end_us))
            if plan is None:
                continue
            own = effective_plan(plan, version.account).allowances
            if any(a.meter == allowance.meter and a.on_exhausted == "overage" for a in own):
                return True
    return False


def overage_document(
    place: Place, state: AccountState, book: Book, fields: Fields, now_us: int
) -> dict[str, Any]:
    """Billable overage by meter and day of a month, up to yesterday's end.

    `id` is the same whenever the day is reported, so that a report which is
    repeated or was interrupted never bills twice. A day's units are what the
    month's overage grew by on it.
    """
    account = state.account
    span = month_span(fields, account, now_us)
    invoice = _invoice(place, state, book, span, now_us)
    items = []
    for use in invoice.uses:
        if use.rate is None or not use.is_billed or not use.overage:
            continue
        days = _days(span, account, now_us)
        rows = place.read(
            lambda c, m=use.meter.name, d=days: read_spans(c, account.id, m, d)  # type: ignore[misc]
        )
        items += _daily(account, use, [(row.from_us, row.amount) for row in rows])
    return {"account": account.id, "month": month_name(span, account), "items": items, "next": None}


def _daily(account: Account, use: MeterUse, days: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The month's overage, given to the days on which it came about."""
    assert use.rate is not None
    items = []
    used = told_units = told_micro = 0
    for from_us, amount in days:
        used += amount
        units = min(max(0, used - use.included - use.lots_used), use.overage)
        micro = overage_micro(use.rate, units)
        day = iso(from_us)[:10]
        if units > told_units:
            items.append(
                {
                    "id": f"overage:{account.id}:{use.meter.name}:{day}",
                    "day": day,
                    "meter": use.meter.name,
                    "units": json_amount(units - told_units, use.meter.decimals),
                    "amount": format_micro(micro - told_micro),
                }
            )
        told_units, told_micro = units, micro
    return items


def _days(span: Span, account: Account, now_us: int) -> list[int]:
    """The midnights of a month up to today's, which is not over."""
    days = [span.start_us]
    while days[-1] < span.end_us:
        after = Period("day").span(days[-1], 0, account.timezone).end_us
        if after > now_us:
            break
        days.append(after)
    return days


def month_span(fields: Fields, account: Account, now_us: int) -> Span:
    """The month that a parameter names, in the account's time zone."""
    text = fields.get("month", parse_any_text, "")
    if not text:
        return MONTH.span(now_us, 0, account.timezone)
    try:
        moment = datetime.strptime(text, "%Y-%m").replace(day=15, tzinfo=UTC)
    except ValueError:
        raise expected("month", "a month such as 2026-03", text) from None
    return MONTH.span(int(moment.timestamp()) * 1_000_000, 0, account.timezone)


def month_name(span: Span, account: Account) -> str:
    middle_us = (span.start_us + span.end_us) // 2
    return iso(middle_us)[:7]


def known_meter(fields: Fields, book: Book) -> Meter:
    """The meter that is asked for; where there is one only, it need not be named."""
    names = list(book.meters)
    name = fields.get("meter", parse_any_text, names[0] if len(names) == 1 else "")
    if name not in book.meters:
        raise unknown_name("meter", "a meter", name, names)
    return book.meters[name]


def limited_meter(fields: Fields, plan: Plan, book: Book) -> Meter:
    """A meter that the plan has an allowance of; the only one need not be named."""
    names = [allowance.meter for allowance in _first_allowances(plan)]
    name = fields.get("meter", parse_any_text, names[0] if len(names) == 1 else "")
    if name not in names:
        raise unknown_name("meter", "a meter that the plan limits", name, names)
    return book.meters[name]


def _first_allowances(plan: Plan) -> list[Allowance]:
    """The allowance of each meter that its units come from."""
    found: Mapping[str, Allowance] = {a.meter: a for a in reversed(plan.allowances)}
    order = dict.fromkeys(allowance.meter for allowance in plan.allowances)
    return [found[meter] for meter in order]


def _own(plan: Plan, meter: str) -> Allowance:
    return next(a for a in plan.allowances if a.meter == meter)


def _parse_dimension(value: object) -> Dimension:
    """One of DIMENSIONS. Raises Expected."""
    for dimension in DIMENSIONS:
        if value == dimension:
            return dimension
    raise Expected(f"one of {', '.join(DIMENSIONS)}")


def state_of(hot: Hot, account_id: str) -> AccountState:
    """The live state of an account that was found."""
    state = hot.directory.account_state(account_id)
    assert state is not None, "the account was found"
    return state
