"""What an account has used and has left, right now: balances, breakdown, rate limits.

One answer for the caller's own usage and for the operator's. Live figures come
from the hot state, the breakdown by operation from the store's rollups.
Invariant: for each meter the operations add up to `used` while the store keeps
up, and used + in_flight + remaining = limit + lots unless it is past its grants.
What overage costs is what the invoice would say now. Blocks; must not run on
the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from gateway.api.operations import Hot, Place
from gateway.core.book import Book, Bundle, Meter, OverageRate
from gateway.core.instants import iso
from gateway.core.ledger import Balance
from gateway.core.limits import Figures, RateLimit
from gateway.core.money import MICRO, NOTHING, exact_cost, format_micro, whole_micro
from gateway.core.periods import EVER_US, Span
from gateway.core.pricing import Charges, Counted
from gateway.core.rows import is_cap_lot
from gateway.core.statement import projected
from gateway.core.terms import NOT_ENFORCED
from gateway.core.units import json_amount, percent
from gateway.state.base import AccountState
from gateway.store.database import Database
from gateway.store.reports import OperationRow, UsageRows, read_usage
from gateway.usage.billing import PeriodBill, read_period_bill
from gateway.usage.records import read_records

# A summary waits this long for the account's last event to reach the store.
SUMMARY_WAIT_S = 0.5


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
    used: int  # from the own lot
    held: int
    carried: int
    topped_up: int
    limit: int | None  # of the period's own lot
    remaining: int | None
    overage: bool
    over: int  # used past every grant
    lots: tuple[tuple[str, str, int, int, int], ...]  # id, kind, amount, used, expires_us
    caps: tuple[tuple[str, int, int, int], ...]  # period, amount, used, end_us
    rate: OverageRate | None
    is_enforced: bool  # not by a trial, and not where enforcement is off


class Stored(NamedTuple):
    """What the store says of the meters' periods."""

    rows: UsageRows
    bills: Mapping[str, PeriodBill]  # of meters that are past their grants
    is_current: bool


def usage_document(place: Place, asker: Asker) -> dict[str, Any]:
    """The whole answer: account, plan, terms, meters, rate_limits."""
    state = asker.account
    is_current = place.wait_shipped(SUMMARY_WAIT_S, state.last_seq)
    before = place.hot(lambda hot: meter_figures(hot, state, asker.time_us))
    periods = [(f.meter.name, f.start_us) for f in before]
    rows = place.read(lambda connection: read_usage(connection, state.account.id, periods))
    bills = _bills(place, state, [f.meter for f in before if f.over], asker.time_us)
    stored = Stored(rows, bills, is_current)

    def build(hot: Hot) -> dict[str, Any]:
        figures = meter_figures(hot, state, asker.time_us)
        return {
            "account": state.account.id,
            "title": state.account.title,
            "plan": state.plan.name,
            **_terms(hot, state, stored, asker.time_us),
            "meters": {f.meter.name: _meter_document(f, stored, asker.time_us) for f in figures},
            "rate_limits": _rate_limits(hot, asker),
        }

    return place.hot(build)


def _bills(
    place: Place, state: AccountState, meters: list[Meter], now_us: int
) -> dict[str, PeriodBill]:
    if not meters:
        return {}

    def read(connection: Database) -> dict[str, PeriodBill]:
        records = read_records(connection, state.account, state.plan)
        return {
            meter.name: read_period_bill(connection, records, meter, now_us) for meter in meters
        }

    return place.read(read)


