"""Terms: which allowance an account has in which period.

Question: what was granted, given how account and plans changed over time?
The rules stand here once, for the hot state that decides and for the reports
that tell (core/statement.py asks for the past stage by stage). Seats, amounts
of an account's own and edited plans count at once, also for the current
period; another plan's allowances, with their prices of overage and what they
carry over, begin with the next period, unless the plan that was left says
`at_once` or had no such allowance. What happens when units are gone is the
present plan's. Instants are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.core.book import Account, Allowance, Plan
from gateway.core.ledger import Lot, carried_over
from gateway.core.limits import RateLimit
from gateway.core.periods import EVER_US, Period, Span
from gateway.core.rows import OWN_LOT, AccountVersion, LedgerEntry, PlansVersion
from gateway.core.units import AMOUNT_MAX

NOT_ENFORCED = ("trial", "off")
NEVER_OVERAGE = ("free", "enterprise")
NEVER_BILLED = NOT_ENFORCED + NEVER_OVERAGE
_PAST_FIRST = 4  # periods looked back at; one idle one is mostly enough to know what is left


def effective_plan(plan: Plan, account: Account) -> Plan:
    """A plan as configured with what is the account's own: seats, amounts, limits, overage.

    To be kept by the caller while plan and account stay the same; the plan
    itself where nothing is the account's own.
    """
    own_amounts = dict(account.allowances)
    allowances = tuple(
        _effective(allowance, plan, account, own_amounts) for allowance in plan.allowances
    )
    quotas = dict(account.limits)
    own_limits = [
        _with_quota(settable.limit, quotas.get(settable.limit.name, settable.default))
        for settable in plan.settable
    ]
    limits = (*plan.limits, *(limit for limit in own_limits if limit is not None))
    if allowances == plan.allowances and limits == plan.limits:
        return plan
    return replace(plan, allowances=allowances, limits=limits)


def _effective(
    allowance: Allowance, plan: Plan, account: Account, own_amounts: dict[str, int]
) -> Allowance:
    amount = allowance.amount
    if allowance.settable:
        amount = own_amounts.get(allowance.meter, amount)
    if allowance.per_seat:
        amount *= account.seats
    action = allowance.on_exhausted
    if plan.billing in NOT_ENFORCED:
        action = "overage"
    elif plan.billing in NEVER_BILLED:
        action = "block"
    elif account.overage is not None:
        action = "overage" if account.overage else "block"
    rate = None if plan.billing in NEVER_BILLED else allowance.overage
    if (amount, action, rate) == (allowance.amount, allowance.on_exhausted, allowance.overage):
        return allowance
    return replace(allowance, amount=amount, on_exhausted=action, overage=rate, per_seat=False)


def _with_quota(limit: RateLimit, quota: int) -> RateLimit | None:
    """A settable limit as an account has it; None: unlimited."""
    if quota == 0:
        return None
    window_s = max(1, limit.period_us // 1_000_000)
    policy = f'"{limit.name}";q={quota};w={window_s}'.encode()
    return replace(limit, quota=quota, burst=quota, policy=policy)


class Timeline(NamedTuple):
    """How an account and the plans changed, oldest first."""

    accounts: Sequence[AccountVersion]
    plans: Sequence[PlansVersion]

    def account_at(self, at_us: int) -> Account | None:
        """As it was at an instant; before it was made, as it was made."""
        found = None
        for version in self.accounts:
            if found is not None and version.from_us > at_us:
                break
            found = version.account
        return found

    def plan_at(self, name: str, at_us: int) -> Plan | None:
        """A plan as it was at an instant, or as it was when it was first known."""
        found = None
        for version in self.plans:
            if found is not None and version.from_us > at_us:
                break
            found = version.plans.get(name, found)
        return found

    def granting_plan(
        self, meter: str, span: Span, at_us: int, present: str | None = None
    ) -> str | None:
        """The name of the plan whose allowance counts in a period, as of an instant in it.

        `present`: the plan that the account has now. Its version may not be known
        yet; or be of an instant ahead, for versions of one instant follow each other.
        """
        changes = [(version.from_us, version.account.plan) for version in self.accounts]
        if present is not None and changes:
            at_us = max(at_us, changes[-1][0])
            changes.append((at_us, present))
        current = base = None
        for from_us, name in changes:
            if base is None or from_us <= span.start_us:
                current = base = name
            elif from_us <= at_us and name != current:
                if self._begins_at_once(current or "", name, meter, from_us):
                    base = name
                current = name
        return base

    def _begins_at_once(self, left: str, taken: str, meter: str, at_us: int) -> bool:
        old, new = self.plan_at(left, at_us), self.plan_at(taken, at_us)
        if old is None or old.on_leave == "at_once":
            return True
        had, has = own_allowance(old, meter), own_allowance(new, meter)
        return had is None or has is None or had.period != has.period


def own_allowance(plan: Plan | None, meter: str) -> Allowance | None:
    """The allowance that a meter's units come from."""
    if plan is None:
        return None
    return next((a for a in plan.allowances if a.meter == meter), None)


def allowance_in(
    timeline: Timeline, plan: Plan, account: Account, meter: str, span: Span, at_us: int
) -> Allowance | None:
    """The own allowance of a meter in the present period, given the account's effective plan.

    What happens when it is gone is always the present plan's; units that were
    used past it keep the price they were used at.
    """
    name = timeline.granting_plan(meter, span, at_us, account.plan)
    return _granted(timeline, plan, account, meter, name, at_us)


