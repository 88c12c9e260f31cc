"""An account's live balances: made from the store, kept up to date, never guessed.

Question: which balance does a meter have at an instant? Invariant: everything
here can be rebuilt from the store; what hot state adds are holds and what has
not been shipped yet. Runs on the event loop; a look-up of the store takes some
20 microseconds, at an account's first call, at the start of a period, and when
lots or terms change.
"""

from __future__ import annotations

from gateway.core.book import Account, Allowance, Book, Plan
from gateway.core.ledger import Balance
from gateway.core.periods import MONTH, Period, Span
from gateway.core.rows import OWN_LOT, AccountVersion, BalanceRow, LedgerEntry
from gateway.core.terms import (
    Past,
    Timeline,
    allowance_in,
    allowance_of_past,
    lots_of,
    own_allowance,
)
from gateway.state.base import NOTHING, AccountState, BalanceSource, Hold
from gateway.state.caps import cap_of, stored_of
from gateway.state.spending import close, forget_old, note_bill, note_closed

# A meter that neither an allowance nor the configuration gives a period.
_UNLIMITED_PERIOD = MONTH
# As a balance's `end_us`: its terms have changed, take the new ones at the next use.
_STALE_US = 0


class Accounts:
    """Live accounts of one process. `periods` are those of meters without an allowance."""

    def __init__(self, source: BalanceSource) -> None:
        self.source = source
        self._states: dict[str, AccountState] = {}
        self.holds: set[Hold] = set()  # open ones, of all accounts
        self.periods: dict[str, Period] = {}

    def use(self, book: Book) -> None:
        """Take a book's meters; balances that are live keep their periods."""
        self.periods = {meter.name: meter.period for meter in book.meters.values()}

    def get(self, account: Account, plan: Plan) -> AccountState:
        """The live state of an account, bound to its effective plan of this book.

        Balances take changed terms at their next use. What the store knows of
        the change (versions, plans) is to be written before.
        """
        state = self._states.get(account.id)
        if state is None:
            state = self._states[account.id] = AccountState(account, plan)
        elif state.account != account or state.plan != plan:
            state.account, state.plan = account, plan
            for balance in state.balances.values():
                self.outdate(balance)
        return state

    def loaded(self, account_id: str) -> AccountState | None:
        return self._states.get(account_id)

    def all(self) -> list[AccountState]:
        return list(self._states.values())

    def evict_idle(self, shipped_seq: int, before_us: int) -> set[str]:
        """Forget accounts that the store knows as well as we do; their ids."""
        idle = {
            account_id
            for account_id, state in self._states.items()
            if state.touched_us < before_us
            and not state.in_flight
            and state.last_seq <= shipped_seq
        }
        for account_id in idle:
            del self._states[account_id]
        return idle

    def begin_anew(self, state: AccountState) -> None:
        """Nothing is live of the account any more: all of it is read again, and held again."""
        self.holds.difference_update([hold for hold in self.holds if hold.account is state])
        state.balances, state.aside, state.in_flight = {}, (), 0
        state.entries, state.timeline = None, Timeline((), ())
        state.lots = state.lots_used = state.caps = state.spent = NOTHING

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """A stored ledger entry changes the live figures, once; told twice it is the same."""
        if state.entries is None:
            return  # nothing is live yet: it will be read with the rest
        if any(known.id == entry.id for known in state.entries):
            return
        state.entries = (*state.entries, entry)
        self._recount(state, entry, entry.amount)

    def undo_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """An entry that was applied in advance did not reach the store."""
        if state.entries is not None and entry in state.entries:
            state.entries = tuple(known for known in state.entries if known != entry)
            self._recount(state, entry, -entry.amount)

    def _recount(self, state: AccountState, entry: LedgerEntry, amount: int) -> None:
        """The entries have changed by one, by `amount`."""
        if entry.lot != OWN_LOT:
            balance = state.balances.get(entry.meter)
            if balance is not None:
                was_stale = balance.end_us == _STALE_US
                self.set_lots(state, balance, max(entry.time_us, balance.span.start_us))
                balance.end_us = _STALE_US if was_stale else balance.end_us
            return
        for balance in (*state.balances.values(), *state.aside):
            if (balance.meter, balance.span.start_us) == (entry.meter, entry.period_us):
                balance.topped_up += amount
                balance.refresh()
                if balance.heir is not None:
                    balance.heir.carry(balance)

    def outdate(self, balance: Balance) -> None:
        """A balance takes the terms of its account anew at its next use."""
        balance.end_us = _STALE_US

    def span_of(self, state: AccountState, meter: str, at_us: int) -> Span:
        """The period that a meter is in at an instant, under the terms of now."""
        own = own_allowance(state.plan, meter)
        period = own.period if own else self.periods.get(meter, _UNLIMITED_PERIOD)
        return _span(state.account, period, at_us)

    # -- balances -----------------------------------------------------------

    def balance(self, state: AccountState, meter: str, now_us: int) -> Balance:
        """The balance of the period that an instant is in."""
        balance = state.balances.get(meter)
        # A clock that goes back stays in the period it has reached.
        if balance is None or now_us >= balance.end_us:
            balance = self.load(state, meter, now_us)
        return balance

    def load(self, state: AccountState, meter: str, now_us: int) -> Balance:
        """The balance of the period that `now_us` is in: refreshed, or a new one."""
        rows = self.rows(state)
        own = [a for a in state.plan.allowances if a.meter == meter]
        last = state.balances.get(meter)
        span = self.span_of(state, meter, now_us)
        if last is not None and now_us < last.span.end_us:
            if not own:
                span = last.span  # what the plan limits no more is counted on as it was
            if span.start_us == last.span.start_us:
                self._rebind(state, last, span, own, now_us, rows)
                return last
        balance = _back(state, meter, span)
        if balance is not None:
            self._rebind(state, balance, span, own, now_us, rows)
        else:
            balance = Balance(
                meter, span, None, used=stored_of(rows, meter, span.start_us, OWN_LOT)
            )
            balance.topped_up = self.past(state, meter, rows).topped_up(span.start_us)
            self._bind(state, balance, own, now_us, rows, is_new=True)
            self._succeed(state, balance, last, rows, now_us)
        state.balances[meter] = balance
        if last is not None:
            state.aside = (*state.aside, last)
            self._tidy(state, now_us)
        return balance

    def rows(self, state: AccountState) -> list[BalanceRow]:
        """Stored balances; the first time also entries, history and what lots have lost."""
        rows = list(self.source.balances(state.account.id))
        if state.entries is None:
            state.entries = tuple(self.source.entries(state.account.id))
            used: dict[tuple[str, str], int] = {}
            for row in rows:
                if row.lot != OWN_LOT:
                    key = (row.meter, row.lot)
                    used[key] = used.get(key, 0) + row.used
            state.lots_used = used or NOTHING
        versions = self.source.versions(state.account.id)
        if len(versions) == 1 and versions[0].account == state.account:
            # Most accounts never change: one object serves both.
            versions = (AccountVersion(versions[0].from_us, state.account),)
        state.timeline = Timeline(versions, self.source.plans())
        return rows

    def _bind(
        self,
        state: AccountState,
        balance: Balance,
        own: list[Allowance],
        now_us: int,
        rows: list[BalanceRow],
        *,
        is_new: bool = False,
    ) -> None:
        """Give a balance its terms, caps and lots as they are now."""
        balance.is_watched = state.account.cap_micro is not None
        if own:
            self._grant(state, balance, own[0], now_us)
        else:
            balance.granted, balance.overage, balance.rate, balance.carried = None, False, None, 0
        allowance = own[0] if own else None
        note_bill(self.source, state, balance, allowance, now_us, is_new=is_new)
        balance.caps = tuple(cap_of(state, allowance, now_us, rows) for allowance in own[1:])
        self.set_lots(state, balance, now_us)

    def _rebind(
        self,
        state: AccountState,
        balance: Balance,
        span: Span,
        own: list[Allowance],
        now_us: int,
        rows: list[BalanceRow],
    ) -> None:
        """Give a live balance the terms of now, which may be of another period.

        Postings name only the start: a period that begins there goes on with them.
        """
        if balance.span == span:
            self._bind(state, balance, own, now_us, rows)
            return
        balance.span, balance.carried, balance.heir = span, 0, None
        for last in state.aside:
            if last.heir is balance:
                last.heir = None
                last.refresh()
        self._bind(state, balance, own, now_us, rows)
        if own:
            self._carry(state, balance, own[0].period, rows)

    def _grant(
        self, state: AccountState, balance: Balance, allowance: Allowance, now_us: int
    ) -> None:
        """What the period's own lot has, and what happens when it is gone."""
        versions = state.timeline.accounts
        granting: Allowance | None = None
        if len(versions) > 1 or (versions and versions[0].account.plan != state.account.plan):
            granting = allowance_in(
                state.timeline, state.plan, state.account, balance.meter, balance.span, now_us
            )
        granting = granting or allowance
        balance.granted = granting.amount + balance.carried
        balance.overage = allowance.on_exhausted == "overage"
        balance.status = allowance.status
        balance.rate = granting.overage
        balance.rollover = granting.rollover

    def _succeed(
        self,
        state: AccountState,
        balance: Balance,
        last: Balance | None,
        rows: list[BalanceRow],
        now_us: int,
    ) -> None:
        """Take over what earlier periods left: units, claims on lots, and what was spent."""
        earlier = [b for b in (*state.aside, last) if b is not None and b.meter == balance.meter]
        # Used or changed: it was closed, and another period came between.
        if not earlier or balance.used or balance.topped_up:
            note_closed(self.source, state, balance.meter, [balance, *earlier], rows, now_us)
        balance.elder = next((b for b in reversed(earlier) if b.held), None)
        own = own_allowance(state.plan, balance.meter)
        if own is None:
            return
        if last is not None and last.rollover and last.granted is not None:
            # Requests of the last period that are on their way may yet leave more.
            is_next = last.span.end_us == balance.span.start_us
            if is_next or state.in_flight:  # also where nothing is held: it may come to more
                self._link(state, last, balance, own.period, rows)
                return
        self._carry(state, balance, own.period, rows)

    def _carry(
        self, state: AccountState, balance: Balance, period: Period, rows: list[BalanceRow]
    ) -> None:
        """Take over what the history says was left."""
        assert balance.granted is not None, "it has an allowance"
        past = self.past(state, balance.meter, rows)
        balance.carried = past.carried_into(balance.span.start_us, period)
        balance.granted += balance.carried
        balance.refresh()

    def _link(
        self,
        state: AccountState,
        last: Balance,
        balance: Balance,
        period: Period,
        rows: list[BalanceRow],
    ) -> None:
        """Carry over from one live balance to another, through the periods between."""
        past = self.past(state, last.meter, rows)
        while last.span.end_us < balance.span.start_us:
            span = _span(state.account, period, last.span.end_us)
            allowance = allowance_of_past(state.timeline, last.meter, span)
            between = Balance(last.meter, span, allowance.amount if allowance else 0)
            between.used = past.used.get(span.start_us, 0)
            between.topped_up = past.topped_up(span.start_us)
            between.rollover = allowance.rollover if allowance else 0
            inherit(between, last)
            last = between
        if last.span.end_us == balance.span.start_us:
            inherit(balance, last)

    def past(self, state: AccountState, meter: str, rows: list[BalanceRow]) -> Past:
        """A meter's history: what the store knows, and what is live here."""
        used = {row.period_us: row.used for row in rows if (row.meter, row.lot) == (meter, OWN_LOT)}
        for balance in (*state.aside, *state.balances.values()):
            if balance.meter == meter:
                used[balance.span.start_us] = balance.used
        return Past(state.timeline, state.account, meter, used, state.entries or ())

    def set_lots(self, state: AccountState, balance: Balance, now_us: int) -> None:
        """The lots beside the period: each is one object, whichever balances use it."""
        lots = []
        for fresh in lots_of(state.entries or (), balance.meter, now_us):
            key = (balance.meter, fresh.id)
            lot = state.lots.get(key)
            if lot is None:
                lot = fresh
                state.lots = {**state.lots, key: lot}
                lot.used = state.lots_used.get(key, 0)
            lot.amount = fresh.amount
            lots.append(lot)
        balance.set_lots(lots, now_us)
        # A recurring lot's occurrences never come back; whoever still holds of one has it.
        over = {key for key, lot in state.lots.items() if "@" in key[1] and lot.expires_us < now_us}
        if over:
            state.lots = {key: lot for key, lot in state.lots.items() if key not in over}

    def _tidy(self, state: AccountState, now_us: int) -> None:
        """Let go of balances that are over and that nothing holds; what they cost is kept."""
        kept = []
        live = list(state.balances.values())
        # Also those of which nothing is held: an estimate of 0 may come to more.
        held = {
            balance
            for hold in (self.holds if state.in_flight else ())
            if hold.account is state
            for balance, _ in hold.reserved
        }
        for balance in state.aside:
            # Who has left something to a present balance may yet be told of an entry.
            is_held = balance.held or balance in held
            if is_held or now_us < balance.span.end_us or balance.heir in live:
                kept.append(balance)
            else:
                close(state, balance)
        state.aside = tuple(kept)
        forget_old(state, now_us)
        for balance in live:
            while balance.elder is not None and not balance.elder.held:
                balance.elder = balance.elder.elder


def _span(account: Account, period: Period, at_us: int) -> Span:
    return period.span(at_us, account.anchor_us, account.timezone)


def inherit(heir: Balance, last: Balance) -> None:
    last.heir = heir
    last.refresh()
    heir.carry(last)


def _back(state: AccountState, meter: str, span: Span) -> Balance | None:
    """A balance that was set aside when the meter's period was changed, and is changed back."""
    for balance in state.aside:
        if (balance.meter, balance.span.start_us) == (meter, span.start_us):
            state.aside = tuple(other for other in state.aside if other is not balance)
            return balance
    return None
