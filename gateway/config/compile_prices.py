"""Prices -> the book's rules: exact ratios in smallest units, figures resolved.

A rule's `rate` is what one of the counted quantity costs in the meter's
smallest unit. What stands alone, one amount per request, becomes a fixed price,
which the request path does not have to measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction

from gateway.config.compile_figures import (
    check_number,
    check_text,
    check_unit,
    compile_condition,
    condition_of,
    place_of,
    place_of_entry,
)
from gateway.config.draft import Draft, Where
from gateway.config.models_prices import ReserveModel, RuleModel, TableModel, TierModel
from gateway.config.models_routes import MeasureModel
from gateway.config.problems import Expected, did_you_mean, quoted
from gateway.config.quantities import in_units
from gateway.core.pricing import FREE, Charge, Price, Ratio, Reserve, Rule, Table, Tier
from gateway.core.units import AMOUNT_MAX

PriceModel = Mapping[str, list[RuleModel]]


def compile_price(
    draft: Draft, models: PriceModel, path: Where, measure: MeasureModel | None, route: str
) -> Price:
    """The price of a mapping of meters; parts that have a problem are left out."""
    charges: dict[str, int] = {}
    rules: list[Rule] = []
    for meter, entries in models.items():
        for index, model in enumerate(entries):
            where: Where = (
                (*path, meter, index) if _is_list(draft, (*path, meter)) else (*path, meter)
            )
            if draft.has_lost(*where):
                continue
            _check_uncounted(draft, model, where)
            amount = _fixed(draft, meter, model, where)
            if amount is not None:
                charges[meter] = charges.get(meter, 0) + amount
            else:
                rule = _rule(draft, meter, model, where, f"{route}/{meter}/{index}")
                if rule is not None:
                    rules.append(rule)
    _check_counters_once(draft, rules, path)
    fixed = tuple(Charge(meter, amount) for meter, amount in charges.items() if amount)
    charge_when = condition_of(measure.charge_when) if measure else ()
    outcomes = measure.outcomes.items() if measure else ()
    named = tuple((name, condition_of(condition)) for name, condition in outcomes)
    if not (fixed or rules or named):
        return FREE
    return Price(fixed, tuple(rules), charge_when, named)


def _is_list(draft: Draft, path: Where) -> bool:
    return draft.has(*path, 0)


def _fixed(draft: Draft, meter: str, model: RuleModel, path: Where) -> int | None:
    """An amount for each request, in smallest units; None for a measured rule."""
    if model.of or model.times or model.tiers or model.counter or model.when:
        return None
    if model.round == "carry" or not isinstance(model.amount, Decimal):
        return None
    if not isinstance(model.per, Decimal) or model.per == 0:
        return None
    if model.per == 1 or meter not in draft.config.meters:
        place = (*path, "amount") if draft.has(*path, "amount") else path
        return units_of(draft, meter, model.amount, place)
    units = Fraction(model.amount) / Fraction(model.per) * 10 ** draft.config.meters[meter].decimals
    if units.denominator != 1 or units > AMOUNT_MAX:
        hint = "round: carry with a counter keeps the rest; or count something with `of:`"
        draft.expected((*path, "per"), "a price for each request in whole smallest units", hint)
        return 0
    return int(units)


def _check_uncounted(draft: Draft, model: RuleModel, path: Where) -> None:
    """What only makes sense beside `of:`."""
    for key in ("reserve", "missing"):
        if not model.of and draft.has(*path, key):
            mark = draft.key_at(*path, key)
            hint = "each request is one, nothing can be missing"
            draft.problems.expected(mark, f"no `{key}:` without `of:`", f"`{key}:`", hint)
    late = [figure for figure in model.of or () if figure.at == "answer"]
    if model.missing == "refuse" and late:
        hint = f"{late[0]} is missing only when the request is over"
        draft.expected((*path, "missing"), "reserve, or a number", hint)


def units_of(draft: Draft, meter: str, amount: Decimal, path: Where) -> int:
    """An amount in smallest units; 0 after a problem."""
    model = draft.config.meters.get(meter)
    if model is None:  # said by check_references
        return 0
    try:
        return in_units(amount, model.decimals)
    except Expected as exc:
        draft.refuse(path, exc)
        return 0


def _rule(draft: Draft, meter: str, model: RuleModel, path: Where, rule_id: str) -> Rule | None:
    meters = draft.config.meters
    if meter not in meters:
        return None
    unit = 10 ** meters[meter].decimals
    _check_counted(draft, model, path)
    tables = [
        _table(draft, t, (*path, "times"), 1) for t in model.times if isinstance(t, TableModel)
    ]
    rate = Fraction(unit)
    for number in model.times:
        if isinstance(number, Decimal):
            rate *= Fraction(number)
    if isinstance(model.amount, TableModel):
        tables.append(_table(draft, model.amount, (*path, "amount"), 1))
    else:
        rate *= Fraction(model.amount)
    if isinstance(model.per, TableModel):
        tables.append(_table(draft, model.per, (*path, "per"), -1))
    elif model.per == 0:
        draft.expected((*path, "per"), "a number above 0")
        return None
    else:
        rate /= Fraction(model.per)
    counter_unit = _counter_unit(draft, meter, model, path)
    is_counted = model.round == "carry" or model.tiers is not None
    if is_counted and counter_unit is None:
        return None
    tiers = _tiers(draft, model.tiers, path, unit, counter_unit or 1) if model.tiers else ()
    return Rule(
        meter=meter,
        rate=_ratio(rate / (counter_unit or 1)),
        of=tuple(model.of or ()),
        tables=tuple(tables),
        rounding="up" if model.round == "carry" else model.round,
        counter=(model.counter or "") if is_counted else "",
        counter_unit=counter_unit or 1,
        tiers=tiers,
        when=compile_condition(draft, model.when, (*path, "when")),
        reserve=_reserve(draft, model.reserve, (*path, "reserve")),
        missing=_ratio(Fraction(model.missing))
        if isinstance(model.missing, Decimal)
        else model.missing,
        id=rule_id,
    )


def _ratio(value: Fraction) -> Ratio:
    return value.numerator, value.denominator


def _table(draft: Draft, model: TableModel, path: Where, power: int) -> Table:
    """A table's factors; of a `per` they divide."""
    check_text(draft, model.by, model.values, path)
    factors = {}
    for text, number in model.values.items():
        if power < 0 and number == 0:
            draft.expected((*path, "values", text), "a number above 0")
            continue
        factors[text] = _ratio(Fraction(number) ** power)
    otherwise = None
    if isinstance(model.otherwise, Decimal):
        if power < 0 and model.otherwise == 0:
            draft.expected((*path, "otherwise"), "a number above 0")
        else:
            otherwise = _ratio(Fraction(model.otherwise) ** power)
    return Table(model.by, factors, otherwise)


