"""Counters of measured prices: what a meter holds for a quantity on its way.

A counted rule charges what its quantity adds to the cost of everything its
counter has counted: 1 coin per 10 steps is the coin of every tenth step, in
whichever request that is. Requests end in any order and may end as nothing, so
what a meter must hold belongs to all of them together: with `used` counted and
`held` on its way, cost(used + held) - cost(used). However they end, the
charges are differences over disjoint parts of that range, so they never come
to more; and a void or a settle gives back only what no other one needs.
Must not know accounts or the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.core.ledger import Balance
from gateway.core.pricing import Counted, Rule


class Share:
    """The part of a counter's quantity that one meter balance pays, by one rule's prices.

    `quantity` of the counter's held quantity is its own; `units` are what meter
    and caps hold for it. Kept on the counter while there is any.
    """

    __slots__ = ("counter", "meter", "caps", "rule", "quantity", "units")

    def __init__(self, counter: Balance, meter: Balance, rule: Rule) -> None:
        self.counter = counter
        self.meter = meter
        self.caps = meter.caps
        self.rule = rule
        self.quantity = 0
        self.units = 0

    def __repr__(self) -> str:
        return f"<Share {self.quantity} {self.counter.meter} {self.units} {self.meter.meter}>"

    def is_for(self, meter: Balance, rule: Rule) -> bool:
        """Whether such a request belongs to it: the same balances and the same prices."""
        prices = (rule.rate, rule.tiers)
        is_same = self.meter is meter and self.caps == meter.caps
        return is_same and (self.rule.rate, self.rule.tiers) == prices


class Count(NamedTuple):
    """One request's quantity in a share."""

    share: Share
    amount: int


class Moved(NamedTuple):
    """A share's figures as they are to become."""

    share: Share
    quantity: int
    units: int


def counts_of(
    counted: Iterable[Counted], balance_of: Callable[[str], Balance], meters: dict[str, Balance]
) -> list[Count]:
    """The shares that a request's quantities belong to. Changes nothing."""
    counts: list[Count] = []
    for rule, amount in counted:
        counter, meter = balance_of(rule.counter), meters[rule.meter]
        shares = (*counter.shares, *(c.share for c in counts if c.share.counter is counter))
        found = next((share for share in shares if share.is_for(meter, rule)), None)
        counts.append(Count(found or Share(counter, meter, rule), amount))
    return counts


def taken(counts: list[Count]) -> list[Moved]:
    """How shares stand when these quantities are held, too."""
    added: dict[Balance, int] = {}
    for share, amount in counts:
        added[share.counter] = added.get(share.counter, 0) + amount
    moved: list[Moved] = []
    for counter, amount in added.items():
        moved += _moved(counter, counts, 1, counter.used, counter.held + amount)
    return moved


def ended(
    counts: list[Count], amounts: Iterable[int]
) -> tuple[list[Moved], list[tuple[Share, int, int]]]:
    """How shares stand when held quantities become `amounts` counted ones, 0 where voided.

    And for each: the share, its amount, and what it costs. Several quantities
    of one counter are counted one after the other.
    """
    used = {share.counter: share.counter.used for share, _ in counts}
    held = {share.counter: share.counter.held for share, _ in counts}
    charges: list[tuple[Share, int, int]] = []
    for (share, was_held), amount in zip(counts, amounts, strict=True):
        before = used[share.counter]
        cost = share.rule.cost_of(before + amount) - share.rule.cost_of(before)
        charges.append((share, amount, cost))
        used[share.counter] = before + amount
        held[share.counter] -= was_held
    moved: list[Moved] = []
    for counter, after in used.items():
        moved += _moved(counter, counts, -1, after, held[counter])
    return moved, charges


def _moved(counter: Balance, counts: list[Count], sign: int, used: int, held: int) -> list[Moved]:
    shares = dict.fromkeys((*counter.shares, *(c.share for c in counts)))
    moved = []
    for share in shares:
        if share.counter is counter:
            own = sum(amount for other, amount in counts if other is share)
            quantity = share.quantity + sign * own
            cost = share.rule.cost_of
            units = cost(used + held) - cost(used) if quantity else 0
            moved.append(Moved(share, quantity, units))
    return moved


def move(moved: Iterable[Moved]) -> None:
    """Let the shares stand so; meters, caps and counters are moved by their own figures."""
    for share, quantity, units in moved:
        share.quantity, share.units = quantity, units
        shares = share.counter.shares
        if quantity and share not in shares:
            share.counter.shares = (*shares, share)
        elif not quantity and share in shares:
            share.counter.shares = tuple(other for other in shares if other is not share)
