"""An account's live balances: made from the store, kept up to date, never guessed.

Question: which balance does a meter have at an instant? Invariant: everything
here can be rebuilt from the store; what hot state adds are holds and what has
not been shipped yet. Runs on the event loop; a look-up of the store takes some
20 microseconds, at an account's first call and at the start of a period.
"""

from __future__ import annotations

from gateway.core.book import Account, Allowance, Book, Plan
from gateway.core.ledger import OWN_LOT, Balance
from gateway.core.periods import Period, Span
from gateway.core.rows import BalanceRow, LedgerEntry
from gateway.core.terms import CARRY_PERIODS_MAX, Timeline, allowance_in, allowance_of_past, lots_of
from gateway.state.base import AccountState, BalanceSource

# A meter that neither an allowance nor the configuration gives a period.
_UNLIMITED_PERIOD = Period("month")


class Accounts:
    """Live accounts of one process. `periods` are those of meters without an allowance."""

    def __init__(self, source: BalanceSource) -> None:
        self._source = source
        self._states: dict[str, AccountState] = {}
        self.periods: dict[str, Period] = {}

    def use(self, book: Book) -> None:
        """Take a book's meters; balances that are live keep their periods."""
        self.periods = {meter.name: meter.period for meter in book.meters.values()}

    def get(self, account: Account, plan: Plan) -> AccountState:
        """The live state of an account, bound to its effective plan of this book."""
        state = self._states.get(account.id)
        if state is None:
            state = self._states[account.id] = AccountState(account, plan)
        elif state.account != account or state.plan != plan:
            state.account, state.plan = account, plan
            self._rebind(state)
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
            and state.in_flight == 0
            and state.last_seq <= shipped_seq
        }
        for account_id in idle:
            del self._states[account_id]
        return idle

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """A stored ledger entry changes the live figures."""
        if state.entries is None:
            return  # nothing is live yet: it will be read with the rest
        if any(known.id == entry.id for known in state.entries):
            return
        state.entries.append(entry)
        self._recount(state, entry, entry.amount)

    def undo_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """An entry that was applied in advance did not reach the store."""
        if state.entries is not None and entry in state.entries:
            state.entries.remove(entry)
            self._recount(state, entry, -entry.amount)

    def _recount(self, state: AccountState, entry: LedgerEntry, amount: int) -> None:
        """The entries have changed by one, by `amount`."""
        balance = state.balances.get(entry.meter)
        if balance is None:
            return
        if entry.lot == OWN_LOT:
            if balance.span.start_us == entry.period_us:
                balance.topped_up += amount
        else:
            self._set_lots(state, balance, max(entry.time_us, balance.span.start_us))

    # -- balances -----------------------------------------------------------

    def load(self, state: AccountState, meter: str, now_us: int) -> Balance:
        """The balance of the period that `now_us` is in: refreshed, or a new one."""
        last = state.balances.get(meter)
        rows = self._rows(state)
        if last is not None and now_us < last.span.end_us:
            last.caps = tuple(_cap_at(cap, state, now_us, rows) for cap in last.caps)
            self._set_lots(state, last, now_us)
            return last
        own = [a for a in state.plan.allowances if a.meter == meter]
        period = own[0].period if own else self.periods.get(meter, _UNLIMITED_PERIOD)
        balance = _balance(state, meter, period, now_us, rows)
        if own:
            self._grant(state, balance, own[0], now_us)
            balance.caps = tuple(_cap(state, allowance, now_us, rows) for allowance in own[1:])
        balance.topped_up = sum(
            entry.amount
            for entry in state.entries or ()
            if entry.lot == OWN_LOT
            and entry.meter == meter
            and entry.period_us == balance.span.start_us
        )
        if balance.rollover and balance.granted is not None:
            self._carry(state, balance, last, rows)
        self._set_lots(state, balance, now_us)
        balance.elder = last if last is not None and last.held and balance.lots else None
        state.balances[meter] = balance
        return balance

    def _rows(self, state: AccountState) -> list[BalanceRow]:
        """Stored balances; the first time also entries, history and what lots have lost."""
        rows = list(self._source.balances(state.account.id))
        if state.entries is None:
            state.entries = list(self._source.entries(state.account.id))
            for row in rows:
                key = (row.meter, row.lot)
                state.lots_used[key] = state.lots_used.get(key, 0) + row.used
        state.timeline = Timeline(self._source.versions(state.account.id), self._source.plans())
        return rows

    def _grant(
        self, state: AccountState, balance: Balance, allowance: Allowance, now_us: int
    ) -> None:
        """What the period's own lot has, and what happens when it is gone."""
        granting = allowance
        if len(state.timeline.accounts) > 1:
            found = allowance_in(
                state.timeline, state.plan, state.account, balance.meter, balance.span, now_us
            )
            granting = found or allowance
        balance.granted = granting.amount + balance.carried
        balance.overage = allowance.on_exhausted == "overage"
        balance.status = allowance.status
        balance.rate = allowance.overage
        balance.rollover = allowance.rollover

    def _carry(
        self, state: AccountState, balance: Balance, last: Balance | None, rows: list[BalanceRow]
    ) -> None:
        """Take over what the period before left unused."""
        if last is None or last.span.end_us != balance.span.start_us:
            last = self._past(state, balance, rows)
        if last is not None and last.granted is not None:
            balance.carry(last)
            last.heir = balance
            last.is_plain = False

    def _past(
        self, state: AccountState, balance: Balance, rows: list[BalanceRow]
    ) -> Balance | None:
        """The period before as the store knows it, with what it took over itself."""
        allowance = next(a for a in state.plan.allowances if a.meter == balance.meter)
        born_us = state.timeline.accounts[0].from_us if state.timeline.accounts else None
        used = {
            row.period_us: row.used for row in rows if (row.meter, row.lot) == (balance.meter, "")
        }
        spans: list[Span] = []
        start_us = balance.span.start_us
        while len(spans) < CARRY_PERIODS_MAX and born_us is not None and start_us > born_us:
            account = state.account
            spans.append(allowance.period.span(start_us - 1, account.anchor_us, account.timezone))
            start_us = spans[-1].start_us
        last: Balance | None = None
        for span in reversed(spans):
            granted = allowance_of_past(state.timeline, balance.meter, span) or allowance
            past = Balance(balance.meter, span, granted.amount, used=used.get(span.start_us, 0))
            past.rollover = granted.rollover
            if last is not None:
                past.carry(last)
            last = past
        return last

    def _set_lots(self, state: AccountState, balance: Balance, now_us: int) -> None:
        """The lots beside the period: each is one object, whichever balances use it."""
        lots = []
        for fresh in lots_of(state.entries or (), balance.meter, now_us):
            key = (balance.meter, fresh.id)
            lot = state.lots.get(key)
            if lot is None:
                lot = state.lots[key] = fresh
                lot.used = state.lots_used.get(key, 0)
            lot.amount = fresh.amount
            lots.append(lot)
        balance.set_lots(lots, now_us)

    def _rebind(self, state: AccountState) -> None:
        """Account or plan has changed: live balances take the new terms at once.

        A balance whose period is another now is made anew at its next use.
        """
        if state.entries is not None:
            state.timeline = Timeline(self._source.versions(state.account.id), self._source.plans())
        for meter, balance in tuple(state.balances.items()):
            own = [a for a in state.plan.allowances if a.meter == meter]
            account = state.account
            if not own:
                balance.granted, balance.overage, balance.rate = None, False, None
                balance.caps = ()
            elif (
                own[0].period.span(balance.span.start_us, account.anchor_us, account.timezone)
                == balance.span
            ):
                self._grant(state, balance, own[0], balance.span.end_us - 1)
                balance.caps = tuple(_kept_cap(balance, allowance, state) for allowance in own[1:])
            else:
                balance.end_us = 0
                balance.span = Span(balance.span.start_us, 0)
            balance.is_plain = not (balance.lots or balance.caps or balance.heir)


