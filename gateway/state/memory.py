"""Hot state in the memory of the one process (embedded mode).

Everything here is synchronous and runs on the event loop, so a decision is
atomic by itself: no other request can be between asking and counting. It can
always be rebuilt: balances from the store, rate windows from its last saved
state, holds are gone with the process and so are the requests that had them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.book import Account, Book, Plan
from gateway.core.counting import ended, move
from gateway.core.ledger import Balance
from gateway.core.limits import COUNTERS, Concurrency, Counter, Figures, RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry, LimitState
from gateway.state.accounts import Accounts
from gateway.state.base import (
    AccountState,
    Ask,
    BalanceSource,
    CarefulHold,
    Hold,
    Posting,
    Settlement,
)
from gateway.state.careful import (
    Careful,
    decide,
    given_back,
    month_spending,
    settlement_of,
)
from gateway.state.spending import Spending

# Windows shorter than this are not kept across a restart: they are over by then.
SAVED_PERIOD_MIN_US = 60_000_000
# Subjects of one limit. A flood of new addresses or keys cannot take more than
# this many entries (about 200 bytes each); the oldest make room.
COUNTERS_MAX = 100_000


class MemoryState:
    """Balances and counters of one process. `source` gives what is stored."""

    def __init__(self, source: BalanceSource, counters_max: int = COUNTERS_MAX) -> None:
        self._accounts = Accounts(source)
        self._open = self._accounts.holds
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
        return self._accounts.balance(state, meter, now_us)

    def has_entry(self, state: AccountState, entry: LedgerEntry) -> bool:
        """Whether an entry counts already, in the store or in advance."""
        return any(known.id == entry.id for known in state.entries or ())

    def take_back(self, state: AccountState, entry: LedgerEntry) -> None:
        """An entry that takes back what is free counts before it is in the store."""
        self.apply_entry(state, entry)

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """A ledger entry that is in the store changes the live figures, once."""
        self._accounts.apply_entry(state, entry)

    def undo_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """An entry that was applied in advance did not reach the store."""
        self._accounts.undo_entry(state, entry)

    def spending(self, state: AccountState, now_us: int) -> Spending:
        """What the account's overage of the calendar month costs, and with what is held."""
        return month_spending(self._accounts, state, now_us, {})

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
        balances = state.balances
        for meter, amount in ask.charges:
            balance = balances.get(meter)
            # A clock that goes back stays in the period it has reached.
            if balance is None or now_us >= balance.end_us:
                balance = self._accounts.load(state, meter, now_us)
            reserved.append((balance, amount))
            if balance.used + balance.held + amount > balance.room:
                fits = False
        careful: Careful | None = None
        if not fits or ask.counted:
            decision = decide(ask, counters, reserved, self._accounts)
            if isinstance(decision, Refusal):
                return decision
            careful = decision
        gauges: list[Concurrency] = []
        for counter in counters:
            counter.take(now_us)
            if counter.is_unsaved:
                continue
            if counter.__class__ is Concurrency:
                gauges.append(counter)
            elif counter.limit.period_us >= SAVED_PERIOD_MIN_US:
                counter.is_unsaved = True
                self._unsaved.append((subject_of(counter.limit, ask), counter))
        if careful is None:
            for balance, amount in reserved:
                balance.held += amount
            hold = Hold(state, reserved, counters, gauges, ask)
        else:
            for balance, amount in careful.needs.items():
                balance.hold(amount)
            move(careful.moved)
            counts, caps = careful.counts, careful.caps
            hold = CarefulHold(state, reserved, counters, gauges, ask, counts, caps)
        state.in_flight += 1
        self._open.add(hold)
        state.touched_us = now_us
        return hold

    def settlement(
        self, hold: Hold, charges: Charges, counted: tuple[Counted, ...] = ()
    ) -> Settlement:
        """What the exact charges and counts come to, in the order they were reserved."""
        if hold.is_plain and charges is hold.charges:
            postings: list[Posting] = []
            for balance, amount in hold.reserved:
                # Lots may have come since it was admitted; what costs nothing is not posted.
                if not amount or not balance.is_plain:
                    break
                postings.append((balance.meter, amount, balance.span.start_us))
            else:
                return Settlement(tuple(postings))
        elif hold.is_plain and all([balance.is_plain for balance, _ in hold.reserved]):
            pairs = zip(hold.reserved, charges, strict=True)
            found = [(b.meter, n, b.span.start_us) for (b, _), (_, n) in pairs if n]
            return Settlement(tuple(found), amounts=charges)
        return settlement_of(hold, charges, counted)

    def settle(self, hold: Hold, settlement: Settlement, seq: int = 0) -> None:
        """Post it, in the same turn in which it was worked out; the journal has it as `seq`."""
        if settlement.amounts is not None:
            for (balance, held), (_, amount) in zip(hold.reserved, settlement.amounts, strict=True):
                balance.held -= held
                balance.used += amount
        elif settlement.moves is None:
            for balance, amount in hold.reserved:
                balance.held -= amount
                balance.used += amount
        else:
            at_us = _begun_us(hold)
            for balance, held, parts in settlement.moves:
                balance.pay(held, parts, at_us)
            move(settlement.moved)
        self._end(hold)

    def release(self, hold: Hold) -> None:
        """Give everything back; requests stay counted by rate limits."""
        at_us = _begun_us(hold)
        moved, _ = ended(list(hold.counts), [0] * len(hold.counts))
        for balance, held in given_back(hold, moved).items():
            balance.void(held, at_us)
        move(moved)
        self._end(hold)

    def _end(self, hold: Hold) -> None:
        assert hold.is_open, "a hold is settled or released once"
        hold.is_open = False
        hold.ask = None
        hold.account.in_flight -= 1
        self._open.discard(hold)
        for gauge in hold.gauges:
            gauge.release()

    # -- counters ---------------------------------------------------------

    def _counter(self, limit: RateLimit, ask: Ask) -> Counter:
        subjects = self._counters.get(limit.id)
        if subjects is None:
            subjects = self._counters[limit.id] = {}
        is_account = limit.subject == "account"
        subject = ask.account.account.id if is_account else subject_of(limit, ask)
        counter = subjects.get(subject)
        if counter is None:
            if len(subjects) >= self._counters_max:
                _make_room(subjects, ask.time_us)
            counter = subjects[subject] = COUNTERS[limit.algorithm](limit)
        elif counter.limit is not limit:
            counter = subjects[subject] = _under(counter, limit)
        return counter

    def figures(self, limits: Sequence[RateLimit], ask: Ask) -> list[Figures]:
        """What limits say to this caller now; nothing is counted."""
        return [self._counter(limit, ask).figures(ask.time_us) for limit in limits]

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


def subject_of(limit: RateLimit, ask: Ask) -> str:
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


def _begun_us(hold: Hold) -> int:
    assert hold.ask is not None, "a hold is settled or released once"
    return hold.ask.time_us
