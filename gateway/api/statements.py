"""History, breakdown, invoice and daily overage of an account, as documents.

One answer for the caller's own and for the operator's. Everything comes from
the store, up to the account's last event, and from core/statement.py. Blocks;
must not run on the loop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.api.fields import Fields, count_parser, parse_any_text, parse_moment_us
from gateway.api.operations import SHIP_WAIT_S, Place
from gateway.api.problem import ApiProblem, expected, unknown_name
from gateway.config.problems import Expected
from gateway.core.book import Account, Book, Meter, OverageRate
from gateway.core.instants import iso
from gateway.core.invoice import Invoice, Line, MeterUse
from gateway.core.money import NOTHING, format_cents, format_micro, whole_micro
from gateway.core.periods import EVER_US, MONTH
from gateway.core.statement import PERIODS_MAX, PeriodFigures
from gateway.core.units import json_amount, percent
from gateway.state.base import AccountState
from gateway.store.database import Database
from gateway.store.reports import OperationRow
from gateway.store.sums import Dimension, read_periods, read_sums
from gateway.usage.billing import MeterBill, Month, month_of, read_bills, read_invoice
from gateway.usage.records import Records, read_records

PERIODS_DEFAULT = 13  # the present one and twelve before it
_MONTH = re.compile(r"(19[7-9]\d|[2-9]\d\d\d)-(0[1-9]|1[0-2])", re.ASCII)
DIMENSIONS: tuple[Dimension, ...] = ("operation", "project", "user", "key", "route", "service")


def history_document(
    place: Place, state: AccountState, book: Book, fields: Fields, now_us: int
) -> dict[str, Any]:
    """Periods of one meter, newest first. Parameters: meter, periods."""
    account, plan = state.account, state.plan
    names = [a.meter for a in plan.allowances]
    meter = known_meter(fields, book, names or list(book.meters))
    count = fields.get("periods", count_parser(1, PERIODS_MAX), PERIODS_DEFAULT)
    place.wait_shipped(SHIP_WAIT_S)
    records = place.read(lambda c: read_records(c, account, plan))
    figures = records.books(meter).history(now_us, count)
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
        "allowance": amount(row.granted) if row.is_limited else None,
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
    meter = known_meter(fields, book, list(book.meters))
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
    account, plan = state.account, state.plan
    name = _parse_month(fields, account, now_us)
    meters = book.meters_ever()
    place.wait_shipped(SHIP_WAIT_S)

    def read(connection: Database) -> tuple[Month, Invoice]:
        records = read_records(connection, account, plan)
        month = _month(records, name)
        invoice = read_invoice(connection, records, meters, month, now_us, book.money_rounding)
        return month, invoice

    month, invoice = place.read(read)
    span = month.span
    return {
        "account": account.id,
        "month": name,
        "period": {"start": iso(span.start_us), "end": iso(span.end_us)},
        "is_final": span.end_us <= min(now_us, _first_open_us(place, account)),
        "plan": invoice.plan.name,
        "billing": invoice.plan.billing,
        "seats": invoice.seats,
        "currency": "USD",
        "meters": {use.meter.name: _use_document(use) for use in invoice.uses},
        "lines": [_line_document(line, book) for line in invoice.lines],
        "spending_cap": None if invoice.cap_micro is None else format_micro(invoice.cap_micro),
        "total": format_cents(invoice.total_cents),
    }


def _line_document(line: Line, book: Book) -> dict[str, Any]:
    units = json_amount(line.units, book.decimals_of(line.meter)) if line.meter else line.units
    return {
        "kind": line.kind,
        "title": line.title,
        "meter": line.meter or None,
        "units": units if line.meter or line.kind == "seats" else None,
        "amount": format_cents(line.cents),
        "exact": format_micro(whole_micro(line.cost_micro)),
    }


def _use_document(use: MeterUse) -> dict[str, Any]:
    def amount(value: int) -> int | str:
        return json_amount(value, use.meter.decimals)

    return {
        "title": use.meter.title or use.meter.name,
        "included": amount(use.included),
        "used": amount(use.used + use.lots_used),
        "from_lots": amount(use.lots_used),
        "remaining": amount(use.remaining),
        "overage": amount(use.overage),
        "overdraft": amount(use.overdraft),
        "overage_cost": format_micro(whole_micro(use.cost_micro)),
        "rate": rate_document(use.rate, use.meter),
    }


def rate_document(rate: OverageRate | None, meter: Meter) -> dict[str, Any] | None:
    """Money for units past the grants; None where they have no price."""
    if rate is None:
        return None
    return {
        "price": format_micro(rate.price_micro),
        "per": json_amount(rate.units, meter.decimals),
        "rounding": rate.rounding,
    }


def overage_document(
    place: Place, state: AccountState, book: Book, fields: Fields, now_us: int
) -> dict[str, Any]:
    """Billable overage by meter and day of a month, of the days that are over.

    `id` is the same whenever the day is told, and so are its figures: a day is over when all
    its requests have ended. So a report that is repeated or was interrupted never bills
    twice. Raises ApiProblem when the store lags behind.
    """
    account, plan = state.account, state.plan
    name = _parse_month(fields, account, now_us)
    until_us = min(now_us, _first_open_us(place, account))
    if not place.wait_shipped(SHIP_WAIT_S):  # what has ended since then is in the store too
        raise ApiProblem("store_unavailable", "events are not in the store yet; try again")
    meters = book.meters_ever()

    def read(connection: Database) -> tuple[Month, list[MeterBill]]:
        records = read_records(connection, account, plan)
        month = _month(records, name)
        days = [day_us for day_us in month.days if day_us <= until_us]
        return month, read_bills(connection, records, meters, month, days, now_us)

    month, bills = place.read(read)
    items = [row for bill in bills for row in _day_documents(account, bill, month)]
    return {"account": account.id, "month": name, "items": items, "next": None}


def _day_documents(account: Account, bill: MeterBill, month: Month) -> list[dict[str, Any]]:
    """The days that added to a meter's bill. Their amounts sum to the invoice's `exact`."""
    items = []
    told = NOTHING
    for day_us, (units, cost) in sorted(bill.days.items()):
        day = month.date(day_us)
        micro = whole_micro(told + cost) - whole_micro(told)
        told += cost
        items.append(
            {
                "id": f"overage:{account.id}:{bill.meter.name}:{day}",
                "day": day,
                "meter": bill.meter.name,
                "units": json_amount(units, bill.meter.decimals),
                "amount": format_micro(micro),
            }
        )
    return items


def _first_open_us(place: Place, account: Account) -> int:
    """When the oldest of the account's requests in flight was admitted."""
    return min((h.time_us for h in place.holds() if h.account == account.id), default=EVER_US)


