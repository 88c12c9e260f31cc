"""Measured prices in words, with an example that the price itself has worked out.

For people: `1 coins per 10 request.json:steps, carried over in steps (25 -> 2
coins)`. Amounts and numbers are exact. Must not know the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from gateway.core.book import Meter
from gateway.core.figures import Figure
from gateway.core.pricing import FREE_COST, Condition, Price, Ratio, Reserve, Rule, Table
from gateway.core.units import format_amount

VALUES_MAX = 4  # of a table that are named
TINY = Fraction(1, 5)  # 1 per 1000 reads better than 0.1 per 100
_BYTES = ("request.bytes", "answer.bytes", "socket.bytes", "bytes")
_SIZES = ((10**9, "1GB"), (10**6, "1MB"), (10**3, "1KB"), (1, "byte"))
_SPANS = ((3600, "1h"), (60, "1m"), (1, "second"))
_POWERS = tuple((10**power, str(10**power)) for power in range(10))


def price_text(price: Price, meters: Mapping[str, Meter]) -> str:
    """`free`, `1.50 coins + 2 tokens`, or measured prices with an example each."""
    if price.is_free:
        text = "free"
    else:
        parts = [_amount(meters[meter], amount) for meter, amount in price.charges]
        text = " + ".join([*parts, *(rule_text(rule, meters) for rule in price.rules)])
    if price.charge_when:
        text += f", charged when {condition_text(price.charge_when)}"
    for name, condition in price.outcomes:
        text += f", {name} and not charged when {condition_text(condition)}"
    return text


def rule_text(rule: Rule, meters: Mapping[str, Meter]) -> str:
    """One measured rule: what so many of it cost, by what tables, until when, from when."""
    meter = meters[rule.meter]
    if rule.tiers:
        text = f"{rule.meter} by tiers: {_tiers_text(rule, meter)}; counted in {rule.counter}"
    else:
        rate = Fraction(*rule.rate) * rule.counter_unit / meter.unit
        text = _per_text(rule, meter, rate)
        text += f", carried over in {rule.counter}" if rule.counter else ""
    text += "".join(f", times {_table_text(table)}" for table in rule.tables)
    if rule.when:
        text += f", when {condition_text(rule.when)}"
    if _is_late(rule):
        text += f", {_reserve_text(rule)}"
    return f"{text} ({_example(rule, meter)})"


def _per_text(rule: Rule, meter: Meter, rate: Fraction) -> str:
    """`1 coins per 10 request.json:steps`: the smallest round number with a plain price."""
    what = " or ".join(map(str, rule.of)) or "request"
    size, name = _scale(rule, meter, rate)
    amount = _number((rate * size).as_integer_ratio())
    return (
        f"{amount} {meter.name} per {name} {what}"
        if size > 1
        else f"{amount} {meter.name} per {what}"
    )


def _scale(rule: Rule, meter: Meter, rate: Fraction) -> tuple[int, str]:
    """The first size whose price reads well: not tiny, short, and a real amount of the meter."""
    for size, name in _scales(rule):
        amount = rate * size
        is_real = (amount * meter.unit).denominator == 1
        if rate == 0 or (is_real and amount >= TINY and _plain(amount) is not None):
            return size, name
    return rate.denominator, str(rate.denominator)


def _plain(number: Fraction) -> str | None:
    """A number of at most two digits behind the point as it is written; None for others."""
    hundredths = number * 100
    if hundredths.denominator != 1:
        return None
    text = f"{hundredths.numerator // 100}.{hundredths.numerator % 100:02d}"
    return text.rstrip("0").rstrip(".")


def _scales(rule: Rule) -> tuple[tuple[int, str], ...]:
    sources = {figure.source for figure in rule.of}
    if sources and sources.issubset(_BYTES):
        return tuple(reversed(_SIZES))
    return tuple(reversed(_SPANS)) if sources == {"open.seconds"} else _POWERS


def _tiers_text(rule: Rule, meter: Meter) -> str:
    texts = []
    for tier in rule.tiers:
        rate = Fraction(*tier.rate) * rule.counter_unit / meter.unit
        text = _per_text(replace(rule, tiers=()), meter, rate)
        if tier.up_to is not None:
            end = Fraction(tier.up_to, rule.counter_unit)
            text = f"up to {_quantity(rule, end)}: {text}"
        texts.append(text)
    return "; ".join([*texts[:-1], f"then {texts[-1]}"] if len(texts) > 1 else texts)


def _table_text(table: Table) -> str:
    named = [f"{text} {_number(factor)}" for text, factor in list(table.factors.items())]
    shown = named[:VALUES_MAX] + (["…"] if len(named) > VALUES_MAX else [])
    rest = "refused" if table.otherwise is None else _number(table.otherwise)
    return f"{table.by} ({', '.join(shown)}, else {rest})"


def condition_text(condition: Condition) -> str:
    """All tests of a condition: `answer.status is 2xx and request.json:dry is not true`."""
    texts = []
    for test in condition:
        if test.none_of:
            texts.append(f"{test.figure} is not {' or '.join(sorted(test.none_of))}")
        elif test.any_of:
            texts.append(f"{test.figure} is {' or '.join(sorted(test.any_of))}")
        else:
            texts.append(f"{test.figure} is there")
    return " and ".join(texts)


def _is_late(rule: Rule) -> bool:
    return any(figure.at == "answer" for figure in rule.of)


def _reserve_text(rule: Rule) -> str:
    """What is set aside until the answer is there."""
    reserve: Reserve = rule.reserve
    ways = [str(figure) for figure in reserve.of]
    ways += ["the recent mean"] if reserve.average else []
    if reserve.otherwise[0] or not ways:
        otherwise = _quantity(rule, Fraction(*reserve.otherwise))
        ways.append("nothing" if otherwise == "0" else otherwise)
    return f"reserves {', else '.join(ways)}"


def _example(rule: Rule, meter: Meter) -> str:
    """What a quantity that is no round number comes to, by the price itself."""
    quantity = _example_quantity(rule, meter)
    facts = _Example(quantity, rule)
    price = Price(rules=(replace(rule, when=()),))
    cost, _ = price.settle(facts, FREE_COST)
    amount = sum(amount for _, amount in cost.charges)
    amount += sum(entry.rule.cost_of(entry.amount) for entry in cost.counted)
    with_texts = "".join(f", {table.by} {next(iter(table.factors))}" for table in rule.tables)
    return f"e.g. {_quantity(rule, quantity)}{with_texts} -> {_amount(meter, amount)}"


def _example_quantity(rule: Rule, meter: Meter) -> Fraction:
    """Two and a half of what has a price; with tiers, half past the first."""
    if not rule.of:
        return Fraction(1)
    ends = [tier.up_to for tier in rule.tiers if tier.up_to is not None]
    if ends:
        return Fraction(ends[0] * 3 // 2 or 1, rule.counter_unit)
    rate = Fraction(*(rule.tiers[0].rate if rule.tiers else rule.rate)) * rule.counter_unit
    size, _ = _scale(rule, meter, rate / meter.unit)
    return Fraction(max(1, size * 5 // 2))


class _Example:
    """Facts of a request in which everything is there."""

    def __init__(self, quantity: Fraction, rule: Rule) -> None:
        self._quantity = quantity
        self._texts = {table.by: next(iter(table.factors)) for table in rule.tables}

    def text(self, figure: Figure) -> str | None:
        return self._texts.get(figure)

    def number(self, figure: Figure) -> Ratio | None:
        return self._quantity.as_integer_ratio()

    def has_failed(self) -> bool:
        return False

    def average(self, rule: Rule) -> Ratio | None:
        return None


def _quantity(rule: Rule, quantity: Fraction) -> str:
    """`2.5GB`, `90m`, `25`."""
    sources = {figure.source for figure in rule.of}
    scales: tuple[tuple[int, str], ...] = ()
    if sources and sources.issubset(_BYTES):
        scales = _SIZES[:-1]
    elif sources == {"open.seconds"}:
        scales = _SPANS[:-1]
    for size, name in scales:
        number = _plain(quantity / size)
        if quantity >= size and number is not None:
            return number + name[1:]
    unit = "B" if scales == _SIZES[:-1] else "s" if scales else ""
    return _number(quantity.as_integer_ratio()) + unit * (quantity != 0)


def _number(ratio: Ratio) -> str:
    """As a decimal where it is a short one, else as a ratio."""
    number = Fraction(*ratio)
    for digits in range(13):
        if (number * 10**digits).denominator == 1:
            return format_amount(int(number * 10**digits), digits)
    return f"{number.numerator}/{number.denominator}"


def _amount(meter: Meter, amount: int) -> str:
    return f"{format_amount(amount, meter.decimals)} {meter.name}"
