"""What an account was granted, used and lost of a meter, period by period.

Question: what stood in the books of a period that is over, or of the present
one? Computed from the ledger, the history of account and plans, and what was
used: so downtime and periods without a call change nothing. Invariant: for
each period, granted + carried in = consumed from the own lot (without overage)
+ expired + carried out + left. Amounts in the meter's smallest unit. Must not
know the clock or the store.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.core.book import Account, Allowance, Plan
from gateway.core.ledger import carried_over
from gateway.core.periods import EVER_US, Period, Span
from gateway.core.rows import OWN_LOT, BalanceRow, LedgerEntry, is_cap_lot
from gateway.core.terms import (
    Past,
    Timeline,
    allowance_in,
    effective_plan,
    occurrence,
    own_allowance,
)

PERIODS_MAX = 400  # of one answer
# A projection takes at least this part of a period for gone: the first requests of a month
# say nothing of its end.
ELAPSED_MIN = 100
# Two changes of one microsecond are noted one after the other; so much of the future is now.
NOTED_US = 1_000


class Stage(NamedTuple):
    """Terms that were in force for a while; `plan` is the account's effective one."""

    from_us: int
    to_us: int
    account: Account
    plan: Plan | None


def stages(timeline: Timeline, account: Account, plan: Plan) -> list[Stage]:
    """Oldest first; the last is in force now. `account` and `plan` where there is no history."""
    if not timeline.accounts:
        return [Stage(0, EVER_US, account, plan)]
    born_us = timeline.accounts[0].from_us
    times = {version.from_us for version in timeline.accounts}
    times |= {version.from_us for version in timeline.plans}
    starts = sorted(time_us for time_us in times if time_us >= born_us)
    made = []
    for from_us, to_us in zip(starts, [*starts[1:], EVER_US], strict=True):
        then = timeline.account_at(from_us) or account
        had = timeline.plan_at(then.plan, from_us)
        made.append(Stage(from_us, to_us, then, had and effective_plan(had, then)))
    return made


def stage_at(terms: Sequence[Stage], at_us: int) -> Stage:
    """The terms in force at an instant; before the account was made, the first."""
    return terms[max(0, bisect_right(terms, at_us, key=lambda stage: stage.from_us) - 1)]


@dataclass(slots=True)
class PeriodFigures:
    """One period of a meter. `granted` is the allowance; the rest came beside it."""

    span: Span
    granted: int  # the allowance
    is_limited: bool = True
    carried_in: int = 0
    topped_up: int = 0  # entries on the period's own lot
    lots_granted: int = 0  # lots that began in it, and what was changed of lots in it
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
        return max(0, self.used - self.limit) if self.is_limited else 0


