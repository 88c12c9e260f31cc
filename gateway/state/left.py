"""Balances that no new requests belong to, made anew with the terms that they were left with.

Question: what does a period have that is over, or that terms with another kind of period
have put aside, while requests of it are on their way? In one process such a balance was
live, and stays as it was; whoever makes an account's figures anew asks the history what
was in force at its last instant. The rules are the invoice's (core/statement.py).
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.ledger import Balance
from gateway.core.overage import rate_at
from gateway.core.periods import Span
from gateway.core.rows import OWN_LOT
from gateway.core.statement import NOTED_US, Books
from gateway.core.terms import own_allowance
from gateway.state.accounts import Accounts, inherit
from gateway.state.base import AccountState
from gateway.state.caps import stored_of
from gateway.state.spending import (
    books_of,
    has_changed,
    note_bill,
    note_closed,
    note_left_bill,
    was_priced,
)


class Left(NamedTuple):
    """A period, and its last instant so far: its end, or when other terms put it aside."""

    span: Span
    last_us: int


def left_of(books: Books, span: Span, now_us: int) -> Left:
    """The period that begins as this one does, by the last terms that had it.

    Postings name only the start: what changed to another period that begins there is one.
    """
    for stage in reversed(books.terms):
        if stage.from_us > now_us + NOTED_US and stage is not books.terms[0]:
            continue
        own = own_allowance(stage.plan, books.meter)
        if own is not None:
            at_us = max(stage.from_us, span.start_us)
            found = own.period.span(at_us, stage.account.anchor_us, stage.account.timezone)
            if found.start_us == span.start_us:
                return Left(found, min(found.end_us, stage.to_us, now_us + 1) - 1)
        if stage.from_us <= span.start_us:
            break
    return Left(span, min(span.end_us, now_us + 1) - 1)


def find(
    accounts: Accounts, state: AccountState, meter: str, span: Span, at_us: int, now_us: int
) -> Balance:
    """The balance that a request of `at_us` was admitted to, which is in this period."""
    if state.entries is None:
        accounts.rows(state)  # and the history
    if has_changed(state, span):
        span = left_of(books_of(state, meter, (), now_us), span, now_us).span
    live = [*state.aside]
    if accounts.span_of(state, meter, at_us) == span:
        live = [accounts.balance(state, meter, at_us), *state.aside]
    elif meter in state.balances:
        live.append(state.balances[meter])
    for balance in live:
        if (balance.meter, balance.span.start_us) == (meter, span.start_us):
            return balance
    return _put_aside(accounts, state, Balance(meter, span, None), at_us, now_us)


def find_cap(accounts: Accounts, state: AccountState, meter: str, span: Span, lot: str) -> Balance:
    """A further allowance that a request counts in; the plan may not have it any more."""
    key = (meter, lot)
    cap = state.caps.get(key)
    if cap is None or cap.span.start_us != span.start_us:
        used = stored_of(accounts.rows(state), meter, span.start_us, lot)
        cap = Balance(meter, span, None, used=used, lot=lot)
        state.caps = {key: cap, **state.caps}
    return cap


def _put_aside(
    accounts: Accounts,
    state: AccountState,
    balance: Balance,
    at_us: int,
    now_us: int,
) -> Balance:
    """A balance as a request of `at_us` found it; other terms have put it aside since."""
    meter, span, rows = balance.meter, balance.span, accounts.rows(state)
    balance.used = stored_of(rows, meter, span.start_us, OWN_LOT)
    past = accounts.past(state, meter, rows)
    balance.topped_up = past.topped_up(span.start_us)
    books = books_of(state, meter, (), now_us)
    allowance = books.allowance_at(span, _terms_us(span, now_us))
    if allowance is not None:
        balance.carried = past.carried_into(span.start_us, allowance.period)
    _bind(accounts, state, balance, now_us)
    accounts.set_lots(state, balance, at_us)
    for last in state.aside:
        is_last = last.meter == meter and last.span.end_us == span.start_us
        if is_last and last.rollover:
            inherit(balance, last)
    state.aside = (*state.aside, balance)
    return balance


def _terms_us(span: Span, now_us: int) -> int:
    """The instant whose terms count in a period."""
    return span.end_us - 1 if span.end_us <= now_us else now_us + NOTED_US


def _bind(accounts: Accounts, state: AccountState, balance: Balance, now_us: int) -> None:
    """Give a balance the terms that it was left with."""
    books = books_of(state, balance.meter, (), now_us)
    left = left_of(books, balance.span, now_us)
    balance.span = left.span
    at_us = _terms_us(left.span, now_us)
    allowance = books.allowance_at(left.span, at_us)
    if allowance is None:
        balance.granted, balance.overage, balance.rate, balance.carried = None, False, None, 0
    else:
        balance.granted = allowance.amount + balance.carried
        balance.overage = allowance.on_exhausted == "overage"
        balance.status = allowance.status
        balance.rollover = allowance.rollover
        balance.rate = rate_at(books, left.span, at_us)
    if was_priced(state, balance.meter):
        note_left_bill(accounts.source, state, balance, books, left.last_us, at_us)
    balance.refresh()
    if balance.heir is not None:
        balance.heir.carry(balance)


def _bind_left(accounts: Accounts, state: AccountState, balance: Balance, now_us: int) -> None:
    if has_changed(state, balance.span):
        _bind(accounts, state, balance, now_us)
        return
    own = own_allowance(state.plan, balance.meter)
    last_us = min(balance.span.end_us - 1, now_us)
    note_bill(accounts.source, state, balance, own, last_us, is_new=True)


def bind_all(accounts: Accounts, state: AccountState, now_us: int) -> None:
    """Give what was made as of earlier instants its own terms: those of now, or the last."""
    rows = accounts.rows(state)
    for meter, balance in list(state.balances.items()):
        accounts.outdate(balance)
        present = accounts.balance(state, meter, now_us)
        own = own_allowance(state.plan, meter)
        note_bill(accounts.source, state, present, own, now_us, is_new=True)
    for balance in state.aside:
        _bind_left(accounts, state, balance, now_us)
    meters = {*state.balances, *(balance.meter for balance in state.aside)}
    for meter in sorted(meters | {row.meter for row in rows}):
        live = [b for b in (*state.balances.values(), *state.aside) if b.meter == meter]
        note_closed(accounts.source, state, meter, live, rows, now_us)
