"""Why the hot state refuses: every limit that was looked at, and which one spoke.

Order: rate and concurrency limits as they stand in the configuration, then
budgets in the order of the price, then further allowances, then the spending
cap. The first that refuses is the reason. Must not change anything.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.core.ledger import Balance
from gateway.core.limits import Counter
from gateway.core.periods import EVER_US
from gateway.core.refusals import Evaluated, Refusal

_CODES = {
    "rate": "rate_limited",
    "concurrency": "concurrency_limited",
    "budget": "budget_exhausted",
    "spending": "spending_cap_reached",
}


def refusal_of(rows: list[Evaluated], balances: list[Balance], now_us: int) -> Refusal:
    """Let the first row that refuses speak. `balances` are those the budget rows are of."""
    first = next(row for row in rows if row.refused)
    shown = tuple(
        row if row is first or not row.refused else replace(row, refused=False) for row in rows
    )
    status = None
    if first.kind == "budget":
        status = next(b.status for b in balances if _name(b) == first.name)
    # Never earlier than the reset: rounded up, and at least a second.
    wait_s = None
    if first.reset_us < EVER_US:
        wait_s = max(1, -(-(first.reset_us - now_us) // 1_000_000))
    return Refusal(_CODES[first.kind], status=status, retry_after_s=wait_s, limits=shown)


def counter_row(counter: Counter, now_us: int) -> Evaluated:
    figures = counter.figures(now_us)
    return Evaluated(
        name=counter.limit.name,
        kind="concurrency" if counter.limit.algorithm == "concurrency" else "rate",
        limit=figures.limit,
        used=figures.used,
        remaining=figures.remaining,
        reset_us=figures.reset_us,
        refused=not counter.fits(now_us),
    )


def balance_row(balance: Balance, amount: int) -> Evaluated:
    """A budget; lots beside the period count as part of its limit."""
    limit = balance.limit
    used = balance.used + balance.held
    if limit is not None and balance.lots:
        used += sum(lot.used for lot in balance.lots)
        limit += sum(max(lot.amount, lot.used) for lot in balance.lots)
    return Evaluated(
        name=balance.meter,
        kind="budget",
        limit=limit,
        used=used,
        remaining=balance.remaining,
        reset_us=balance.span.end_us,
        refused=not balance.fits(amount),
        meter=balance.meter,
    )


def cap_row(cap: Balance, amount: int) -> Evaluated:
    """A further allowance: `coins@day`."""
    return replace(balance_row(cap, amount), name=_name(cap))


def _name(balance: Balance) -> str:
    return balance.meter + balance.lot