class Books:
    """All that is known of one meter of an account."""

    def __init__(
        self,
        meter: str,
        period: Period,
        timeline: Timeline,
        terms: Sequence[Stage],
        entries: Iterable[LedgerEntry],
        balances: Iterable[BalanceRow],
    ) -> None:
        self.meter = meter
        self.terms = terms
        self._period = period  # where no allowance says one
        self._timeline = timeline
        self._entries = [entry for entry in entries if entry.meter == meter]
        self._used: dict[int, tuple[int, int]] = {}  # by period: from the own lot, from others
        self._lot_used: dict[str, int] = {}
        for row in balances:
            if row.meter == meter and not is_cap_lot(row.lot):
                own, others = self._used.get(row.period_us, (0, 0))
                is_own = row.lot == OWN_LOT
                found = (own + row.used, others) if is_own else (own, others + row.used)
                self._used[row.period_us] = found
                self._lot_used[row.lot] = self._lot_used.get(row.lot, 0) + row.used
        self._changes: dict[str, int] = {}  # of lots, by entries that came later
        for entry in self._entries:
            if entry.lot not in (OWN_LOT, entry.id):
                self._changes[entry.lot] = self._changes.get(entry.lot, 0) + entry.amount

    @property
    def born_us(self) -> int:
        return self.terms[0].from_us

    # -- terms --------------------------------------------------------------

    def stage_at(self, at_us: int) -> Stage:
        """The terms in force at an instant."""
        return stage_at(self.terms, at_us)

    def allowance_at(self, span: Span, at_us: int) -> Allowance | None:
        """The own allowance of a period, as of an instant in it.

        Terms with another kind of period change nothing in one that they have put aside.
        """
        stage = self.stage_of(span, at_us)
        if stage.plan is None:
            return None
        accounts, plans = self._timeline
        known = bisect_right(accounts, stage.from_us, key=lambda version: version.from_us)
        then = Timeline(accounts[:known], plans)
        return allowance_in(then, stage.plan, stage.account, self.meter, span, at_us)

    def stage_of(self, span: Span, at_us: int) -> Stage:
        """The last terms until an instant that had this period; else those of the instant."""
        last = max(0, bisect_right(self.terms, at_us, key=lambda stage: stage.from_us) - 1)
        for stage in reversed(self.terms[: last + 1]):
            if self.has_period(stage, span):
                return stage
            if stage.from_us <= span.start_us:
                break
        return self.terms[last]

    def has_period(self, stage: Stage, span: Span) -> bool:
        """Whether units counted in a period while these terms were in force.

        What the plan does not limit is counted on in the period that there was.
        """
        own = own_allowance(stage.plan, self.meter)
        if own is None:
            return True
        account = stage.account
        at_us = max(stage.from_us, span.start_us)
        found = own.period.span(at_us, account.anchor_us, account.timezone)
        return found.start_us == span.start_us

    def topped_up(self, span: Span, at_us: int) -> int:
        """What entries had added to a period's own lot at an instant."""
        return sum(
            entry.amount
            for entry in self._entries
            if entry.lot == OWN_LOT and entry.period_us == span.start_us and entry.time_us <= at_us
        )

    # -- periods ------------------------------------------------------------

    def spans_back(self, now_us: int, count: int, from_us: int = 0) -> dict[Span, int]:
        """The last `count` periods that ended after `from_us`, by start, as they were then.

        With each, its last instant: its end, or when another kind of period began. None from
        before the account was made. Where another plan had other periods, they may overlap.
        """
        spans: dict[int, tuple[Span, int]] = {}
        for stage in reversed(self.terms):
            if stage.from_us > now_us + NOTED_US and stage is not self.terms[0]:
                continue
            own = own_allowance(stage.plan, self.meter)
            period = self._period if own is None else own.period
            at_us = max(stage.from_us, min(stage.to_us - 1, now_us))
            while at_us >= max(stage.from_us, from_us) and at_us >= 0 and len(spans) < count:
                span = period.span(at_us, stage.account.anchor_us, stage.account.timezone)
                last_us = min(span.end_us, stage.to_us) - 1
                spans.setdefault(span.start_us, (span, last_us))
                at_us = span.start_us - 1
        return dict(sorted(spans.values()))

    def history(self, now_us: int, count: int, from_us: int = 0) -> list[PeriodFigures]:
        """The last `count` periods, oldest first."""
        spans = self.spans_back(now_us, count, from_us)
        found: list[tuple[PeriodFigures, Allowance | None]] = []
        for span, last_us in spans.items():
            allowance = self.allowance_at(span, last_us)
            figures = self._figures(span, allowance, now_us)
            if allowance is not None:
                figures.carried_in = self._carried_into(span, allowance, found)
            is_whole = last_us == span.end_us - 1  # else another kind of period came before its end
            _close(figures, allowance, now_us, is_whole)
            found.append((figures, allowance))
        return [figures for figures, _ in found]

    def _carried_into(
        self, span: Span, allowance: Allowance, found: list[tuple[PeriodFigures, Allowance | None]]
    ) -> int:
        """From the period before: the last of those found, or one that nobody asked for."""
        if found:
            figures, before = found[-1]
            is_same = before is not None and before.period == allowance.period
            if is_same and figures.span.end_us == span.start_us:
                return figures.carried_out
        account = self.stage_at(span.start_us).account
        own = {start_us: used for start_us, (used, _) in self._used.items()}
        past = Past(self._timeline, account, self.meter, own, self._entries)
        return past.carried_into(span.start_us, allowance.period)

    def _figures(self, span: Span, allowance: Allowance | None, now_us: int) -> PeriodFigures:
        granted = 0 if allowance is None else allowance.amount
        figures = PeriodFigures(span, granted, is_limited=allowance is not None)
        figures.used, figures.lots_used = self._used.get(span.start_us, (0, 0))
        figures.topped_up = self.topped_up(span, EVER_US)
        for entry in self._entries:
            if entry.lot == entry.id:
                self._add_lots(figures, entry, now_us)
            elif entry.lot != OWN_LOT and span.start_us <= entry.time_us < span.end_us:
                figures.lots_granted += entry.amount
        return figures

    def _add_lots(self, figures: PeriodFigures, entry: LedgerEntry, now_us: int) -> None:
        """The lots of an entry that began or ended in the period."""
        span = figures.span
        for lot_id, amount, starts_us, ends_us in _occurrences(entry, span):
            if span.start_us <= starts_us < span.end_us and starts_us <= now_us:
                figures.lots_granted += amount
            if span.start_us < ends_us <= span.end_us and ends_us <= now_us:
                total = amount + self._changes.get(lot_id, 0)
                figures.lots_expired += max(0, total - self._lot_used.get(lot_id, 0))


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


def _close(
    figures: PeriodFigures, allowance: Allowance | None, now_us: int, is_whole: bool
) -> None:
    """What a period that is over leaves to the next, and what it loses."""
    figures.is_over = figures.span.end_us <= now_us
    if not figures.is_over or allowance is None:
        return
    granted, taken_back = figures.granted + figures.carried_in, min(0, figures.topped_up)
    # Top-ups are used after the allowance and are not carried over.
    most = allowance.rollover if is_whole else 0
    figures.carried_out = carried_over(granted, taken_back, figures.used, most)
    figures.own_expired = max(0, figures.limit - figures.used) - figures.carried_out


def projected(used: int, span: Span, now_us: int) -> int:
    """What will have been used at the period's end if it goes on like this, rounded up.

    used * length / elapsed, in integers; at least a hundredth of the period counts as
    elapsed. A period without an end has no projection but what was used.
    """
    whole = span.end_us - span.start_us
    if whole >= EVER_US:
        return used
    elapsed = max(1, whole // ELAPSED_MIN, min(now_us, span.end_us) - span.start_us)
    return -(-used * whole // elapsed)
