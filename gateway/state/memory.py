"""Hot state in the memory of the one process (embedded mode).

Everything here is synchronous and runs on the event loop, so a decision is
atomic by itself: no other request can be between asking and counting. It can
always be rebuilt: balances from the store, rate windows from its last saved
state, holds are gone with the process and so are the requests that had them.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.book import Account, Book, Plan
from gateway.core.ledger import Balance, Part
from gateway.core.limits import COUNTERS, Concurrency, Counter, Figures, RateLimit
from gateway.core.money import format_micro
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Evaluated, Refusal
from gateway.core.rows import LedgerEntry, LimitState
from gateway.state.accounts import Accounts
from gateway.state.base import (
    AccountState,
    Ask,
    BalanceSource,
    CountedHold,
    Hold,
    Posting,
    Settlement,
)
from gateway.state.refusal import balance_row, cap_row, counter_row, refusal_of

# Windows shorter than this are not kept across a restart: they are over by then.
SAVED_PERIOD_MIN_US = 60_000_000
# Subjects of one limit. A flood of new addresses or keys cannot take more than
# this many entries (about 200 bytes each); the oldest make room.
COUNTERS_MAX = 100_000


class MemoryState:
    """Balances and counters of one process. `source` gives what is stored."""

    def __init__(self, source: BalanceSource, counters_max: int = COUNTERS_MAX) -> None:
        self._accounts = Accounts(source)
        self._counters: dict[str, dict[str, Counter]] = {}
        self._counters_max = counters_max
        self._unsaved: list[tuple[str, Counter]] = []

    def use(self, book: Book) -> None:
        """Take another book's meters."""
        self._accounts.use(book)

    # -- accounts ---------------------------------------------------------

    def account(self, account: Account, plan: Plan) -> AccountState:
        """The live state of an account, bound to its effective plan of this book.

        A changed plan keeps the current balances where meter and period are
        the same; what changes counts from the next request on.
        """
        return self._accounts.get(account, plan)

    def accounts(self) -> list[AccountState]:
        return self._accounts.all()

    def loaded(self, account_id: str) -> AccountState | None:
        return self._accounts.loaded(account_id)

    def evict_idle(self, shipped_seq: int, before_us: int) -> set[str]:
        """Forget accounts that the store knows as well as we do; their ids.

        Whoever keeps an AccountState must let go of these in the same step.
        """
        return self._accounts.evict_idle(shipped_seq, before_us)

    def balance(self, state: AccountState, meter: str, now_us: int) -> Balance:
        """The balance of the period that `now_us` is in; a new period begins full."""
        balance = state.balances.get(meter)
        # A clock that goes back stays in the period it has reached.
        if balance is None or now_us >= balance.end_us:
            balance = self._accounts.load(state, meter, now_us)
        return balance

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """A ledger entry that is in the store changes the live figures, once."""
        self._accounts.apply_entry(state, entry)

    def undo_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """An entry that was applied in advance did not reach the store."""
        self._accounts.undo_entry(state, entry)

    def overage_cost_micro(self, state: AccountState, now_us: int) -> int:
        """What the account's overage of the current periods costs, holds included."""
        rated = [a.meter for a in state.plan.allowances if a.overage is not None]
        return sum(self.balance(state, meter, now_us).cost_micro() for meter in rated)

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
        is_plain = not ask.counted and state.account.cap_micro is None
        for meter, amount in ask.charges:
            balance = state.balances.get(meter)
            # A clock that goes back stays in the period it has reached.
            if balance is None or now_us >= balance.end_us:
                balance = self._accounts.load(state, meter, now_us)
            reserved.append((balance, amount))
            if not balance.is_plain:
                is_plain = False
            elif not balance.fits(amount):
                fits = False
        if not is_plain:
            return self._admit_with_care(ask, counters, reserved)
        if not fits:
            rows = [counter_row(counter, now_us) for counter in counters]
            rows += [balance_row(balance, amount) for balance, amount in reserved]
            return refusal_of(rows, [balance for balance, _ in reserved], now_us)
        gauges = self._take(counters, ask)
        for balance, amount in reserved:
            balance.held += amount
        state.in_flight += 1
        state.touched_us = now_us
        return Hold(state, reserved, counters, gauges)

    def _take(self, counters: list[Counter], ask: Ask) -> list[Concurrency]:
        """Count the request in every limit; those that are given back."""
        now_us = ask.time_us
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
        return gauges

    def _admit_with_care(
        self, ask: Ask, counters: list[Counter], reserved: list[tuple[Balance, int]]
    ) -> Hold | Refusal:
        """The decision where lots, caps, counters or a spending cap have a say."""
        now_us, state = ask.time_us, ask.account
        counted, needs = self._needs(ask, reserved)
        caps = [(cap, needs[balance]) for balance, _ in reserved for cap in balance.caps]
        rows = [counter_row(counter, now_us) for counter in counters]
        rows += [balance_row(balance, amount) for balance, amount in needs.items()]
        rows += [cap_row(cap, amount) for cap, amount in caps]
        if state.account.cap_micro is not None and any(needs.values()):
            cost = self.overage_cost_micro(state, now_us)
            more = sum(b.cost_micro(amount) - b.cost_micro() for b, amount in needs.items())
            rows.append(_spending_row(state.account.cap_micro, cost, more, now_us, reserved))
        if any(row.refused for row in rows):
            asked = [*needs, *(cap for cap, _ in caps)]
            return refusal_of(rows, asked, now_us)
        gauges = self._take(counters, ask)
        for balance, amount in needs.items():
            balance.hold(amount)
        for cap, amount in caps:
            cap.hold(amount)
        state.in_flight += 1
        state.touched_us = now_us
        return Hold(state, reserved, counters, gauges, counted, caps, is_plain=False)

    def _needs(
        self, ask: Ask, reserved: list[tuple[Balance, int]]
    ) -> tuple[list[CountedHold], dict[Balance, int]]:
        """What each balance must have room for, counters and what they cost included."""
        needs = {balance: 0 for balance, _ in reserved}
        for balance, amount in reserved:
            needs[balance] += amount
        counted = []
        for entry in ask.counted:
            counter = self.balance(ask.account, entry.rule.counter, ask.time_us)
            meter = next(b for b, _ in reserved if b.meter == entry.rule.meter)
            before = counter.used + counter.held + needs.get(counter, 0)
            cost = entry.rule.cost_of
            needs[meter] += cost(before + entry.amount) - cost(before)
            needs[counter] = needs.get(counter, 0) + entry.amount
            counted.append(CountedHold(entry, counter, meter))
        return counted, needs

    def settlement(
        self, hold: Hold, charges: Charges, counted: tuple[Counted, ...] = ()
    ) -> Settlement:
        """What the exact charges and counts come to; nothing changes."""
        if hold.is_plain and all([balance.is_plain for balance, _ in hold.reserved]):
            pairs = zip(hold.reserved, charges, strict=True)
            return Settlement(tuple([(b.meter, n, b.span.start_us) for (b, _), (_, n) in pairs]))
        held = {balance: amount for balance, amount in hold.reserved}
        totals = {
            balance: amount
            for (balance, _), (_, amount) in zip(hold.reserved, charges, strict=True)
        }
        for one, entry in zip(hold.counted, counted, strict=True):
            gone, charge = _uncount(one, entry.amount)
            held[one.meter] += gone
            totals[one.meter] += charge
            held[one.counter] = held.get(one.counter, 0) + one.counted.amount
            totals[one.counter] = totals.get(one.counter, 0) + entry.amount
        for cap, amount in hold.caps:
            held[cap] = amount
            totals[cap] = next(n for b, n in totals.items() if b.meter == cap.meter)
        moves = [(balance, held[balance], balance.split(n)) for balance, n in totals.items()]
        postings = [_posting(balance, part) for balance, _, parts in moves for part in parts]
        return Settlement(tuple(postings), moves)

    def settle(self, hold: Hold, settlement: Settlement) -> None:
        """Post what was worked out."""
        self._end(hold)
        if settlement.moves is None:
            for (balance, held), posting in zip(hold.reserved, settlement.postings, strict=True):
                balance.post(held, posting[1])
            return
        for balance, held, parts in settlement.moves:
            balance.pay(held, parts)

    def release(self, hold: Hold) -> None:
        """Give everything back; requests stay counted by rate limits."""
        self._end(hold)
        gone = [(one.meter, _uncount(one, 0)[0]) for one in hold.counted]
        for balance, held in (*hold.reserved, *gone, *hold.caps):
            balance.void(held)
        for one in hold.counted:
            one.counter.void(one.counted.amount)

    def _end(self, hold: Hold) -> None:
        assert hold.is_open, "a hold is settled or released once"
        hold.is_open = False
        hold.account.in_flight -= 1
        for gauge in hold.gauges:
            gauge.release()

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
            counter = subjects[subject] = _under(counter, limit)
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


