"""What an account's overage costs in a calendar month, as the invoice tells it.

Question: what has the month added to the bill, and with what is held? The rules
are those of core/overage.py; here live balances remember what they need of
them: what had been used when the month began, and when a plan that is not
enforced gave way to one that is. A request counts in the month it was admitted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.book import Account, Allowance
from gateway.core.ledger import Balance, Mark
from gateway.core.money import NOTHING, whole_micro
from gateway.core.overage import cost_of_month, marks_of, rate_at
from gateway.core.periods import DAY_US, EVER_US, MONTH, Span
from gateway.core.rows import AccountVersion, BalanceRow
from gateway.core.statement import NOTED_US, Books, stages
from gateway.core.terms import Timeline
from gateway.state.base import AccountState, BalanceSource

_MONTH_MAX_US = 31 * DAY_US


class Spending(NamedTuple):
    """The overage of one calendar month, in micro-dollars, and the account's cap on it."""

    month: Span
    spent: int  # used past the grants
    reserved: int  # with what is held
    cap_micro: int | None

    @property
    def is_reached(self) -> bool:
        """Whether nothing that is charged may pass. A cap of 0 still lets the grants be used."""
        return self.cap_micro is not None and 0 < self.spent >= self.cap_micro

    @property
    def is_passed(self) -> bool:
        """Whether what is held would be more than the cap."""
        return self.cap_micro is not None and self.reserved > self.cap_micro


def month_of(account: Account, at_us: int) -> Span:
    """The calendar month of the account that an instant is in."""
    return MONTH.span(at_us, account.anchor_us, account.timezone)


def note_bill(
    source: BalanceSource,
    state: AccountState,
    balance: Balance,
    allowance: Allowance | None,
    now_us: int,
    *,
    is_new: bool,
) -> None:
    """Note whether a balance's overage is billed, and what its bill must remember.

    `is_new`: its figures are the store's; else they are live, and so are what new marks
    begin with.
    """
    may_pass = allowance is not None and allowance.on_exhausted == "overage"
    balance.is_billed = may_pass and balance.rate is not None
    if not was_priced(state, balance.meter):
        return
    month = month_of(state.account, now_us)
    span = balance.span
    is_crossing = span.start_us < month.start_us
    balance.turn_us = month.end_us if month.end_us < span.end_us else EVER_US
    if not is_crossing and not has_changed(state, span):
        balance.marks = ()
        return
    books = books_of(state, balance.meter, (), now_us)
    balance.is_billed = rate_at(books, span, now_us + NOTED_US) is not None
    marks = marks_of(books, span, month.start_us, now_us)
    if is_new:
        _read_marks(source, state, balance, marks, books, now_us)
    else:
        known = {(mark.at_us, mark.is_switch): mark.used for mark in balance.marks}
        for mark in marks:
            mark.used = known.get((mark.at_us, mark.is_switch), balance.used)
    balance.marks = tuple(marks)
    balance.refresh()


def note_left_bill(
    source: BalanceSource,
    state: AccountState,
    balance: Balance,
    books: Books,
    last_us: int,
    at_us: int,
) -> None:
    """The same of a balance that no new requests belong to since `last_us`.

    `at_us`: the instant whose terms its bill has; it may be later, where no others came.
    """
    balance.is_billed = balance.rate is not None
    marks = marks_of(books, balance.span, month_of(state.account, last_us).start_us, at_us)
    _read_marks(source, state, balance, marks, books, at_us)
    balance.marks = tuple(marks)


