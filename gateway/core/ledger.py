"""One account's units of one meter in one period: hold, post, void.

Where units come from is a lot: the period's own (allowance, what was carried
over, top-ups), and lots that live beside periods (bundles, promotions).
Invariants: while a balance blocks, what is used and held never exceeds what
its lots have; a hold is posted or voided once, on the balance it was taken
from, so that an event belongs to the period it was admitted in; units leave
lots in one order: expiring first, then priority, then age. A lot that expires
still pays for what was admitted before. What no lot holds is used from the own
lot, which is then overdrawn: overage, or the error of an estimate. Amounts are
integers in the meter's smallest unit. Must not know the clock.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from gateway.core.book import OverageRate
from gateway.core.money import NOTHING, Stand, bills, exact_cost
from gateway.core.periods import EVER_US, Span
from gateway.core.rows import OWN_LOT
from gateway.core.units import AMOUNT_MAX

if TYPE_CHECKING:
    from gateway.core.counting import Share

_ASK_WITH_CARE = -1  # as `room`: no amount is small enough


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


class Late:
    """A lot that expired while `held` was reserved: those requests may still take from it."""

    __slots__ = ("lot", "held")

    def __init__(self, lot: Lot, held: int) -> None:
        self.lot = lot
        self.held = held

    @property
    def left(self) -> int:
        return min(self.lot.left, self.held)


class Part(NamedTuple):
    """Units of a posting that one lot pays."""

    lot: str
    amount: int


class Mark:
    """An instant within a period: what requests admitted before it used of the own lot.

    `granted` is without what was carried over, None without a limit; `rate` None: not billed.
    `is_switch`: until then a plan that is not enforced was in force. Else a month began.
    """

    __slots__ = ("at_us", "used", "granted", "rate", "is_switch")

    def __init__(
        self, at_us: int, granted: int | None, rate: OverageRate | None, *, is_switch: bool
    ) -> None:
        self.at_us = at_us
        self.used = 0
        self.granted = granted
        self.rate = rate
        self.is_switch = is_switch

    def __repr__(self) -> str:
        return f"<Mark {self.at_us} {self.used}/{self.granted}>"

    def stand(self, carried: int) -> Stand:
        over = 0 if self.granted is None else max(0, self.used - self.granted - carried)
        return Stand(over, None, over) if self.is_switch else Stand(over, self.rate)


class Balance:
    """`granted` None: counted without a limit. `end_us`: until when its lots are these.

    After a change of anything but `used` and `held`, `refresh` is to be called.
    """

    __slots__ = (
        "meter", "span", "end_us", "granted", "topped_up", "used", "held", "overage", "status",
        "rate", "carried", "lots", "late", "caps", "lot", "is_plain", "is_watched", "heir",
        "elder", "rollover", "room", "shares", "is_billed", "marks", "turn_us",
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
        self.is_billed = False  # what is used past the grants costs `rate`
        self.marks: tuple[Mark, ...] = ()  # what the bill remembers, in the order of time
        self.turn_us = EVER_US  # when the next mark is due
        self.carried = 0  # part of `granted`
        self.rollover = 0  # most that the next period takes over
        self.lot = lot  # a cap counts under a name of its own
        self.lots: tuple[Lot, ...] = ()  # in the order in which they burn
        self.late: tuple[Late, ...] = ()  # expired, for what is on its way
        self.caps: tuple[Balance, ...] = ()  # further allowances of the meter
        self.heir: Balance | None = None  # the next period's, which carries over from this
        self.elder: Balance | None = None  # the last period's, which may still claim lots
        self.shares: tuple[Share, ...] = ()  # of a counter: who holds units for what is held here
        self.is_watched = False  # a spending cap has a say
        self.refresh()

    def refresh(self) -> None:
        """Note whether more than `used`, `held` and one number decide, and that number."""
        self.is_plain = not (self.lots or self.late or self.caps or self.heir or self.marks)
        # `used + held` may come to `room`; whoever would pass it asks `fits`.
        if self.is_watched or not self.is_plain:
            self.room = _ASK_WITH_CARE
        elif self.granted is None or self.overage:
            self.room = AMOUNT_MAX
        else:
            self.room = min(AMOUNT_MAX, self.granted + self.topped_up)

    def __repr__(self) -> str:
        limit = "unlimited" if self.granted is None else self.granted + self.topped_up
        lots = "".join(f" {lot!r}" for lot in self.lots)
        return f"<Balance {self.meter} {self.used}+{self.held}/{limit}{lots}>"

    # -- what is left -------------------------------------------------------

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
        """What other lots have for this period, without what earlier ones still hold of it."""
        if not (self.lots or self.late):
            return 0
        left = sum([lot.left for lot in self.lots]) + sum([late.left for late in self.late])
        if self.elder is not None:
            left -= self.elder.claim({id(lot) for lot in self._usable})
        return max(0, left)

    @property
    def _usable(self) -> list[Lot]:
        return [*self.lots, *(late.lot for late in self.late)]

    def claim(self, lots: Collection[int]) -> int:
        """What is held here, and before, and can only be paid from these lots (by identity)."""
        shared = sum([lot.left for lot in self._usable if id(lot) in lots])
        alone = sum([lot.left for lot in self._usable if id(lot) not in lots])
        claimed = min(shared, max(0, self.held - self.own_left - alone))
        return claimed + (self.elder.claim(lots) if self.elder is not None else 0)

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
        """Units used past everything that was granted: overage, or overdraft where it blocks."""
        return 0 if self.granted is None else max(0, self.used - self.granted - self.topped_up)

    def fits(self, amount: int) -> bool:
        """Whether `amount` may be reserved now; caps are asked by themselves.

        An amount of 0 does not fit into what is overdrawn: who reserves nothing
        could else go on for ever on estimates that are too small.
        """
        if self.used + self.held + amount > AMOUNT_MAX:
            return False
        if self.granted is None or self.overage:
            return True
        if self.is_plain:
            return self.used + self.held + amount <= self.granted + self.topped_up
        left = self.own_left + self.lots_left - self.held
        return amount <= left and (left > 0 or self.over == 0)

    def free(self, lot_id: str) -> int:
        """What may be taken back of a lot: neither used nor held."""
        lot = next((lot for lot in self.lots if lot.id == lot_id), None)
        has = self.own_left if lot is None else lot.left
        return max(0, min(has, self.own_left + self.lots_left - self.held))

    @property
    def has_what_is_held(self) -> bool:
        """Whether all that is held can be paid by lots, where that is asked for."""
        is_free = self.granted is None or self.overage
        return is_free or self.held <= self.own_left + self.lots_left

    # -- hold, post, void ---------------------------------------------------

    def hold(self, amount: int) -> None:
        self.held += amount
        if self.heir is not None:
            self.heir.carry(self)

    def void(self, held: int, at_us: int = 0) -> None:
        """Give back a hold that was taken at an instant."""
        self._end(held, at_us)

    def post(self, held: int, amount: int, at_us: int = 0) -> None:
        """Turn a hold of `held` into a charge of `amount`."""
        self.pay(held, self.split(amount, at_us), at_us)

    def pay(self, held: int, parts: list[Part], at_us: int = 0) -> None:
        """Turn a hold into what each lot pays, as `split` said in the same turn."""
        by_id = {lot.id: lot for lot in self._usable}
        for part in parts:
            if part.lot == self.lot:
                self.used += part.amount
                for mark in self.marks:
                    if at_us < mark.at_us:
                        mark.used += part.amount
            else:
                by_id[part.lot].used += part.amount
        self._end(held, at_us)

    def _end(self, held: int, at_us: int) -> None:
        """`held` is negative where a counter's other requests need more than before."""
        assert self.held >= held, "ended more than was held"
        self.held -= held
        if self.late:
            for late in self.late:
                if at_us < late.lot.expires_us:
                    late.held = max(0, min(late.held - held, self.held))
            self.late = tuple(late for late in self.late if late.left)
            self.refresh()
        if self.heir is not None:
            self.heir.carry(self)

    def split(self, amount: int, at_us: int = 0) -> list[Part]:
        """Which lots pay for `amount` of a request of `at_us`; parts of 0 are left out."""
        parts: list[Part] = []
        rest = amount
        for late in self.late:
            if rest and at_us < late.lot.expires_us:
                taken = min(rest, late.left)
                rest -= taken
                if taken:
                    parts.append(Part(late.lot.id, taken))
        own = 0
        free = self.lots_left
        first = [lot for lot in self.lots if lot.order < self.order]
        order: list[Lot | None] = [*first, None, *self.lots[len(first) :]]
        for lot in order:
            taken = min(rest, self.own_left) if lot is None else min(rest, lot.left, free)
            rest -= taken
            if lot is None:
                own = taken
            elif taken:
                free -= taken
                parts.append(Part(lot.id, taken))
        if own + rest:
            parts.append(Part(self.lot, own + rest))
        return parts

    @property
    def order(self) -> tuple[int, int, int, str]:
        """The own lot's place among the others."""
        return self.span.end_us, 0, 0, ""

    # -- what changes beside requests -----------------------------------------

    def set_lots(self, lots: list[Lot], now_us: int) -> None:
        """Take the lots that are valid now, and note when that changes."""
        if self.held:
            gone = [lot for lot in self.lots if lot.expires_us <= now_us and lot.left]
            self.late += tuple(Late(lot, self.held) for lot in gone)
        valid = [lot for lot in lots if lot.starts_us <= now_us < lot.expires_us]
        self.lots = tuple(sorted(valid, key=lambda lot: lot.order))
        changes = [lot.starts_us for lot in lots if lot.starts_us > now_us]
        changes += [lot.expires_us for lot in valid]
        changes += [cap.span.end_us for cap in self.caps]
        self.end_us = min([self.span.end_us, self.turn_us, *changes])
        self.refresh()

    def carry(self, last: Balance) -> None:
        """Begin with what the last period left, as far as it may be taken over.

        Top-ups are not taken over; they are used after the allowance. What was
        taken back of the allowance is not there to be taken over either.
        """
        if self.granted is None or last.granted is None:
            return  # the plan that is there now does not limit the meter
        carried = carried_over(
            last.granted, min(0, last.topped_up), last.used + last.held, last.rollover
        )
        self.granted += carried - self.carried
        self.carried = carried
        self.refresh()
        if self.heir is not None:
            self.heir.carry(self)

    # -- money ----------------------------------------------------------------

    def cost(self, more: int = 0) -> Fraction:
        """What everything used, held and `more` past the grants adds to the month's bill.

        In micro-dollars, exact; less than nothing where what earlier months paid was granted
        since.
        """
        return self._cost(self.used + max(0, self.held + more - self.lots_left))

    @property
    def spent(self) -> Fraction:
        """What was used past the grants added to the month's bill; holds are not spent yet."""
        return self._cost(self.used)

    def _cost(self, used: int) -> Fraction:
        rate = self.rate if self.is_billed else None
        granted = self.granted
        over = 0 if granted is None else max(0, used - granted - self.topped_up)
        if not self.marks:
            return NOTHING if rate is None else exact_cost(rate, over)
        stands = [mark.stand(self.carried) for mark in self.marks]
        *earlier, last = bills([*stands, Stand(over, rate)])
        cost = last.cost_micro
        before = [b for b, mark in zip(earlier, self.marks, strict=True) if not mark.is_switch]
        return cost - before[-1].cost_micro if before else cost


def carried_over(granted: int, taken_back: int, used: int, most: int) -> int:
    """What a period leaves to the next one."""
    return min(max(0, granted + taken_back - used), most)
