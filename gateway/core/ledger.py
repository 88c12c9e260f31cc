"""One account's units of one meter in one period: hold, post, void.

Where units come from is a lot: the period's own (allowance, what was carried
over, top-ups), and lots that live beside periods (bundles, promotions).
Invariants: while a balance blocks, what is used and held never exceeds what
its lots have; a hold is posted or voided once, on the balance it was taken
from, so that an event belongs to the period it was admitted in; units leave
lots in one order: expiring first, then priority, then age. What no lot holds
is used from the own lot, which is then overdrawn: overage, or the error of an
estimate. Amounts are integers in the meter's smallest unit. Must not know the
clock.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.book import OverageRate
from gateway.core.money import overage_micro
from gateway.core.periods import EVER_US, Span

# Beyond this an integer is no longer exact in JSON readers and in Lua.
AMOUNT_MAX = 2**53 - 1
OWN_LOT = ""  # of a period: allowance, carried over, top-ups


class Lot:
    """Units beside the periods' own. `expires_us` EVER_US: never."""

    __slots__ = ("id", "kind", "amount", "used", "starts_us", "expires_us", "priority", "time_us")

    def __init__(
        self,
        id: str,
        kind: str,
        amount: int,
        *,
        used: int = 0,
        starts_us: int = 0,
        expires_us: int = EVER_US,
        priority: int = 0,
        time_us: int = 0,
    ) -> None:
        self.id = id
        self.kind = kind
        self.amount = amount
        self.used = used
        self.starts_us = starts_us
        self.expires_us = expires_us
        self.priority = priority
        self.time_us = time_us

    def __repr__(self) -> str:
        return f"<Lot {self.id} {self.used}/{self.amount}>"

    @property
    def left(self) -> int:
        return max(0, self.amount - self.used)

    @property
    def order(self) -> tuple[int, int, int, str]:
        return self.expires_us, self.priority, self.time_us, self.id


class Part(NamedTuple):
    """Units of a posting that one lot pays."""

    lot: str
    amount: int


