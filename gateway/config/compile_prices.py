"""Prices -> the book's rules: exact ratios in smallest units, figures resolved.

A rule's `rate` is what one of the counted quantity costs in the meter's
smallest unit. What stands alone, one amount per request, becomes a fixed price,
which the request path does not have to measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from gateway.config.draft import Draft, Where
from gateway.config.models_prices import ReserveModel, RuleModel, TableModel, TierModel
from gateway.config.models_routes import MeasureModel
from gateway.config.problems import Expected, did_you_mean
from gateway.config.quantities import in_units
from gateway.core.figures import COUNTED, Figure
from gateway.core.pricing import FREE, Charge, Condition, Price, Ratio, Reserve, Rule, Table, Tier
from gateway.core.pricing import Test as Trial

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
            amount = _fixed(draft, meter, model, where)
            if amount is not None:
                charges[meter] = charges.get(meter, 0) + amount
            else:
                rule = _rule(draft, meter, model, where, f"{route}/{meter}/{index}")
                if rule is not None:
                    rules.append(rule)
    _check_counters_once(draft, rules, path)
    fixed = tuple(Charge(meter, amount) for meter, amount in charges.items() if amount)
    charge_when = compile_condition(draft, measure.charge_when, ()) if measure else ()
    outcomes = measure.outcomes.items() if measure else ()
    named = tuple((name, compile_condition(draft, c, ())) for name, c in outcomes)
    if not (fixed or rules or named):
        return FREE
    return Price(fixed, tuple(rules), charge_when, named)


def _is_list(draft: Draft, path: Where) -> bool:
    return draft.has(*path, 0)


def _fixed(draft: Draft, meter: str, model: RuleModel, path: Where) -> int | None:
    """An amount for each request, in smallest units; None for a measured rule."""
    plain = isinstance(model.amount, Decimal) and model.per == 1
    if not plain or model.of or model.times or model.tiers or model.counter or model.when:
        return None
    if model.round == "carry" or not isinstance(model.amount, Decimal):
        return None
    place = (*path, "amount") if draft.has(*path, "amount") else path
    return units_of(draft, meter, model.amount, place)


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
    check_looked_up(draft, model.by, (*path, "by"))
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
        up_to = None if model.up_to is None else int(Fraction(model.up_to) * counter_unit)
        tiers.append(Tier(up_to, _ratio(rate)))
    return tuple(tiers)


def _reserve(draft: Draft, model: ReserveModel | None, path: Where) -> Reserve:
    if model is None:
        return Reserve()
    for figure in model.of or ():
        if figure.at == "answer":
            draft.expected(path, "figures of the request", f"{figure} is known too late")
    return Reserve(tuple(model.of or ()), _ratio(Fraction(model.otherwise)), model.average)


def compile_condition(
    draft: Draft, model: Mapping[Figure, tuple[frozenset[str], frozenset[str]]], path: Where
) -> Condition:
    """All tests of a mapping."""
    for figure in model:
        check_looked_up(draft, figure, path)
    return tuple(Trial(figure, any_of, none_of) for figure, (any_of, none_of) in model.items())


def check_looked_up(draft: Draft, figure: Figure, path: Where) -> None:
    """A figure that says what, not how much; settings are declared."""
    if not path:
        return
    if figure.source in COUNTED:
        draft.expected(path, "a figure that is a text, such as request.json:model", str(figure))
    elif figure.source == "account.setting" and figure.name not in draft.config.settings:
        hint = did_you_mean(figure.name, list(draft.config.settings)) or "see `settings:`"
        draft.expected(path, f"a known setting, not {figure.name!r}", hint)


def _check_counters_once(draft: Draft, rules: list[Rule], path: Where) -> None:
    counters = [rule.counter for rule in rules if rule.counter]
    for counter in {name for name in counters if counters.count(name) > 1}:
        draft.expected(path, f"the counter {counter} in one rule of a price")


def check_counters(draft: Draft, prices: Mapping[Where, Price]) -> None:
    """A counter belongs to one meter at one rate, wherever it is used."""
    first: dict[str, tuple[Rule, Where]] = {}
    for path, price in prices.items():
        for rule in price.rules:
            if not rule.counter:
                continue
            known, where = first.setdefault(rule.counter, (rule, path))
            same = (known.meter, known.rate, known.tiers) == (rule.meter, rule.rate, rule.tiers)
            if not same:
                hint = f"another price counts with it at {draft.at(*where)}"
                draft.expected(path, f"one rate for the counter {rule.counter}", hint)