def _under(counter: Counter, limit: RateLimit) -> Counter:
    """A counter under a changed limit: what it has counted stays, in flight too."""
    kind = COUNTERS[limit.algorithm]
    if type(counter) is not kind:
        return kind(limit)
    counter.bind(limit)
    return counter


def _uncount(held: CountedHold, amount: int) -> tuple[int, int]:
    """When a held quantity becomes a posted one: what the meter's hold loses, and its charge.

    The meter's hold for a counter belongs to all that is held on it together:
    what one request gives back is only what no other one needs. Negative where
    the others need more, because this one counted more than it had held.
    """
    counter, cost = held.counter, held.counted.rule.cost_of
    used, all_held = counter.used, counter.held
    before = cost(used + all_held) - cost(used)
    charge = cost(used + amount) - cost(used)
    after = cost(used + amount + all_held - held.counted.amount) - cost(used + amount)
    return before - after, charge


def _posting(balance: Balance, part: Part) -> Posting:
    start_us = balance.span.start_us
    if part.lot:
        return balance.meter, part.amount, start_us, part.lot
    return balance.meter, part.amount, start_us


def _spending_row(
    cap_micro: int, cost_micro: int, more_micro: int, now_us: int, asked: list[tuple[Balance, int]]
) -> Evaluated:
    """The spending cap: nothing that is charged passes once it is reached."""
    return Evaluated(
        name="spending_cap",
        kind="spending",
        limit=format_micro(cap_micro),
        used=format_micro(cost_micro),
        remaining=format_micro(max(0, cap_micro - cost_micro)),
        reset_us=max((balance.span.end_us for balance, _ in asked), default=now_us),
        refused=cost_micro >= cap_micro or cost_micro + more_micro > cap_micro,
    )
