"""The ledger as the reference documents tell it, in the simplest way that can be right.

Nothing of the product is used here: months come from the calendar, units stand in
lists, and every figure is computed anew from what has happened. Written from the
documents: quota = seats x per-seat quota, at once when seats change; another plan's
quota begins with the next month, except when the free plan is left; top-ups end with
the month; bundles stay until they expire and are used after what expires earlier; one
unit for every ten steps, however many calls they come in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

NEVER = 1 << 62
STEPS_PER_UNIT = 10


@dataclass(frozen=True)
class ModelPlan:
    per_seat: int = 0
    fixed: int = 0
    left_at_once: bool = False

    def quota(self, seats: int) -> int:
        return self.fixed or self.per_seat * seats


@dataclass
class ModelLot:
    name: str
    amount: int
    expires_us: int
    priority: int
    made_us: int
    used: int = 0

    @property
    def left(self) -> int:
        return self.amount - self.used


@dataclass
class ModelHold:
    month: int
    units: int
    steps: int


@dataclass
class Model:
    plans: dict[str, ModelPlan]
    born_us: int
    plan: str
    seats: int
    changes: list[tuple[int, str, int]] = field(default_factory=list)
    top_ups: dict[int, int] = field(default_factory=dict)
    lots: list[ModelLot] = field(default_factory=list)
    used: dict[int, int] = field(default_factory=dict)  # from a month's own quota
    steps: int = 0
    holds: list[ModelHold] = field(default_factory=list)
    posted: int = 0

    def __post_init__(self) -> None:
        self.changes.append((self.born_us, self.plan, self.seats))

    # -- what there is ------------------------------------------------------

    def granted(self, month: int, now_us: int) -> int:
        """The quota of a month, as of an instant in it."""
        before = [c for c in self.changes if c[0] <= month] or self.changes[:1]
        base, seats = before[-1][1], before[-1][2]
        current = base
        for at_us, plan, then in self.changes:
            if month < at_us <= now_us:
                if plan != current and self.plans[current].left_at_once:
                    base = plan
                current, seats = plan, then
        return self.plans[base].quota(seats) + self.top_ups.get(month, 0)

    def own_left(self, month: int, now_us: int) -> int:
        return max(0, self.granted(month, now_us) - self.used.get(month, 0))

    def valid_lots(self, now_us: int) -> list[ModelLot]:
        valid = [lot for lot in self.lots if now_us < lot.expires_us]
        return sorted(valid, key=lambda x: (x.expires_us, x.priority, x.made_us, x.name))

    def held(self, month: int) -> int:
        """Units that are held, with those that the held steps will come to."""
        units = sum(hold.units for hold in self.holds if hold.month == month)
        return units

    def steps_held(self) -> int:
        return sum(hold.steps for hold in self.holds)

    def held_for_steps(self) -> int:
        return (self.steps + self.steps_held()) // STEPS_PER_UNIT - self.steps // STEPS_PER_UNIT

    # -- what happens -------------------------------------------------------

    def post(self, hold: ModelHold, units: int, steps: int, now_us: int) -> int:
        """Charge an ended request; what it came to."""
        self.holds.remove(hold)
        charge = units + (self.steps + steps) // STEPS_PER_UNIT - self.steps // STEPS_PER_UNIT
        self.steps += steps
        self.posted += charge
        return charge

    def pay(
        self, month: int, charge: int, month_end_us: int, lots: list[ModelLot], now_us: int
    ) -> None:
        """Take units from what expires first; what nothing holds overdraws the month."""
        rest = charge
        for lot in [x for x in lots if x.expires_us < month_end_us]:
            taken = min(rest, lot.left)
            lot.used += taken
            rest -= taken
        taken = min(rest, self.own_left(month, now_us))
        self.used[month] = self.used.get(month, 0) + taken
        rest -= taken
        for lot in [x for x in lots if x.expires_us >= month_end_us]:
            taken = min(rest, lot.left)
            lot.used += taken
            rest -= taken
        self.used[month] += rest


def month_of(at_us: int) -> tuple[int, int]:
    """First instant of a month and of the next, UTC."""
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    after = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * 1_000_000, int(after.timestamp()) * 1_000_000