def _read_marks(
    source: BalanceSource,
    state: AccountState,
    balance: Balance,
    marks: list[Mark],
    books: Books,
    now_us: int,
) -> None:
    """What had been used at each mark, as the source has it."""
    if not marks:
        return
    start_us = balance.span.start_us
    first_us = max(start_us, min(books.born_us, marks[0].at_us - 1))
    # The end of all uses: a whole day, so that who asks again asks the same.
    end_us = (max(now_us, marks[-1].at_us) // DAY_US + 1) * DAY_US
    bounds = [first_us, *(mark.at_us for mark in marks), end_us]
    amounts = source.uses(state.account.id, balance.meter, start_us, bounds)
    for n, mark in enumerate(marks):
        mark.used = sum(amounts[: n + 1])


def note_closed(
    source: BalanceSource,
    state: AccountState,
    meter: str,
    live: Sequence[Balance],
    rows: list[BalanceRow],
    now_us: int,
) -> None:
    """What a meter's periods but the live ones have added to the month's bill, from the store."""
    month = month_of(state.account, now_us)
    cost = NOTHING
    if was_priced(state, meter):
        books = books_of(state, meter, rows, now_us)

        def read(period_us: int, bounds: Sequence[int]) -> list[int]:
            return source.uses(state.account.id, meter, period_us, bounds)

        cost = cost_of_month(books, month, now_us, read, {b.span.start_us for b in live})
    if cost or (meter, month.start_us) in state.spent:
        state.spent = {**state.spent, (meter, month.start_us): cost}


def close(state: AccountState, balance: Balance) -> None:
    """A balance is let go: what it added to the bill of the last month it was used in is kept."""
    cost = balance.spent
    if cost:
        months = [mark.at_us for mark in balance.marks if not mark.is_switch]
        month_us = months[-1] if months else month_of(state.account, balance.span[0]).start_us
        key = (balance.meter, month_us)
        state.spent = {**state.spent, key: state.spent.get(key, NOTHING) + cost}


def forget_old(state: AccountState, now_us: int) -> None:
    """What months long gone cost."""
    old_us = now_us - 2 * _MONTH_MAX_US
    if state.spent:
        state.spent = {key: cost for key, cost in state.spent.items() if key[1] > old_us}


def spending_of(state: AccountState, now_us: int, needs: dict[Balance, int]) -> Spending:
    """Of the month of an instant, given that the plan's balances are up to date.

    `needs`: what is to be held besides.
    """
    month = month_of(state.account, now_us)
    closed = [cost for (_, start_us), cost in state.spent.items() if start_us == month.start_us]
    spent = reserved = sum(closed, NOTHING)
    for balance in (*state.balances.values(), *state.aside):
        if _counts_in(balance, month):
            spent += balance.spent
            reserved += balance.cost(needs.get(balance, 0))
    return Spending(month, whole_micro(spent), whole_micro(reserved), state.account.cap_micro)


def adds_cost(needs: dict[Balance, int]) -> bool:
    """Whether what is needed would cost money."""
    return any(balance.cost(amount) > balance.cost() for balance, amount in needs.items())


def _counts_in(balance: Balance, month: Span) -> bool:
    """Whether a balance adds to a month's bill: it began in it, or knows what was before."""
    if balance.span.start_us >= month.start_us:
        return balance.span.start_us < month.end_us
    return any(mark.at_us == month.start_us and not mark.is_switch for mark in balance.marks)


def was_priced(state: AccountState, meter: str) -> bool:
    """Whether units past the grants had a price in any plan that the account ever had."""
    if any(a.overage is not None and a.meter == meter for a in state.plan.allowances):
        return True
    accounts, plans = state.timeline
    if len(plans) < 2 and len(accounts) < 2:
        return False
    names = {version.account.plan for version in accounts}
    return any(
        allowance.overage is not None and allowance.meter == meter
        for version in plans
        for name in names & version.plans.keys()
        for allowance in version.plans[name].allowances
    )


def has_changed(state: AccountState, span: Span) -> bool:
    """Whether account or plans have changed since a period began."""
    accounts, plans = state.timeline
    times = [version.from_us for version in accounts[1:]]
    times += [version.from_us for version in plans[1:]]
    return any(time_us > span.start_us for time_us in times)


def books_of(state: AccountState, meter: str, rows: Sequence[BalanceRow], now_us: int) -> Books:
    """All that is known of a meter; what is in force now may not be noted yet."""
    accounts, plans = state.timeline
    if accounts and accounts[-1].account != state.account:
        from_us = max(now_us, accounts[-1].from_us + 1)
        accounts = (*accounts, AccountVersion(from_us, state.account))
    terms = stages(Timeline(accounts, plans), state.account, state.plan)
    return Books(meter, MONTH, Timeline(accounts, plans), terms, state.entries or (), rows)
