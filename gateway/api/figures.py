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
from gateway.core.book import Book, Bundle, Meter, OverageRate
from gateway.core.instants import iso
from gateway.core.ledger import Balance
from gateway.core.limits import RateLimit
from gateway.core.money import MICRO, format_micro, overage_micro
from gateway.core.periods import EVER_US, Span
from gateway.core.pricing import Charges, Counted
from gateway.core.statement import projected
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
    used: int  # from every lot
    held: int
    topped_up: int
    limit: int | None  # of the period's own lot
    remaining: int | None
    overage: bool
    over: int  # used past every grant
    cost_micro: int | None  # of the overage, holds included; None where it costs nothing
    lots: tuple[tuple[str, str, int, int, int], ...]  # id, kind, amount, used, expires_us
    caps: tuple[tuple[str, int, int, int], ...]  # period, amount, used, end_us
    status: int
    rate: OverageRate | None


def usage_document(place: Place, asker: Asker) -> dict[str, Any]:
    """The whole answer: account, plan, terms, meters, rate_limits."""
    state = asker.account
    is_current = place.wait_shipped(SHIP_WAIT_S, state.last_seq)
    periods = [
        (f.meter.name, f.start_us)
        for f in place.hot(lambda hot: meter_figures(hot, state, asker.time_us))
    ]
    rows = place.read(lambda connection: read_usage(connection, state.account.id, periods))

    def build(hot: Hot) -> dict[str, Any]:
        figures = meter_figures(hot, state, asker.time_us)
        cost = sum(f.cost_micro or 0 for f in figures)
        return {
            "account": state.account.id,
            "title": state.account.title,
            "plan": state.plan.name,
            **_terms(hot.book, state, cost),
            "meters": {
                f.meter.name: _meter_document(f, rows, is_current, asker.time_us) for f in figures
            },
            "rate_limits": _rate_limits(hot, asker),
        }

    return place.hot(build)


def _terms(book: Book, state: AccountState, cost_micro: int) -> dict[str, Any]:
    """Plan and what is the account's own."""
    account, plan = state.account, state.plan
    cap = account.cap_micro
    return {
        "plan_title": plan.title or plan.name,
        "billing": plan.billing,
        "seats": account.seats,
        "overage": any(a.on_exhausted == "overage" for a in plan.allowances),
        "spending_cap": None if cap is None else format_micro(cap),
        "spending_cap_reached": cap is not None and cost_micro >= cap,
        "overage_cost": format_micro(cost_micro),
        "settings": {name: account.setting(entry) for name, entry in book.settings.items()},
        "bundles": [bundle_document(bundle, book) for bundle in plan.bundles],
    }


def bundle_document(bundle: Bundle, book: Book) -> dict[str, Any]:
    """An offer, with its rate: units for a dollar."""
    meter = book.meters[bundle.meter]
    per_dollar = bundle.amount * MICRO // bundle.price_micro if bundle.price_micro else None
    return {
        "name": bundle.name,
        "title": bundle.title,
        "badge": bundle.badge or None,
        "meter": bundle.meter,
        "amount": json_amount(bundle.amount, meter.decimals),
        "price": format_micro(bundle.price_micro),
        "per_dollar": None if per_dollar is None else json_amount(per_dollar, meter.decimals),
        "savings": bundle.savings or None,
    }


def meter_figures(hot: Hot, state: AccountState, now_us: int) -> list[MeterFigures]:
    """Meters of the plan, and others that something was used of, in the book's order."""
    in_plan = {allowance.meter for allowance in state.plan.allowances}
    figures = []
    for meter in hot.book.meters.values():
        balance = hot.state.balance(state, meter.name, now_us)
        if meter.name not in in_plan and not balance.used and not balance.held:
            continue
        figures.append(_figures_of(meter, balance))
    return figures


def _figures_of(meter: Meter, balance: Balance) -> MeterFigures:
    lots = [(t.id, t.kind, t.amount, t.used, t.expires_us) for t in balance.lots]
    caps = [(cap.lot[1:], cap.granted or 0, cap.used, cap.span.end_us) for cap in balance.caps]
    return MeterFigures(
        meter,
        balance.span.start_us,
        balance.span.end_us,
        balance.used,
        balance.held,
        balance.topped_up,
        balance.limit,
        balance.remaining,
        balance.overage,
        balance.over,
        balance.cost_micro() if balance.rate is not None else None,
        tuple(lots),
        tuple(caps),
        balance.status,
        balance.rate,
    )


def _meter_document(
    figures: MeterFigures, rows: UsageRows, is_current: bool, now_us: int
) -> dict[str, Any]:
    """What is shown as used is the sum of the operations beside it.

    What has been settled since the store was read counts as in flight. A store that lags
    behind is not asked: then `used` is live, and the operations are what it has.
    """
    period = (figures.meter.name, figures.start_us)
    operations = [row for row in rows.operations if (row.meter, row.period_us) == period]
    stored = sum(row.amount for row in operations)
    in_period = [r for r in rows.balances if (r.meter, r.period_us) == period]
    from_lots = sum(row.used for row in in_period if row.lot and row.lot[0] != "@")
    live = figures.used + from_lots
    used = min(stored, live) if is_current else live
    in_flight = figures.held + live - used

    def amount(value: int) -> int | str:
        return json_amount(value, figures.meter.decimals)

    limit = figures.limit
    span = Span(figures.start_us, figures.end_us)
    ahead = projected(used, span, now_us)
    granted = (limit or 0) + from_lots + sum(left for *_, left in _lots_left(figures))
    over_ahead = max(0, ahead - granted) if limit is not None else 0
    return {
        "title": figures.meter.title or figures.meter.name,
        "used": amount(used),
        "in_flight": amount(in_flight),
        "remaining": None if figures.remaining is None else amount(figures.remaining),
        "limit": None if limit is None else amount(limit),
        "topped_up": amount(figures.topped_up),
        "overage": amount(figures.over),
        "overage_cost": None if figures.cost_micro is None else format_micro(figures.cost_micro),
        "when_exhausted": _when_exhausted(figures),
        "period": {"start": iso(figures.start_us), "end": iso(figures.end_us)},
        "projected": amount(ahead),
        "projected_overage": amount(over_ahead),
        "projected_overage_cost": None
        if figures.rate is None
        else format_micro(overage_micro(figures.rate, over_ahead)),
        "thresholds": _thresholds(figures, used),
        "lots": [
            {
                "id": lot_id,
                "kind": kind,
                "amount": amount(total),
                "left": amount(max(0, total - gone)),
                "expires": None if expires_us >= EVER_US else iso(expires_us),
            }
            for lot_id, kind, total, gone, expires_us in figures.lots
        ],
        "further_limits": [
            {"per": per, "limit": amount(most), "used": amount(gone), "resets_at": iso(end_us)}
            for per, most, gone, end_us in figures.caps
        ],
        "operations": [_operation(row, used, figures.meter) for row in operations],
    }


def _lots_left(figures: MeterFigures) -> list[tuple[str, int]]:
    return [(lot_id, max(0, total - gone)) for lot_id, _, total, gone, _ in figures.lots]


def _thresholds(figures: MeterFigures, used: int) -> list[str]:
    """What an operator would tell the account's people, once each in a period."""
    limit = figures.limit
    if limit is None:
        return []
    reached = [f"{at}%" for at in (80, 100) if used * 100 >= limit * at and (limit or used)]
    if "100%" in reached:
        reached.append("overage_started" if figures.overage else "quota_exceeded")
    return reached


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