class Balance:
    """`granted` None: counted without a limit. `end_us`: until when its lots are these."""

    __slots__ = (
        "meter", "span", "end_us", "granted", "topped_up", "used", "held", "overage", "status",
        "rate", "carried", "lots", "caps", "lot", "is_plain", "heir", "elder", "rollover",
    )  # fmt: skip

    def __init__(
        self,
        meter: str,
        span: Span,
        granted: int | None,
        *,
        topped_up: int = 0,
        used: int = 0,
        overage: bool = False,
        status: int = 429,
        lot: str = OWN_LOT,
    ) -> None:
        self.meter = meter
        self.span = span
        self.end_us = span.end_us  # looked at by every request
        self.granted = granted  # the allowance with what was carried over
        self.topped_up = topped_up
        self.used = used  # from the own lot
        self.held = 0
        self.overage = overage
        self.status = status
        self.rate: OverageRate | None = None
        self.carried = 0  # part of `granted`
        self.rollover = 0  # most that the next period takes over
        self.lot = lot  # a cap counts under a name of its own
        self.lots: tuple[Lot, ...] = ()  # in the order in which they burn
        self.caps: tuple[Balance, ...] = ()  # further allowances of the meter
        self.heir: Balance | None = None  # the next period's, which carries over from this
        self.elder: Balance | None = None  # the last period's, which may still claim lots
        self.is_plain = True  # no lots, caps or heir

    def __repr__(self) -> str:
        limit = "unlimited" if self.granted is None else self.granted + self.topped_up
        lots = "".join(f" {lot!r}" for lot in self.lots)
        return f"<Balance {self.meter} {self.used}+{self.held}/{limit}{lots}>"

    @property
    def limit(self) -> int | None:
        """What the period has of its own; None without a limit."""
        return None if self.granted is None else self.granted + self.topped_up

    @property
    def own_left(self) -> int:
        """What the own lot has and nobody used, held or not."""
        return max(0, (self.granted or 0) + self.topped_up - self.used)

    @property
    def lots_left(self) -> int:
        """What the other lots have, without what the last period's requests still hold."""
        left = sum([lot.left for lot in self.lots])
        if self.elder is not None:
            left -= max(0, self.elder.held - self.elder.own_left)
        return max(0, left)

    @property
    def remaining(self) -> int | None:
        """What may still be reserved; never negative, None without a limit."""
        if self.granted is None:
            return None
        if self.is_plain:
            return max(0, self.granted + self.topped_up - self.used - self.held)
        left = max(0, self.own_left + self.lots_left - self.held)
        return min([left, *(cap.remaining or 0 for cap in self.caps)])

    @property
    def over(self) -> int:
        """Units used past everything that was granted."""
        return 0 if self.granted is None else max(0, self.used - self.granted - self.topped_up)

    def fits(self, amount: int) -> bool:
        """Whether `amount` may be reserved now; caps are asked by themselves."""
        if self.used + self.held + amount > AMOUNT_MAX:
            return False
        if self.granted is None or self.overage:
            return True
        if self.is_plain:
            return self.used + self.held + amount <= self.granted + self.topped_up
        return self.held + amount <= self.own_left + self.lots_left

    def hold(self, amount: int) -> None:
        self.held += amount

    def void(self, held: int) -> None:
        """Give a hold back."""
        assert self.held >= held, "voided more than was held"
        self.held -= held
        if self.heir is not None:
            self.heir.carry(self)

    def post(self, held: int, amount: int) -> None:
        """Turn a hold of `held` into a charge of `amount`."""
        if not self.is_plain:
            self.pay(held, self.split(amount))
            return
        assert self.held >= held, "posted more than was held"
        self.held -= held
        self.used += amount

    def pay(self, held: int, parts: list[Part]) -> None:
        """Turn a hold into what each lot pays, as `split` said in the same turn."""
        assert self.held >= held, "posted more than was held"
        self.held -= held
        by_id = {lot.id: lot for lot in self.lots}
        for part in parts:
            if part.lot == self.lot:
                self.used += part.amount
            else:
                by_id[part.lot].used += part.amount
        if self.heir is not None:
            self.heir.carry(self)

    def split(self, amount: int) -> list[Part]:
        """Which lots pay for `amount`, if it were posted now; parts of 0 are left out."""
        parts: list[Part] = []
        rest = amount
        own = 0
        first = [lot for lot in self.lots if lot.order < self.order]
        for lot in (*first, None, *self.lots[len(first) :]):
            taken = min(rest, self.own_left if lot is None else lot.left)
            rest -= taken
            if lot is None:
                own = taken
            elif taken:
                parts.append(Part(lot.id, taken))
        if own + rest:
            parts.append(Part(self.lot, own + rest))
        return parts

    @property
    def order(self) -> tuple[int, int, int, str]:
        """The own lot's place among the others."""
        return self.span.end_us, 0, 0, ""

    def set_lots(self, lots: list[Lot], now_us: int) -> None:
        """Take the lots that are valid now, and note when that changes."""
        valid = [lot for lot in lots if lot.starts_us <= now_us < lot.expires_us]
        self.lots = tuple(sorted(valid, key=lambda lot: lot.order))
        changes = [lot.starts_us for lot in lots if lot.starts_us > now_us]
        changes += [lot.expires_us for lot in valid]
        self.end_us = min([self.span.end_us, *changes, *(cap.span.end_us for cap in self.caps)])
        self.is_plain = not (self.lots or self.caps or self.heir)

    def carry(self, last: Balance) -> None:
        """Begin with what the last period left, as far as it may be taken over.

        Top-ups are not taken over; they are used after the allowance.
        """
        assert self.granted is not None and last.granted is not None
        unused = max(0, last.granted - last.used - last.held)
        carried = min(unused, last.rollover)
        self.granted += carried - self.carried
        self.carried = carried

    def cost_micro(self, more: int = 0) -> int:
        """What everything used, held and `more` past the grants costs, in micro-dollars."""
        if self.rate is None or self.granted is None:
            return 0
        held = max(0, self.held + more - self.lots_left)
        return overage_micro(self.rate, max(0, self.used + held - self.granted - self.topped_up))
