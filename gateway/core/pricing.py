"""What a request costs.

A price is compiled from a cost table entry at load. Amounts are integers in
the meter's smallest unit; quantities and rates are exact ratios. A fixed price
is known before anything is read. A measured price asks twice: `reserve` before
forwarding, with what the request says, and `settle` after, with what the
answer says. Invariant: the settled charge is a function of the figures and of
the counters alone, is never negative, and is never lost to rounding where it
is carried. Must not know bodies, sockets or balances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from gateway.core.figures import Figure
from gateway.core.units import AMOUNT_MAX

# Figures that stand in a body, which must be read for them.
IN_REQUEST = frozenset(("request.json", "request.items", "request.form", "request.junit"))
IN_ANSWER = frozenset(("answer.json", "answer.items", "stream.json", "stream.events"))


class Charge(NamedTuple):
    """An amount of one meter, in the meter's smallest unit, never negative."""

    meter: str
    amount: int


# (meter, amount) pairs as the request path passes them on.
Charges = tuple[tuple[str, int], ...]
# numerator, denominator; the denominator is positive
Ratio = tuple[int, int]
Rounding = Literal["up", "down", "nearest"]


@dataclass(frozen=True, slots=True)
class Test:
    """One figure and what it must be.

    `any_of` are texts (numbers and true, false, null as JSON writes them);
    `2xx` stands for a class of status. Both empty: the figure is present.
    """

    figure: Figure
    any_of: frozenset[str] = frozenset()
    none_of: frozenset[str] = frozenset()


Condition = tuple[Test, ...]  # all of them; () always holds


@dataclass(frozen=True, slots=True)
class Table:
    """A factor by what a figure says; `otherwise` None: such a request has no price."""

    by: Figure
    factors: Mapping[str, Ratio]
    otherwise: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """Up to `up_to` of the counted quantity, `rate` per unit of it; None: without end."""

    up_to: int | None
    rate: Ratio


@dataclass(frozen=True, slots=True)
class Reserve:
    """How much is set aside while the quantity is not known.

    The first figure that is there, else `otherwise`; `average` takes the
    route's recent mean where there is one.
    """

    of: tuple[Figure, ...] = ()
    otherwise: Ratio = (0, 1)
    average: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`rate` units of the meter for each counted one, times the tables' factors.

    A plain rule is rounded per request. A counted rule (`counter` is a meter
    that keeps the quantity) charges the difference that the request makes to
    the cost of everything counted in the counter's period: so nothing is lost
    to rounding, and tiers are split exactly.
    """

    meter: str
    rate: Ratio = (1, 1)
    of: tuple[Figure, ...] = ()  # the first that is there; (): one per request
    tables: tuple[Table, ...] = ()
    rounding: Rounding = "up"
    counter: str = ""
    counter_unit: int = 1  # the counter's smallest units in one of the quantity
    tiers: tuple[Tier, ...] = ()  # with a counter; instead of `rate`
    when: Condition = ()
    reserve: Reserve = field(default_factory=Reserve)
    missing: Ratio | Literal["reserve", "refuse"] = "reserve"
    id: str = ""  # route and place, for the recent mean
    # Those of `of` that the request has; set from it.
    before: tuple[Figure, ...] = field(init=False, default=())
    is_plain: bool = field(init=False, default=False)  # a rate and a quantity, nothing else

    def __post_init__(self) -> None:
        before = tuple(figure for figure in self.of if figure.at != "answer")
        object.__setattr__(self, "before", before)
        is_plain = bool(self.of) and not (self.tables or self.when or self.counter)
        object.__setattr__(self, "is_plain", is_plain)

    def cost_of(self, counted: int) -> int:
        """With a counter: what a counted total costs, in the meter's smallest unit."""
        if not self.tiers:
            return counted * self.rate[0] // self.rate[1]
        total_n, total_d, low = 0, 1, 0
        for tier in self.tiers:
            high = counted if tier.up_to is None else min(counted, tier.up_to)
            if high > low:
                n, d = tier.rate
                total_n, total_d = total_n * d + (high - low) * n * total_d, total_d * d
                low = high
        return total_n // total_d


class Counted(NamedTuple):
    """A quantity that a counted rule adds to its counter, in the counter's smallest units."""

    rule: Rule
    amount: int


class Cost(NamedTuple):
    """What a measured price comes to: charges by meter, and what is counted."""

    charges: Charges
    counted: tuple[Counted, ...] = ()


