"""The decision where more than one number decides: lots, caps, counters, a spending cap.

Question: what must each balance have room for, and what did a request come to
in the end? Order of refusals: rate and concurrency limits as configured, then
budgets in the order of the price (a counter after the meters), then further
allowances, then the spending cap. Nothing changes until all of them agree.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from gateway.core.counting import Count, Moved, counts_of, ended, taken
from gateway.core.ledger import Balance, Part
from gateway.core.limits import Counter
from gateway.core.money import format_micro
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Evaluated, Refusal
from gateway.state.accounts import Accounts
from gateway.state.base import AccountState, Ask, Hold, Posting, Settlement
from gateway.state.refusal import balance_row, cap_row, counter_row, refusal_of
from gateway.state.spending import Spending, adds_cost, spending_of

Reserved = list[tuple[Balance, int]]


class Careful(NamedTuple):
    """What is to be reserved; everything there has room."""

    needs: dict[Balance, int]  # meters, counters and caps
    counts: list[Count]
    moved: list[Moved]  # shares of counters
    caps: Reserved  # of the fixed charges


def decide(
    ask: Ask, counters: list[Counter], reserved: Reserved, accounts: Accounts
) -> Careful | Refusal:
    """What a request would reserve, or why it may not. Changes nothing."""
    now_us, state = ask.time_us, ask.account
    meters = {balance.meter: balance for balance, _ in reserved}
    counts = counts_of(ask.counted, lambda name: accounts.balance(state, name, now_us), meters)
    moved = taken(counts)
    caps = [(cap, amount) for balance, amount in reserved for cap in balance.caps]
    needs, cap_needs = needs_of(reserved, caps, counts, moved)
    rows = [counter_row(counter, now_us) for counter in counters]
    rows += _budget_rows(state, needs)
    rows += [cap_row(cap, amount) for cap, amount in cap_needs.items()]
    if state.account.cap_micro is not None and any(needs.values()):
        rows.append(_spending_row(accounts, state, needs, now_us))
    if any(row.refused for row in rows):
        return refusal_of(rows, [*needs, *cap_needs], now_us)
    return Careful({**needs, **cap_needs}, counts, moved, caps)


def _budget_rows(state: AccountState, needs: dict[Balance, int]) -> list[Evaluated]:
    """Whether each balance has room, given that all of them take what they need.

    A counter that outlives its meter's period may need more of older periods
    too, which may be of a lot that all of them have, or of what is carried over.
    """
    older = [b for b in needs if state.balances.get(b.meter) is not b]
    older.sort(key=lambda balance: balance.span.start_us)
    last = []
    for balance in older:
        last.append(balance_row(balance, needs[balance]))
        balance.hold(needs[balance])
    rows = [balance_row(balance, n) for balance, n in needs.items() if balance not in older]
    if older:
        # Who needs nothing more keeps what it holds.
        meters = {balance.meter for balance in older}
        for balance in (*state.aside, *state.balances.values()):
            if balance.meter in meters and balance not in needs and not balance.has_what_is_held:
                rows.append(replace(balance_row(balance, 0), refused=True))
    for balance in reversed(older):
        balance.hold(-needs[balance])
    return rows + last


def needs_of(
    reserved: Reserved, caps: Reserved, counts: list[Count], moved: list[Moved]
) -> tuple[dict[Balance, int], dict[Balance, int]]:
    """By balance, and by cap, what must have room: fixed amounts and what counters add."""
    needs: dict[Balance, int] = {}
    cap_needs: dict[Balance, int] = {}
    for into, amounts in ((needs, reserved), (cap_needs, caps)):
        for balance, amount in amounts:
            into[balance] = into.get(balance, 0) + amount
    for share, _, units in moved:
        more = units - share.units
        needs[share.meter] = needs.get(share.meter, 0) + more
        for cap in share.caps:
            cap_needs[cap] = cap_needs.get(cap, 0) + more
    for share, amount in counts:
        needs[share.counter] = needs.get(share.counter, 0) + amount
    return needs, cap_needs


def settlement_of(hold: Hold, charges: Charges, counted: tuple[Counted, ...]) -> Settlement:
    """What the exact charges and counts come to, by lot. Changes nothing."""
    assert hold.ask is not None, "worked out while the hold is open"
    at_us = hold.ask.time_us
    moved, counts = ended(list(hold.counts), [amount for _, amount in counted])
    back = given_back(hold, moved)
    totals = {balance: 0 for balance, _ in hold.reserved}
    for (balance, _), (_, amount) in zip(hold.reserved, charges, strict=True):
        totals[balance] += amount
    caps: dict[Balance, int] = {}
    for share, amount, cost in counts:
        totals[share.meter] += cost
        totals[share.counter] = totals.get(share.counter, 0) + amount
        for cap in share.caps:
            caps[cap] = caps.get(cap, 0) + cost
    for cap, amount in _cap_charges(hold, charges):
        caps[cap] = caps.get(cap, 0) + amount
    moves = [(b, back.pop(b, 0), b.split(amount, at_us)) for b, amount in totals.items()]
    moves += [
        (b, back.pop(b, 0), [Part(b.lot, amount)] if amount else []) for b, amount in caps.items()
    ]
    moves += [(balance, held, []) for balance, held in back.items()]
    postings = [_posting(balance, part) for balance, _, parts in moves for part in parts]
    return Settlement(tuple(postings), moves, moved)


def given_back(hold: Hold, moved: list[Moved]) -> dict[Balance, int]:
    """What each balance no longer holds; negative where others' quantities need more now."""
    back: dict[Balance, int] = {}
    for balance, amount in (*hold.reserved, *hold.caps):
        back[balance] = back.get(balance, 0) + amount
    for share, _, units in moved:
        for balance in (share.meter, *share.caps):
            back[balance] = back.get(balance, 0) + share.units - units
    for share, amount in hold.counts:
        back[share.counter] = back.get(share.counter, 0) + amount
    return back


def _cap_charges(hold: Hold, charges: Charges) -> Reserved:
    """The fixed charges again, for the caps of their meters as they were at admission."""
    amounts: dict[str, int] = {}
    for meter, amount in charges:
        amounts[meter] = amounts.get(meter, 0) + amount
    caps = dict.fromkeys(cap for cap, _ in hold.caps)
    return [(cap, amounts[cap.meter]) for cap in caps]


def _posting(balance: Balance, part: Part) -> Posting:
    start_us = balance.span.start_us
    if part.lot:
        return balance.meter, part.amount, start_us, part.lot
    return balance.meter, part.amount, start_us


# -- the spending cap ---------------------------------------------------------


def month_spending(
    accounts: Accounts, state: AccountState, now_us: int, needs: dict[Balance, int]
) -> Spending:
    """What the overage of the month costs, with what is needed besides."""
    for allowance in state.plan.allowances:
        accounts.balance(state, allowance.meter, now_us)
    return spending_of(state, now_us, needs)


def _spending_row(
    accounts: Accounts, state: AccountState, needs: dict[Balance, int], now_us: int
) -> Evaluated:
    """The spending cap: what would pass it is refused, and all that is charged once it is reached.

    A cap of 0 is reached by the first micro-dollar: the allowances may be used.
    """
    found = month_spending(accounts, state, now_us, needs)
    assert found.cap_micro is not None
    return Evaluated(
        name="spending_cap",
        kind="spending",
        limit=format_micro(found.cap_micro),
        used=format_micro(found.spent),
        remaining=format_micro(max(0, found.cap_micro - found.spent)),
        reset_us=found.month.end_us,
        refused=found.is_reached or (found.is_passed and adds_cost(needs)),
    )
