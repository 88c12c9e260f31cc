"""Hot state in the memory of the one process (embedded mode).

Everything here is synchronous and runs on the event loop, so a decision is
atomic by itself: no other request can be between asking and counting. It can
always be rebuilt: balances from the store, rate windows from its last saved
state, holds are gone with the process and so are the requests that had them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.core.book import Account, Allowance, Plan
from gateway.core.ledger import Balance
from gateway.core.limits import COUNTERS, Concurrency, Counter, Figures, RateLimit
from gateway.core.periods import Period
from gateway.core.pricing import Charges
from gateway.core.refusals import Evaluated, Refusal
from gateway.core.rows import LimitState
from gateway.state.base import AccountState, Ask, BalanceSource, Hold

# A meter without an allowance is counted by calendar month and never refused.
_UNLIMITED_PERIOD = Period("month")
# Windows shorter than this are not kept across a restart: they are over by then.
SAVED_PERIOD_MIN_US = 60_000_000
# Subjects of one limit. A flood of new addresses or keys cannot take more than
# this many entries (about 200 bytes each); the oldest make room.
COUNTERS_MAX = 100_000


class MemoryState:
    """Balances and counters of one process. `source` gives stored balances."""

    def __init__(self, source: BalanceSource, counters_max: int = COUNTERS_MAX) -> None:
        self._source = source
        self._accounts: dict[str, AccountState] = {}
        self._counters: dict[str, dict[str, Counter]] = {}
        self._counters_max = counters_max
        self._unsaved: list[tuple[str, Counter]] = []

    # -- accounts ---------------------------------------------------------

    def account(self, account: Account, plan: Plan) -> AccountState:
        """The live state of an account, bound to its plan of this book.

        A changed plan keeps the current balances where meter and period are
        the same; what changes counts from the next request on.
        """
        state = self._accounts.get(account.id)
        if state is None:
            state = self._accounts[account.id] = AccountState(account, plan)
        elif state.account != account or state.plan != plan:
            state.account, state.plan = account, plan
            for allowance in plan.allowances:
                balance = state.balances.get(allowance.meter)
                if balance is not None:
                    _rebind(balance, allowance, account)
        return state

    def accounts(self) -> Iterator[AccountState]:
        return iter(self._accounts.values())

    def loaded(self, account_id: str) -> AccountState | None:
        return self._accounts.get(account_id)

    def evict_idle(self, shipped_seq: int, before_us: int) -> int:
        """Forget accounts that the store knows as well as we do; how many."""
        idle = [
            account_id
            for account_id, state in self._accounts.items()
            if state.touched_us < before_us
            and state.in_flight == 0
            and state.last_seq <= shipped_seq
        ]
        for account_id in idle:
            del self._accounts[account_id]
        return len(idle)

    def balance(self, state: AccountState, meter: str, now_us: int) -> Balance:
        """The balance of the period that `now_us` is in; a new period begins full."""
        balance = state.balances.get(meter)
        # A clock that goes back stays in the period it has reached.
        if balance is None or now_us >= balance.end_us:
            balance = self._load_balance(state, meter, now_us)
        return balance

    def _load_balance(self, state: AccountState, meter: str, now_us: int) -> Balance:
        allowance = next((a for a in state.plan.allowances if a.meter == meter), None)
        period = allowance.period if allowance else _UNLIMITED_PERIOD
        span = period.span(now_us, state.account.anchor_us)
        balance = Balance(meter, span, None)
        for row in self._source.balances(state.account.id):
            if row.meter == meter and row.period_us == span.start_us:
                balance.used, balance.topped_up = row.used, row.topped_up
        if allowance is not None:
            balance.granted = allowance.amount
            balance.overage = allowance.on_exhausted == "overage"
            balance.status = allowance.status
        state.balances[meter] = balance
        return balance

    def top_up(self, state: AccountState, meter: str, amount: int, period_us: int) -> None:
        """Add a stored top-up to the live balance of its period, if that is the current one."""
        balance = state.balances.get(meter)
        if balance is not None and balance.span.start_us == period_us:
            balance.topped_up += amount

    # -- the decision -----------------------------------------------------

    def admit(self, ask: Ask) -> Hold | Refusal:
        """Reserve everything the request needs, or nothing."""
        now_us = ask.time_us
        state = ask.account
        counters: list[Counter] = []
        fits = True
        for limit in ask.limits:
            counter = self._counter(limit, ask)
            counters.append(counter)
            if not counter.fits(now_us):
                fits = False
        reserved: list[tuple[Balance, int]] = []
        for meter, amount in ask.charges:
            balance = state.balances.get(meter)
            # A clock that goes back stays in the period it has reached.
            if balance is None or now_us >= balance.end_us:
                balance = self._load_balance(state, meter, now_us)
            reserved.append((balance, amount))
            if not balance.fits(amount):
                fits = False
        if not fits:
            return self._refusal(counters, reserved, now_us)
        gauges: list[Concurrency] = []
        for counter in counters:
            counter.take(now_us)
            if counter.is_unsaved:
                continue
            if counter.__class__ is Concurrency:
                gauges.append(counter)
            elif counter.limit.period_us >= SAVED_PERIOD_MIN_US:
                counter.is_unsaved = True
                self._unsaved.append((_subject(counter.limit, ask), counter))
        for balance, amount in reserved:
            balance.held += amount
        state.in_flight += 1
        state.touched_us = now_us
        return Hold(state, reserved, counters, gauges)

    def settle(self, hold: Hold, charges: Charges) -> None:
        """Post `charges` in the order they were reserved."""
        self._end(hold)
        for (balance, held), (_, amount) in zip(hold.reserved, charges, strict=True):
            balance.post(held, amount)

    def release(self, hold: Hold) -> None:
        """Give everything back; requests stay counted by rate limits."""
        self._end(hold)
        for balance, held in hold.reserved:
            balance.void(held)

    def _end(self, hold: Hold) -> None:
        assert hold.is_open, "a hold is settled or released once"
        hold.is_open = False
        hold.account.in_flight -= 1
        for gauge in hold.gauges:
            gauge.release()

    def _refusal(
        self,
        counters: list[Counter],
        reserved: list[tuple[Balance, int]],
        now_us: int,
    ) -> Refusal:
        """Say what was looked at, and let the first limit that refuses speak."""
        rows = [_counter_row(counter, now_us) for counter in counters]
        rows += [_balance_row(balance, amount) for balance, amount in reserved]
        first = next(row for row in rows if row.refused)
        rows = [row if row is first else _not_refusing(row) for row in rows]
        status = None
        if first.kind == "budget":
            code = "budget_exhausted"
            status = next(b.status for b, _ in reserved if b.meter == first.name)
        else:
            code = "concurrency_limited" if first.kind == "concurrency" else "rate_limited"
        # Never earlier than the reset: rounded up, and at least a second.
        wait_s = max(1, -(-(first.reset_us - now_us) // 1_000_000))
        return Refusal(code, status=status, retry_after_s=wait_s, limits=tuple(rows))

    # -- counters ---------------------------------------------------------

    def _counter(self, limit: RateLimit, ask: Ask) -> Counter:
        subjects = self._counters.get(limit.id)
        if subjects is None:
            subjects = self._counters[limit.id] = {}
        is_account = limit.subject == "account"
        subject = ask.account.account.id if is_account else _subject(limit, ask)
        counter = subjects.get(subject)
        if counter is None:
            if len(subjects) >= self._counters_max:
                _make_room(subjects, ask.time_us)
            counter = subjects[subject] = COUNTERS[limit.algorithm](limit)
        elif counter.limit is not limit:
            counter = subjects[subject] = _moved(counter, limit)
        return counter

    def figures(self, limit: RateLimit, ask: Ask) -> Figures:
        """What a limit says to this caller now; nothing is counted."""
        return self._counter(limit, ask).figures(ask.time_us)

    def unsaved(self) -> list[LimitState]:
        """Counters that changed since the last call, for the store."""
        rows = [
            LimitState(counter.limit.id, subject, *counter.saved(), counter.expires_us())
            for subject, counter in self._unsaved
        ]
        for _, counter in self._unsaved:
            counter.is_unsaved = False
        self._unsaved.clear()
        return rows

    def restore(self, rows: Iterable[LimitState], limits: Iterable[RateLimit]) -> None:
        """Bring saved counters back at start."""
        by_id = {limit.id: limit for limit in limits}
        for row in rows:
            limit = by_id.get(row.limit_id)
            if limit is not None:
                counter = COUNTERS[limit.algorithm](limit)
                counter.load(row.first, row.second)
                self._counters.setdefault(limit.id, {})[row.subject] = counter

    def prune(self, now_us: int) -> int:
        """Forget counters that say what new ones would; how many."""
        pruned = 0
        for subjects in self._counters.values():
            old = [s for s, counter in subjects.items() if counter.expires_us() <= now_us]
            for subject in old:
                del subjects[subject]
            pruned += len(old)
        return pruned


def _subject(limit: RateLimit, ask: Ask) -> str:
    """Whose counter it is. A subject the request lacks falls to the wider one."""
    subject = limit.subject
    if subject == "account":
        return ask.account.account.id
    if subject == "source":
        return ask.source
    if subject == "key":
        return ask.key_id or ask.source
    if subject == "route":
        return ask.route_name
    if subject == "all":
        return ""
    name = ask.user if subject == "user" else ask.project
    return f"{ask.account.account.id}/{name}"


def _make_room(subjects: dict[str, Counter], now_us: int) -> None:
    """Drop what has expired; if nothing has, the oldest tenth without a request in flight."""
    old = [s for s, counter in subjects.items() if counter.expires_us() <= now_us]
    if not old:
        idle = (s for s, c in subjects.items() if c.expires_us() < 1 << 62)
        old = [s for s, _ in zip(idle, range(len(subjects) // 10 + 1), strict=False)]
    for subject in old:
        del subjects[subject]


def _moved(counter: Counter, limit: RateLimit) -> Counter:
    """A counter under a changed limit: the count goes on where it can."""
    fresh = COUNTERS[limit.algorithm](limit)
    if type(fresh) is type(counter):
        fresh.load(*counter.saved())
    return fresh


def _rebind(balance: Balance, allowance: Allowance, account: Account) -> None:
    if allowance.period.span(balance.span.start_us, account.anchor_us) == balance.span:
        balance.granted = allowance.amount
        balance.overage = allowance.on_exhausted == "overage"
        balance.status = allowance.status


def _counter_row(counter: Counter, now_us: int) -> Evaluated:
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


def _balance_row(balance: Balance, amount: int) -> Evaluated:
    limit = None if balance.granted is None else balance.granted + balance.topped_up
    return Evaluated(
        name=balance.meter,
        kind="budget",
        limit=limit,
        used=balance.used + balance.held,
        remaining=balance.remaining,
        reset_us=balance.span.end_us,
        refused=not balance.fits(amount),
    )


def _not_refusing(row: Evaluated) -> Evaluated:
    if not row.refused:
        return row
    return Evaluated(
        row.name, row.kind, row.limit, row.used, row.remaining, row.reset_us, refused=False
    )