def _counter_unit(draft: Draft, meter: str, model: RuleModel, path: Where) -> int | None:
    """Smallest units of the counter in one of the quantity; None without a counter."""
    needs = model.round == "carry" or model.tiers is not None
    if not needs:
        if model.counter is not None:
            hint = "it keeps the count of `round: carry` and of `tiers`"
            draft.expected((*path, "counter"), "no counter here", hint)
        return None
    if model.counter is None:
        hint = "declare a meter such as `steps: {per: ever}` and name it here"
        draft.absent(path, "`counter:` with a meter that keeps the count", hint)
        return None
    found = draft.config.meters.get(model.counter)
    if found is None:
        hint = did_you_mean(model.counter, list(draft.config.meters))
        draft.expected((*path, "counter"), "the name of a meter", hint)
        return None
    if model.counter == meter:
        draft.expected((*path, "counter"), "another meter than the one that is charged")
        return None
    return int(10**found.decimals)


def _tiers(
    draft: Draft, models: list[TierModel], path: Where, unit: int, counter_unit: int
) -> tuple[Tier, ...]:
    """Tiers in ascending order; the last one has no end."""
    for key in ("amount", "per"):
        if draft.has(*path, key):
            draft.expected((*path, key), f"no `{key}:` beside `tiers:`", "each tier has its own")
    tiers = []
    last = Fraction(0)
    for index, model in enumerate(models):
        where: Where = (*path, "tiers", index)
        if (model.up_to is None) != (index == len(models) - 1):
            draft.absent(where, "`up_to:` in every tier but the last")
        if model.up_to is not None and Fraction(model.up_to) <= last:
            draft.expected((*where, "up_to"), f"more than the tier before, {last}")
        last = Fraction(model.up_to or 0)
        if model.per == 0:
            draft.expected((*where, "per"), "a number above 0")
            continue
        rate = Fraction(model.amount) * unit / Fraction(model.per) / counter_unit
        up_to = None if model.up_to is None else Fraction(model.up_to) * counter_unit
        if up_to is not None and (up_to.denominator != 1 or up_to > AMOUNT_MAX):
            draft.expected((*where, "up_to"), "a whole number of the counter's smallest units")
            continue
        tiers.append(Tier(None if up_to is None else int(up_to), _ratio(rate)))
    return tuple(tiers)


