"""What an account has used: rows of the store, shaped for its owner.

Pure: the instant and the rows are given, amounts leave as exact decimals. Invariant: the
operations of a meter add up to its `used`, since both come from one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.book import Account, Allowance, Meter, Plan
from gateway.core.periods import Span
from gateway.core.rows import BalanceRow
from gateway.core.units import json_amount
from gateway.store.reports import OperationRow, UsageRows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def current_periods(
    account: Account, plan: Plan | None, meters: Mapping[str, Meter], now_us: int
) -> list[tuple[str, int]]:
    """(meter, period_us) of every meter now; 0 where the plan has no allowance of it."""
    spans = {a.meter: a.period.span(now_us, account.anchor_us) for a in _allowances(plan)}
    return [(name, spans[name].start_us if name in spans else 0) for name in meters]


def summarize(
    account: Account,
    plan: Plan | None,
    meters: Mapping[str, Meter],
    rows: UsageRows,
    now_us: int,
) -> dict[str, Any]:
    """The usage of the current periods, ready for JSON.

    A meter that the plan does not mention and nothing was used of is left out.
    """
    allowances = {allowance.meter: allowance for allowance in _allowances(plan)}
    shown = []
    for name, period_us in current_periods(account, plan, meters, now_us):
        balance = _balance(rows.balances, name, period_us)
        allowance = allowances.get(name)
        if allowance is None and not balance.used:
            continue
        span = allowance.period.span(now_us, account.anchor_us) if allowance else None
        operations = [o for o in rows.operations if (o.meter, o.period_us) == (name, period_us)]
        shown.append(_meter(meters[name], allowance, span, balance, operations))
    return {
        "account": account.id,
        "plan": account.plan,
        "time": iso(now_us),
        "meters": shown,
    }


def iso(time_us: int) -> str:
    """RFC 3339 in UTC, microseconds only where there are any."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def percent(part: int, whole: int) -> str:
    """With one decimal, rounded half up; "0.0" of nothing."""
    tenths = (part * 2_000 + whole) // (2 * whole) if whole else 0
    return f"{tenths // 10}.{tenths % 10}"


def _allowances(plan: Plan | None) -> tuple[Allowance, ...]:
    return plan.allowances if plan else ()


def _balance(rows: Iterable[BalanceRow], meter: str, period_us: int) -> BalanceRow:
    for row in rows:
        if (row.meter, row.period_us) == (meter, period_us):
            return row
    return BalanceRow(meter, period_us, 0, 0)


def _meter(
    meter: Meter,
    allowance: Allowance | None,
    span: Span | None,
    balance: BalanceRow,
    operations: list[OperationRow],
) -> dict[str, Any]:
    def amount(value: int) -> int | str:
        return json_amount(value, meter.decimals)

    shown: dict[str, Any] = {
        "meter": meter.name,
        "title": meter.title or meter.name,
        "decimals": meter.decimals,
        "used": amount(balance.used),
        "topped_up": amount(balance.topped_up),
    }
    if allowance and span:
        limit = allowance.amount + balance.topped_up
        shown |= {
            "allowance": amount(allowance.amount),
            "limit": amount(limit),
            "remaining": amount(max(limit - balance.used, 0)),
            "overage": amount(max(balance.used - limit, 0)),
            "when_exhausted": allowance.on_exhausted,
            "period": {
                "kind": allowance.period.kind,
                "start": iso(span.start_us),
                "end": iso(span.end_us),
            },
        }
    shown["operations"] = [
        {
            "operation": row.operation,
            "count": row.events,
            "amount": amount(row.amount),
            "percent": percent(row.amount, balance.used),
        }
        for row in operations
    ]
    return shown
