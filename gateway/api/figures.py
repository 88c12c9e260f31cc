"""What an account has used and has left, right now: balances, breakdown, rate limits.

One answer for the caller's own usage and for the operator's. Live figures come
from the hot state, the breakdown by operation from the store's rollups.
Invariant: for each meter the operations add up to `used` while the store keeps
up, and used + in_flight + remaining = limit unless it is in overage. Blocks;
must not run on the loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.api.operations import Hot, Place
from gateway.core.book import Meter
from gateway.core.instants import iso
from gateway.core.limits import RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.units import json_amount, percent
from gateway.state.base import AccountState
from gateway.store.reports import OperationRow, UsageRows, read_usage

# A summary waits this long for the account's last event to reach the store.
SHIP_WAIT_S = 0.5


@dataclass(slots=True)
class Asker:
    """Whose rate limits are shown; a state.base.Ask that asks for nothing."""

    account: AccountState
    key_id: str
    user: str
    project: str
    source: str
    subjects: frozenset[str]  # of the limits that can be shown
    time_us: int
    route_name: str = ""
    limits: tuple[RateLimit, ...] = ()
    charges: Charges = ()
    counted: tuple[Counted, ...] = ()
    event_id: str = ""
    request_id: str = ""


class MeterFigures(NamedTuple):
    """One meter's balance at a moment; `limit` None is without one."""

    meter: Meter
    start_us: int
    end_us: int
    used: int
    held: int
    topped_up: int
    limit: int | None
    remaining: int | None
    overage: bool


def usage_document(place: Place, asker: Asker) -> dict[str, Any]:
    """The whole answer: account, plan, meters, rate_limits."""
    state = asker.account
    is_current = place.wait_shipped(SHIP_WAIT_S, state.last_seq)
    periods = [
        (f.meter.name, f.start_us)
        for f in place.hot(lambda hot: meter_figures(hot, state, asker.time_us))
    ]
    rows = place.read(lambda connection: read_usage(connection, state.account.id, periods))

    def build(hot: Hot) -> dict[str, Any]:
        figures = meter_figures(hot, state, asker.time_us)
        return {
            "account": state.account.id,
            "plan": state.plan.name,
            "meters": {f.meter.name: _meter_document(f, rows, is_current) for f in figures},
            "rate_limits": _rate_limits(hot, asker),
        }

    return place.hot(build)


def meter_figures(hot: Hot, state: AccountState, now_us: int) -> list[MeterFigures]:
    """Meters of the plan, and others that something was used of, in the book's order."""
    in_plan = {allowance.meter for allowance in state.plan.allowances}
    figures = []
    for meter in hot.book.meters.values():
        balance = hot.state.balance(state, meter.name, now_us)
        if meter.name not in in_plan and not balance.used and not balance.held:
            continue
        limit = None if balance.granted is None else balance.granted + balance.topped_up
        figures.append(
            MeterFigures(
                meter,
                balance.span.start_us,
                balance.span.end_us,
                balance.used,
                balance.held,
                balance.topped_up,
                limit,
                balance.remaining,
                balance.overage,
            )
        )
    return figures


def _meter_document(figures: MeterFigures, rows: UsageRows, is_current: bool) -> dict[str, Any]:
    """What is shown as used is the sum of the operations beside it.

    What has been settled since the store was read counts as in flight. A store that lags
    behind is not asked: then `used` is live, and the operations are what it has.
    """
    period = (figures.meter.name, figures.start_us)
    operations = [row for row in rows.operations if (row.meter, row.period_us) == period]
    stored = sum(row.amount for row in operations)
    used = min(stored, figures.used) if is_current else figures.used
    in_flight = figures.held + figures.used - used

    def amount(value: int) -> int | str:
        return json_amount(value, figures.meter.decimals)

    limit = figures.limit
    return {
        "title": figures.meter.title or figures.meter.name,
        "used": amount(used),
        "in_flight": amount(in_flight),
        "remaining": None if figures.remaining is None else amount(figures.remaining),
        "limit": None if limit is None else amount(limit),
        "topped_up": amount(figures.topped_up),
        "overage": amount(0 if limit is None else max(used - limit, 0)),
        "when_exhausted": _when_exhausted(figures),
        "period": {"start": iso(figures.start_us), "end": iso(figures.end_us)},
        "operations": [_operation(row, used, figures.meter) for row in operations],
    }


def _operation(row: OperationRow, used: int, meter: Meter) -> dict[str, Any]:
    return {
        "operation": row.operation,
        "events": row.events,
        "amount": json_amount(row.amount, meter.decimals),
        "percent": float(percent(row.amount, used)),
    }


def _when_exhausted(figures: MeterFigures) -> str | None:
    if figures.limit is None:
        return None
    return "overage" if figures.overage else "block"


def _rate_limits(hot: Hot, asker: Asker) -> list[dict[str, Any]]:
    """Limits of everybody and of the plan, as they stand for this caller."""
    limits: Iterable[RateLimit] = (*hot.book.limits, *asker.account.plan.limits)
    return [_rate_limit(hot, limit, asker) for limit in limits if limit.subject in asker.subjects]


def _rate_limit(hot: Hot, limit: RateLimit, asker: Asker) -> dict[str, Any]:
    figures = hot.state.figures(limit, asker)
    is_rate = limit.period_us > 0
    return {
        "name": limit.name,
        "kind": "rate" if is_rate else "concurrency",
        "per": limit.subject,
        "limit": figures.limit,
        "used": figures.used,
        "remaining": figures.remaining,
        "period_s": limit.period_us // 1_000_000 if is_rate else None,
        "resets_at": iso(figures.reset_us) if is_rate else None,
    }