def _reserve(draft: Draft, model: ReserveModel | None, path: Where) -> Reserve:
    if model is None:
        return Reserve()
    for figure in model.of or ():
        if figure.at == "answer":
            mark = place_of(draft, path, figure)
            hint = "the answer is known too late"
            draft.problems.expected(mark, "a figure of the request", quoted(str(figure)), hint)
        check_number(draft, figure, path)
    return Reserve(tuple(model.of or ()), _ratio(Fraction(model.otherwise)), model.average)


def _check_counted(draft: Draft, model: RuleModel, path: Where) -> None:
    """What is counted are numbers, and so many of it is said in its unit."""
    for figure in model.of or ():
        check_number(draft, figure, (*path, "of"))
    units: list[Where] = [(*path, "per"), (*path, "reserve"), (*path, "reserve", "otherwise")]
    for index in range(len(model.tiers or ())):
        units += [(*path, "tiers", index, "per"), (*path, "tiers", index, "up_to")]
    for where in units:
        check_unit(draft, model.of or (), where)


def _check_counters_once(draft: Draft, rules: list[Rule], path: Where) -> None:
    counters = [rule.counter for rule in rules if rule.counter]
    for counter in {name for name in counters if counters.count(name) > 1}:
        found = f"{quoted(counter)} in several"
        draft.problems.expected(draft.at(*path), "each counter in one rule of a price", found)


def check_counters(draft: Draft, prices: Iterable[tuple[Where, Price]]) -> None:
    """A counter belongs to one meter at one rate, wherever it is used, and is not charged."""
    priced = list(prices)
    charged = {meter for _, price in priced for meter in price.meters}
    first: dict[str, tuple[Rule, Where]] = {}
    for path, price in priced:
        for rule in price.rules:
            if not rule.counter:
                continue
            mark = place_of_entry(draft, path, "counter", rule.counter)
            if rule.counter in charged:
                hint = f"{rule.counter} is charged: declare one for counting only"
                wanted = "a counter that no price charges"
                draft.problems.expected(mark, wanted, quoted(rule.counter), hint)
            known, where = first.setdefault(rule.counter, (rule, path))
            same = (known.meter, known.rate, known.tiers) == (rule.meter, rule.rate, rule.tiers)
            if not same:
                other = place_of_entry(draft, where, "counter", rule.counter)
                hint = f"another price counts with it at {other}"
                wanted = f"one rate for the counter {rule.counter}"
                draft.problems.expected(mark, wanted, "another", hint)
