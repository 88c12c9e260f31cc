"""What an account was granted, used and lost, period by period.

Question: what stood in the books of a period that is over, or of the present
one? Computed from the ledger, the history of account and plans, and what was
used: so downtime and periods without a call change nothing. Invariant: for
each period, granted + carried in = consumed from the own lot (without overage)
+ expired + carried out + left. Amounts in the meter's smallest unit. Must not
know the clock or the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.core.book import Account, Allowance
from gateway.core.ledger import OWN_LOT
from gateway.core.periods import EVER_US, Period, Span
from gateway.core.rows import BalanceRow, LedgerEntry
from gateway.core.terms import Timeline, allowance_of_past, occurrence

PERIODS_MAX = 400  # of one answer, and how far back unused units are followed


@dataclass(slots=True)
class PeriodFigures:
    """One period of a meter. `granted` is the allowance; the rest came beside it."""

    span: Span
    granted: int  # the allowance
    carried_in: int = 0
    topped_up: int = 0  # entries on the period's own lot
    lots_granted: int = 0  # lots that began in it
    used: int = 0  # from the own lot, overage included
    lots_used: int = 0
    carried_out: int = 0
    own_expired: int = 0
    lots_expired: int = 0
    is_over: bool = True

    @property
    def granted_in_all(self) -> int:
        """What came in: allowance, top-ups and lots; what was carried in came before."""
        return self.granted + self.topped_up + self.lots_granted

    @property
    def consumed(self) -> int:
        return self.used + self.lots_used

    @property
    def expired(self) -> int:
        return self.own_expired + self.lots_expired

    @property
    def limit(self) -> int:
        return self.granted + self.carried_in + self.topped_up

    @property
    def overage(self) -> int:
        return max(0, self.used - self.limit)


def spans_back(period: Period, account: Account, now_us: int, count: int) -> list[Span]:
    """The present period and those before it, oldest first."""
    spans = [period.span(now_us, account.anchor_us, account.timezone)]
    while len(spans) < count and spans[-1].start_us > 0 and period.kind != "ever":
        before = spans[-1].start_us - 1
        spans.append(period.span(before, account.anchor_us, account.timezone))
    return spans[::-1]


def history(
    meter: str,
    allowance: Allowance,
    account: Account,
    timeline: Timeline,
    entries: Sequence[LedgerEntry],
    balances: Iterable[BalanceRow],
    now_us: int,
    count: int,
) -> list[PeriodFigures]:
    """The last `count` periods, oldest first, none from before the account was made."""
    born_us = timeline.accounts[0].from_us if timeline.accounts else 0
    rows = [row for row in balances if row.meter == meter and row.lot[:1] != "@"]
    # What was carried in depends on the periods before those that are asked for.
    wanted = PERIODS_MAX if allowance.rollover else count
    spans = [
        span
        for span in spans_back(allowance.period, account, now_us, max(wanted, count))
        if span.end_us > born_us
    ]
    found: list[PeriodFigures] = []
    for span in spans:
        granted = allowance_of_past(timeline, meter, span) or allowance
        figures = _period(meter, span, granted, entries, rows, now_us)
        if found and found[-1].span.end_us == span.start_us:
            figures.carried_in = found[-1].carried_out
        _close(figures, granted, now_us)
        found.append(figures)
    return found[-count:]


def _period(
    meter: str,
    span: Span,
    allowance: Allowance,
    entries: Sequence[LedgerEntry],
    rows: list[BalanceRow],
    now_us: int,
) -> PeriodFigures:
    figures = PeriodFigures(span, allowance.amount)
    for row in rows:
        if row.period_us == span.start_us:
            if row.lot == OWN_LOT:
                figures.used += row.used
            else:
                figures.lots_used += row.used
    lot_used: dict[str, int] = {}
    for row in rows:
        lot_used[row.lot] = lot_used.get(row.lot, 0) + row.used
    changes: dict[str, int] = {}
    for entry in entries:
        if entry.meter == meter and entry.lot not in (OWN_LOT, entry.id):
            changes[entry.lot] = changes.get(entry.lot, 0) + entry.amount
    for entry in entries:
        if entry.meter != meter:
            continue
        if entry.lot == OWN_LOT:
            figures.topped_up += entry.amount if entry.period_us == span.start_us else 0
        elif entry.lot == entry.id:
            for lot_id, amount, starts_us, ends_us in _occurrences(entry, span):
                amount += changes.get(lot_id, 0)
                if span.start_us <= starts_us < span.end_us and starts_us <= now_us:
                    figures.lots_granted += amount
                if span.start_us < ends_us <= span.end_us and ends_us <= now_us:
                    figures.lots_expired += max(0, amount - lot_used.get(lot_id, 0))
    return figures


def _occurrences(entry: LedgerEntry, span: Span) -> Iterable[tuple[str, int, int, int]]:
    """Lots of an entry that may begin or end in a span: (id, amount, starts, ends)."""
    if not entry.every:
        ends_us = EVER_US if entry.expires_us is None else entry.expires_us
        yield entry.id, entry.amount, entry.starts_us, ends_us
        return
    at_us = max(span.start_us - 1, entry.starts_us)
    while at_us < span.end_us:
        lot = occurrence(entry, at_us)
        if lot is None or lot.starts_us >= span.end_us:
            return
        yield lot.id, lot.amount, lot.starts_us, lot.expires_us
        at_us = lot.expires_us


def _close(figures: PeriodFigures, allowance: Allowance, now_us: int) -> None:
    """What a period that is over leaves to the next, and what it loses."""
    figures.is_over = figures.span.end_us <= now_us
    if not figures.is_over:
        return
    left = max(0, figures.limit - figures.used)
    # Top-ups are used after the allowance and are not carried over.
    own_left = max(0, figures.granted + figures.carried_in - figures.used)
    figures.carried_out = min(own_left, allowance.rollover)
    figures.own_expired = left - figures.carried_out


def projected(used: int, span: Span, now_us: int) -> int:
    """What will have been used at the period's end if it goes on like this, rounded up."""
    elapsed = max(1, min(now_us, span.end_us) - span.start_us)
    whole = span.end_us - span.start_us
    return used if whole >= EVER_US else -(-used * whole // elapsed)