def _month(records: Records, name: str) -> Month:
    """Raises ApiProblem for a month in which the account was not there."""
    month = month_of(records, name)
    if month.span.end_us <= records.terms[0].from_us:
        raise expected("month", "a month in which the account was there", name)
    return month


def _parse_month(fields: Fields, account: Account, now_us: int) -> str:
    """YYYY-MM, default the current one in the account's time zone. Raises ApiProblem."""
    now = MONTH.span(now_us, 0, account.timezone)
    current = iso((now.start_us + now.end_us) // 2)[:7]
    name = fields.get("month", parse_any_text, current)
    if not _MONTH.fullmatch(name) or name > current:
        raise expected("month", "a month such as 2026-03, none to come", name)
    return name


def known_meter(fields: Fields, book: Book, usual: Sequence[str]) -> Meter:
    """The meter that is asked for; where one only is usual, it need not be named."""
    only = usual[0] if len(set(usual)) == 1 else ""
    name = fields.get("meter", parse_any_text, only)
    if name not in book.meters:
        raise unknown_name("meter", "a meter", name, list(book.meters))
    return book.meters[name]


def _parse_dimension(value: object) -> Dimension:
    """One of DIMENSIONS. Raises Expected."""
    for dimension in DIMENSIONS:
        if value == dimension:
            return dimension
    raise Expected(f"one of {', '.join(DIMENSIONS)}")