def _granted(
    timeline: Timeline, plan: Plan, account: Account, meter: str, name: str | None, at_us: int
) -> Allowance | None:
    now = own_allowance(plan, meter)
    if name is None or name == account.plan or now is None:
        return now
    before = timeline.plan_at(name, at_us)
    if before is None:
        return now
    kept = own_allowance(effective_plan(before, account), meter)
    if kept is None:
        return now
    rate = kept.overage or now.overage
    return replace(now, amount=kept.amount, rollover=kept.rollover, overage=rate)


def allowance_of_past(timeline: Timeline, meter: str, span: Span) -> Allowance | None:
    """The own allowance of a period that is over: as it was at its end."""
    last_us = span.end_us - 1
    account = timeline.account_at(last_us)
    if account is None:
        return None
    plan = timeline.plan_at(account.plan, last_us)
    if plan is None:
        return None
    effective = effective_plan(plan, account)
    name = timeline.granting_plan(meter, span, last_us)
    return _granted(timeline, effective, account, meter, name, last_us)


class Past(NamedTuple):
    """What a meter's history is worked out from; `used` by start of period, own lot only."""

    timeline: Timeline
    account: Account
    meter: str
    used: Mapping[int, int]
    entries: Sequence[LedgerEntry] = ()

    def topped_up(self, start_us: int) -> int:
        """Entries on a period's own lot: top-ups, and what was taken back."""
        return sum(
            entry.amount
            for entry in self.entries
            if entry.lot == OWN_LOT and (entry.meter, entry.period_us) == (self.meter, start_us)
        )

    def carried_into(self, start_us: int, period: Period) -> int:
        """What a period that begins at an instant takes over from the ones before.

        Exact for any number of idle periods: looked at from further and further
        back, until what was left before that makes no difference any more.
        """
        if not self._carries:
            return 0
        born_us = self.timeline.accounts[0].from_us if self.timeline.accounts else start_us
        spans: list[Span] = []
        wanted = _PAST_FIRST
        first_us = start_us
        while True:
            while len(spans) < wanted and first_us > born_us:
                spans.append(self._span(first_us - 1, period))
                first_us = spans[-1].start_us
            steps = [self._left(span, period) for span in reversed(spans)]
            least = _through(steps, 0)
            if first_us <= born_us or least == _through(steps, AMOUNT_MAX):
                return least
            wanted *= 4

    @property
    def _carries(self) -> bool:
        """Whether any plan there ever was lets this meter's units be taken over."""
        return any(
            allowance.rollover
            for version in self.timeline.plans
            for plan in version.plans.values()
            for allowance in plan.allowances
            if allowance.meter == self.meter
        )

    def _span(self, at_us: int, period: Period) -> Span:
        return period.span(at_us, self.account.anchor_us, self.account.timezone)

    def _left(self, span: Span, period: Period) -> _Step:
        allowance = allowance_of_past(self.timeline, self.meter, span)
        if allowance is None or allowance.period != period:
            return _Step(0, 0, 0, 0)
        used = self.used.get(span.start_us, 0)
        taken_back = min(0, self.topped_up(span.start_us)) if self.entries else 0
        return _Step(allowance.amount, taken_back, used, allowance.rollover)


class _Step(NamedTuple):
    """One period of the past, without what was carried into it."""

    amount: int
    taken_back: int
    used: int
    rollover: int


def _through(steps: list[_Step], carried: int) -> int:
    """What is left after periods that began with something carried over."""
    for amount, taken_back, used, rollover in steps:
        carried = carried_over(amount + carried, taken_back, used, rollover)
    return carried


def lots_of(entries: Iterable[LedgerEntry], meter: str, now_us: int) -> list[Lot]:
    """The lots beside the periods, expired ones too; nothing used of them yet."""
    lots: dict[str, Lot] = {}
    changes: dict[str, int] = {}
    for entry in entries:
        if entry.meter != meter or entry.lot == OWN_LOT:
            continue
        if entry.lot != entry.id:
            changes[entry.lot] = changes.get(entry.lot, 0) + entry.amount
        elif entry.every:
            lot = occurrence(entry, now_us)
            if lot is not None:
                lots[lot.id] = lot
        else:
            lots[entry.id] = Lot(
                entry.id,
                entry.kind,
                entry.amount,
                starts_us=entry.starts_us,
                expires_us=EVER_US if entry.expires_us is None else entry.expires_us,
                priority=entry.priority,
                time_us=entry.time_us,
            )
    for lot_id, amount in changes.items():
        if lot_id in lots:
            lots[lot_id].amount += amount
    return list(lots.values())


def occurrence(entry: LedgerEntry, now_us: int) -> Lot | None:
    """The lot that a recurring grant gives for the period of an instant, or the next one."""
    at_us = max(now_us, entry.starts_us)
    end_us = EVER_US if entry.expires_us is None else entry.expires_us
    if at_us >= end_us:
        return None
    span = Period(entry.every).span(at_us, entry.starts_us)  # type: ignore[arg-type]
    return Lot(
        f"{entry.id}@{span.start_us}",
        entry.kind,
        entry.amount,
        starts_us=max(span.start_us, entry.starts_us),
        expires_us=min(span.end_us, end_us),
        priority=entry.priority,
        time_us=entry.time_us,
    )