FREE_COST = Cost(())


class Facts(Protocol):
    """What is known of one request; None: the figure is not there."""

    def text(self, figure: Figure) -> str | None: ...

    def number(self, figure: Figure) -> Ratio | None:
        """Never negative; None also for what is no exact number."""
        ...

    def average(self, rule: Rule) -> Ratio | None: ...

    def has_failed(self) -> bool:
        """After the answer: whether it is no success, so that what it does not say is nothing."""
        ...


class Unpriceable(Exception):
    """A request whose price cannot be found; the text says which figure is wrong."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one kind of caller pays on a route; the default is free.

    `charges` are fixed, kept as plain tuples that the journal writes as they
    are. With rules or conditions the price is measured.
    """

    charges: Charges = ()
    rules: tuple[Rule, ...] = ()
    charge_when: Condition = ()
    # (name, condition): the first that holds names the event's outcome; nothing is charged
    outcomes: tuple[tuple[str, Condition], ...] = ()
    # Set from the others, for they are asked for by every request.
    is_fixed: bool = field(init=False, default=True)
    reads_body: bool = field(init=False, default=False)  # before it is forwarded
    reads_answer: bool = field(init=False, default=False)  # the answer's body
    looks_inside: bool = field(init=False, default=False)  # conditions on the answer's body
    # Meters it may charge, each once, in the order of their first mention.
    meters: tuple[str, ...] = field(init=False, default=())
    lone: Rule | None = field(init=False, default=None)  # where a plain rule is all there is
    has_means: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        charges = tuple((meter, amount) for meter, amount in self.charges)
        object.__setattr__(self, "charges", charges)
        object.__setattr__(self, "is_fixed", not (self.rules or self.charge_when or self.outcomes))
        meters = [m for m, _ in charges] + [rule.meter for rule in self.rules]
        object.__setattr__(self, "meters", tuple(dict.fromkeys(meters)))
        if len(self.rules) == 1 and not charges and self.rules[0].is_plain:
            object.__setattr__(self, "lone", self.rules[0])
        object.__setattr__(self, "has_means", any(r.reserve.average for r in self.rules))
        tests = [*self.charge_when, *(t for _, condition in self.outcomes for t in condition)]
        inside = any(t.figure.source in ("answer.json", "stream.json") for t in tests)
        object.__setattr__(self, "looks_inside", inside)
        figures = self.figures()
        sources = {figure.source for figure in figures}
        object.__setattr__(self, "reads_body", bool(sources & IN_REQUEST))
        object.__setattr__(self, "reads_answer", bool(sources & IN_ANSWER))

    @property
    def is_free(self) -> bool:
        return not self.charges and not self.rules

    def figures(self) -> frozenset[Figure]:
        """Every figure that this price looks at."""
        found: set[Figure] = {t.figure for t in self.charge_when}
        found |= {t.figure for _, condition in self.outcomes for t in condition}
        for rule in self.rules:
            found |= {*rule.of, *(t.by for t in rule.tables), *(t.figure for t in rule.when)}
            found |= set(rule.reserve.of)
        return frozenset(found)

    @property
    def further(self) -> Price:
        """What a WebSocket pays again for each further interval: quantities only."""
        return Price(rules=tuple(rule for rule in self.rules if rule.of))

    def reserve(self, facts: Facts) -> Cost:
        """What is set aside before forwarding. Raises Unpriceable."""
        return self._cost(facts, is_final=False)

    def settle(self, facts: Facts, reserved: Cost) -> tuple[Cost, str]:
        """What it came to, and the outcome's name ("" when charged). Raises nothing."""
        try:
            for name, condition in self.outcomes:
                if holds(condition, facts):
                    return FREE_COST, name
            if not holds(self.charge_when, facts):
                return FREE_COST, "not_charged"
            return self._cost(facts, is_final=True), ""
        except Unpriceable:
            # The answer names what no table knows, or a figure is ambiguous: the estimate stands.
            return reserved, ""

    def _cost(self, facts: Facts, *, is_final: bool) -> Cost:
        if self.lone is not None:
            rule = self.lone
            n, d = _quantity(rule, facts, is_final=is_final)
            amount = round_ratio((n * rule.rate[0], d * rule.rate[1]), rule.rounding)
            return Cost(((rule.meter, _bounded(amount)),))
        sums: dict[tuple[str, Rounding], Ratio] = {}
        counted: list[Counted] = []
        for rule in self.rules:
            if not (holds(rule.when, facts) if is_final else may_hold(rule.when, facts)):
                continue
            n, d = _quantity(rule, facts, is_final=is_final)
            for table in rule.tables:
                fn, fd = _factor(table, facts, is_final=is_final)
                n, d = n * fn, d * fd
            if rule.counter:
                amount = -(-n * rule.counter_unit // d)
                counted.append(Counted(rule, _bounded(amount)))
                continue
            n, d = n * rule.rate[0], d * rule.rate[1]
            sn, sd = sums.get((rule.meter, rule.rounding), (0, 1))
            sums[rule.meter, rule.rounding] = (n, d) if not sn else (sn * d + n * sd, sd * d)
        if not sums:
            return Cost(self.charges, tuple(counted))
        totals = dict(self.charges)
        for (meter, rounding), ratio in sums.items():
            totals[meter] = _bounded(totals.get(meter, 0) + round_ratio(ratio, rounding))
        return Cost(tuple(totals.items()), tuple(counted))


def _quantity(rule: Rule, facts: Facts, *, is_final: bool) -> Ratio:
    """How much of what the rule counts."""
    if not rule.of:
        return 1, 1
    for figure in rule.of if is_final else rule.before:
        found = facts.number(figure)
        if found is not None:
            return found
    if is_final and len(rule.before) < len(rule.of) and facts.has_failed():
        return 0, 1
    if len(rule.before) == len(rule.of):
        if isinstance(rule.missing, tuple):
            return rule.missing
        if rule.missing == "refuse" or not (rule.reserve.of or rule.reserve.otherwise[0]):
            raise Unpriceable(f"expected a number at {', '.join(map(str, rule.of))}")
    elif is_final and isinstance(rule.missing, tuple):
        return rule.missing
    return _reserved_quantity(rule, facts)


def _reserved_quantity(rule: Rule, facts: Facts) -> Ratio:
    reserve = rule.reserve
    for figure in reserve.of:
        found = facts.number(figure)
        if found is not None and found[0]:  # who asks for nothing has not said how much
            return found
    mean = facts.average(rule) if reserve.average else None
    return mean if mean is not None else reserve.otherwise


def _factor(table: Table, facts: Facts, *, is_final: bool) -> Ratio:
    """The factor of a table; before the answer the largest that it may turn out to be."""
    if table.by.at == "answer" and not is_final:
        known = [*table.factors.values(), *([table.otherwise] if table.otherwise else [])]
        return max(known, key=lambda ratio: ratio[0] / ratio[1])
    text = facts.text(table.by)
    factor = table.factors.get(text) if text is not None else None
    factor = factor if factor is not None else table.otherwise
    if factor is None:
        found = "nothing" if text is None else repr(text[:64])
        raise Unpriceable(f"{table.by}: expected one of {', '.join(table.factors)}, found {found}")
    return factor


def holds(condition: Condition, facts: Facts) -> bool:
    """Whether every test of a condition is met by what is known."""
    for test in condition:
        text = facts.text(test.figure)
        if not _is_met(test, text):
            return False
    return True


def _is_met(test: Test, text: str | None) -> bool:
    if text is None:
        # What is not there is null, and so none of the other texts that it must not be.
        return "null" in test.any_of or (bool(test.none_of) and "null" not in test.none_of)
    if test.none_of:
        return not _is_one(text, test.none_of)
    return not test.any_of or _is_one(text, test.any_of)


def may_hold(condition: Condition, facts: Facts) -> bool:
    """Whether it can still hold, before the answer is there."""
    return holds(tuple(test for test in condition if test.figure.at != "answer"), facts)


def _is_one(text: str, texts: frozenset[str]) -> bool:
    return text in texts or (len(text) == 3 and text[0] + "xx" in texts)


def round_ratio(ratio: Ratio, rounding: Rounding) -> int:
    """A ratio as an integer; `nearest` rounds a half up."""
    n, d = ratio
    if rounding == "up":
        return -(-n // d)
    return n // d if rounding == "down" else (2 * n + d) // (2 * d)


def _bounded(amount: int) -> int:
    """Raises Unpriceable for what would not be exact everywhere."""
    if amount > AMOUNT_MAX:
        raise Unpriceable(f"expected an amount below 2^53, found {amount}")
    return amount


FREE = Price()