def _balance(
    state: AccountState, meter: str, period: Period, now_us: int, rows: list[BalanceRow]
) -> Balance:
    account = state.account
    span = period.span(now_us, account.anchor_us, account.timezone)
    balance = Balance(meter, span, None)
    balance.used = _stored(rows, meter, span.start_us, OWN_LOT)
    return balance


def _cap(state: AccountState, allowance: Allowance, now_us: int, rows: list[BalanceRow]) -> Balance:
    """A further allowance of a meter: counted under a name of its own."""
    account = state.account
    span = allowance.period.span(now_us, account.anchor_us, account.timezone)
    cap = Balance(
        allowance.meter,
        span,
        allowance.amount,
        overage=allowance.on_exhausted == "overage",
        status=allowance.status,
        lot=cap_lot(allowance.period),
    )
    cap.used = _stored(rows, allowance.meter, span.start_us, cap.lot)
    return cap


def _cap_at(cap: Balance, state: AccountState, now_us: int, rows: list[BalanceRow]) -> Balance:
    """The cap of the period that is now; one that has ended is counted anew."""
    if now_us < cap.span.end_us:
        return cap
    own = [a for a in state.plan.allowances if a.meter == cap.meter]
    allowance = next(a for a in own[1:] if cap_lot(a.period) == cap.lot)
    return _cap(state, allowance, now_us, rows)


def _kept_cap(balance: Balance, allowance: Allowance, state: AccountState) -> Balance:
    """The live cap of a changed plan, with what was counted in it."""
    lot = cap_lot(allowance.period)
    for cap in balance.caps:
        if cap.lot == lot:
            cap.granted, cap.status = allowance.amount, allowance.status
            cap.overage = allowance.on_exhausted == "overage"
            return cap
    return _cap(state, allowance, balance.span.start_us, [])


def cap_lot(period: Period) -> str:
    """The lot name under which a further allowance of this period counts."""
    return f"@{period.kind}" + (f"{period.length_us}" if period.length_us else "")


def _stored(rows: list[BalanceRow], meter: str, period_us: int, lot: str) -> int:
    return sum(
        row.used for row in rows if (row.meter, row.period_us, row.lot) == (meter, period_us, lot)
    )