def _terms(hot: Hot, state: AccountState, stored: Stored, now_us: int) -> dict[str, Any]:
    """Plan and what is the account's own."""
    account, plan, book = state.account, state.plan, hot.book
    cap = account.cap_micro
    is_reached = cap is not None and hot.state.spending(state, now_us).is_reached
    cost = sum((bill.cost_micro for bill in stored.bills.values()), NOTHING)
    return {
        "plan_title": plan.title or plan.name,
        "billing": plan.billing,
        "seats": account.seats,
        "overage": any(a.on_exhausted == "overage" for a in plan.allowances),
        "spending_cap": None if cap is None else format_micro(cap),
        "spending_cap_reached": is_reached,
        "overage_cost": format_micro(whole_micro(cost)),
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
    """Meters of the plan, and others that the account used or has lots of, in the book's order."""
    in_plan = {allowance.meter for allowance in state.plan.allowances}
    figures = []
    for meter in hot.book.meters.values():
        balance = hot.state.balance(state, meter.name, now_us)
        if meter.name in in_plan or balance.used or balance.held or balance.lots:
            is_enforced = state.plan.billing not in NOT_ENFORCED
            figures.append(_figures_of(meter, balance, is_enforced))
    return figures


def _figures_of(meter: Meter, balance: Balance, is_enforced: bool) -> MeterFigures:
    lots = [(t.id, t.kind, t.amount, t.used, t.expires_us) for t in balance.lots]
    caps = [(cap.lot[1:], cap.granted or 0, cap.used, cap.span.end_us) for cap in balance.caps]
    return MeterFigures(
        meter,
        balance.span.start_us,
        balance.span.end_us,
        balance.used,
        balance.held,
        balance.carried,
        balance.topped_up,
        balance.limit,
        balance.remaining,
        balance.overage,
        balance.over,
        tuple(lots),
        tuple(caps),
        balance.rate,
        is_enforced,
    )


def _meter_document(figures: MeterFigures, stored: Stored, now_us: int) -> dict[str, Any]:
    """What is shown as used is the sum of the operations beside it.

    What has been settled since the store was read counts as in flight. A store that lags
    behind is not asked: then `used` is live, and the operations are what it has.
    """
    meter, limit = figures.meter, figures.limit
    period = (meter.name, figures.start_us)
    operations = [row for row in stored.rows.operations if (row.meter, row.period_us) == period]
    lots = [r for r in stored.rows.balances if (r.meter, r.period_us) == period and r.lot]
    from_lots = sum(row.used for row in lots if not is_cap_lot(row.lot))
    live = figures.used + from_lots
    used = min(sum(row.amount for row in operations), live) if stored.is_current else live

    def amount(value: int) -> int | str:
        return json_amount(value, meter.decimals)

    return {
        "title": meter.title or meter.name,
        "used": amount(used),
        "in_flight": amount(figures.held + live - used),
        "remaining": None if figures.remaining is None else amount(figures.remaining),
        "limit": None if limit is None else amount(limit),
        "carried_in": amount(figures.carried),
        "topped_up": amount(figures.topped_up),
        "from_lots": amount(from_lots),
        "when_exhausted": _when_exhausted(figures),
        "period": {"start": iso(figures.start_us), "end": iso(figures.end_us)},
        **_overage_document(figures, stored.bills.get(meter.name), used, from_lots, now_us),
        "thresholds": _thresholds(figures, used, from_lots),
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
            {
                "per": per,
                "limit": amount(most),
                "used": amount(gone),
                "remaining": amount(max(0, most - gone)),
                "resets_at": iso(end_us),
            }
            for per, most, gone, end_us in figures.caps
        ],
        "operations": [_operation(row, used, meter) for row in operations],
    }


def _overage_document(
    figures: MeterFigures, bill: PeriodBill | None, used: int, from_lots: int, now_us: int
) -> dict[str, Any]:
    """Past the grants: now, and at the period's end if it goes on like this."""
    limit, rate = figures.limit, figures.rate
    over = 0 if limit is None else max(0, used - from_lots - limit)
    may = figures.overage or (bill is not None and bill.is_allowed)
    ahead = projected(used, Span(figures.start_us, figures.end_us), now_us)
    granted = None if limit is None else _granted(figures, from_lots)
    over_ahead = 0 if granted is None else max(over, ahead - granted)
    unbilled = 0 if bill is None else max(0, over - bill.units)  # a trial's, an estimate's error
    cost = NOTHING if bill is None else bill.cost_micro
    cost_ahead = NOTHING if rate is None else exact_cost(rate, max(0, over_ahead - unbilled))
    amounts = {
        "overage": over if may else 0,
        "overdraft": 0 if may else over,
        "projected": ahead,
        "projected_overage": over_ahead,
    }

    def money(micro: Fraction) -> str | None:
        return None if rate is None else format_micro(whole_micro(micro))

    return {
        **{name: json_amount(value, figures.meter.decimals) for name, value in amounts.items()},
        "overage_cost": money(cost),
        "projected_overage_cost": money(cost_ahead),
    }


def _granted(figures: MeterFigures, from_lots: int) -> int:
    """All that the period has or had: its own, and what lots gave and have left."""
    left = sum(max(0, total - gone) for _, _, total, gone, _ in figures.lots)
    return (figures.limit or 0) + from_lots + left


def _thresholds(figures: MeterFigures, used: int, from_lots: int) -> list[str]:
    """What an operator would tell the account's people, once each in a period."""
    if figures.limit is None:
        return []
    granted = _granted(figures, from_lots)
    reached = [f"{at}%" for at in (80, 100) if used and used * 100 >= granted * at]
    if not figures.is_enforced:
        return reached
    if figures.overage and figures.over:
        reached.append("overage_started")
    if not figures.overage and "100%" in reached:
        reached.append("quota_exceeded")
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
    shown = [limit for limit in limits if limit.subject in asker.subjects]
    figures = hot.state.figures(shown, asker)
    return [_rate_limit(*each) for each in zip(shown, figures, strict=True)]


def _rate_limit(limit: RateLimit, figures: Figures) -> dict[str, Any]:
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
