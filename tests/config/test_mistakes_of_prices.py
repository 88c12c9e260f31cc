"""Every kind of mistake in a rule of a price, with its line and column (figures: see there)."""

from __future__ import annotations

import pytest

from tests.config.pricing import route
from tests.config.writing import Folder

NO_COUNTER = (
    "`counter:` with a meter that keeps the count, found nothing (declare a meter such as "
    "`steps: {per: ever}` and name it here)"
)
RULE = "an amount such as 1, or a rule such as {amount: 1, per: 10, of: FIGURE}"

# What is wrong, the price (which begins at 8:12), the problems.
CASES: dict[str, tuple[str, list[str]]] = {
    "carry without a counter": (
        "{coins: {per: 10, of: request.json:n, round: carry}}",
        [f"8:20: expected {NO_COUNTER}"],
    ),
    "tiers without a counter": (
        "{coins: {of: answer.bytes, tiers: [{amount: 1}]}}",
        [f"8:20: expected {NO_COUNTER}"],
    ),
    "a counter that keeps nothing": (
        "{coins: {of: request.json:n, counter: steps}}",
        ["8:50: expected no counter here, found 'steps' (it keeps the count of `round: carry` "
         "and of `tiers`)"],
    ),
    "a counter that is the meter": (
        "{coins: {of: request.json:n, round: carry, counter: coins}}",
        ["8:64: expected another meter than the one that is charged, found 'coins'"],
    ),
    "an unknown counter": (
        "{coins: {of: request.json:n, round: carry, counter: step}}",
        ["8:64: expected the name of a meter, found 'step' (did you mean steps?)"],
    ),
    "a counter that is charged": (
        "{coins: {of: request.json:n, round: carry, counter: steps}, steps: 1}",
        ["8:64: expected a counter that no price charges, found 'steps' (steps is charged: "
         "declare one for counting only)"],
    ),
    "one counter twice": (
        "{coins: [{of: request.json:n, round: carry, counter: steps}, {of: request.json:m, "
        "round: carry, counter: steps}]}",
        ["8:12: expected each counter in one rule of a price, found 'steps' in several"],
    ),
    "tiers that descend": (
        "{uc: {of: answer.bytes, counter: gb, tiers: [{up_to: 9GB, amount: 1}, {up_to: 9GB, "
        "amount: 2}, {amount: 3}]}}",
        ["8:90: expected more than the tier before, 9000000000, found '9GB'"],
    ),
    "tiers with an end": (
        "{uc: {of: answer.bytes, counter: gb, tiers: [{up_to: 9GB, amount: 1}]}}",
        ["8:57: expected `up_to:` in every tier but the last, found nothing"],
    ),
    "a tier in the middle without one": (
        "{uc: {of: answer.bytes, counter: gb, tiers: [{amount: 1}, {amount: 2}]}}",
        ["8:57: expected `up_to:` in every tier but the last, found nothing"],
    ),
    "tiers beside an amount": (
        "{uc: {amount: 2, of: answer.bytes, counter: gb, tiers: [{amount: 1}]}}",
        ["8:26: expected no `amount:` beside `tiers:`, found the number 2 (each tier has its own)"],
    ),
    "a tier that ends inside a unit": (
        "{uc: {of: answer.json:n, counter: gb, tiers: [{up_to: 0.5, amount: 1}, {amount: 2}]}}",
        ["8:66: expected a whole number of the counter's smallest units, found the number 0.5"],
    ),
    "a tier per nothing": (
        "{uc: {of: answer.bytes, counter: gb, tiers: [{amount: 1, per: 0}]}}",
        ["8:74: expected a number above 0, found the number 0"],
    ),
    "no tiers": (
        "{uc: {of: answer.bytes, counter: gb, tiers: []}}",
        ["8:56: expected at least one entry, found an empty list"],
    ),
    "a reserve that the answer says": (
        "{coins: {of: answer.json:n, reserve: {of: [request.json:m, answer.json:m]}}}",
        ["8:71: expected a figure of the request, found 'answer.json:m' (the answer is known "
         "too late)"],
    ),
    "a reserve of another form": (
        "{coins: {of: answer.json:n, reserve: true}}",
        ["8:49: expected a number, a figure, `average`, or a mapping with `of:`, found true"],
    ),
    "a reserve of nothing counted": (
        "{coins: {amount: 1, reserve: 5}}",
        ["8:32: expected no `reserve:` without `of:`, found `reserve:` (each request is one, "
         "nothing can be missing)"],
    ),
    "what cannot be missing": (
        "{coins: {amount: 1, missing: 5}}",
        ["8:32: expected no `missing:` without `of:`, found `missing:` (each request is one, "
         "nothing can be missing)"],
    ),
    "refused too late": (
        "{coins: {of: [request.json:n, answer.json:n], missing: refuse}}",
        ["8:67: expected reserve, or a number, found 'refuse' (answer.json:n is missing only "
         "when the request is over)"],
    ),
    "bytes in hours": (
        "{coins: {of: answer.bytes, per: 1h}}",
        ["8:44: expected a number or a size such as 1GB, found '1h' (so many answer.bytes are "
         "counted)"],
    ),
    "hours in bytes": (
        "{coins: {of: open.seconds, per: 1GB, reserve: 10s}}",
        ["8:44: expected a number or a duration such as 1h, found '1GB' (so many open.seconds "
         "are counted)"],
    ),
    "entries in bytes": (
        "{coins: {of: request.junit, per: 1GB}}",
        ["8:45: expected a number, found '1GB' (so many request.junit are counted)"],
    ),
    "a reserve in another unit": (
        "{coins: {of: answer.bytes, reserve: 10s}}",
        ["8:48: expected a number or a size such as 1GB, found '10s' (so many answer.bytes are "
         "counted)"],
    ),
    "per nothing": (
        "{coins: {of: request.json:n, per: 0}}",
        ["8:46: expected a number above 0, found the number 0"],
    ),
    "less than a unit for each request": (
        "{coins: {amount: 1, per: 1000}}",
        ["8:37: expected a price for each request in whole smallest units, found the number "
         "1000 (round: carry with a counter keeps the rest; or count something with `of:`)"],
    ),
    "a negative amount": (
        "{coins: [1, {amount: -1, of: request.bytes}]}",
        ["8:33: expected an amount that is not negative, found the number -1"],
    ),
    "an amount too precise": (
        "{coins: [1, 0.001]}",
        ["8:24: expected an amount of at most 2 digits, found the number 0.001 (the meter has "
         "decimals: 2)"],
    ),
    "an unknown key of a rule": (
        "{coins: {amout: 1}}",
        ["8:21: expected a known key of routes[0].price.coins, found 'amout' (did you mean "
         "amount?)"],
    ),
    "an unknown key in a list of rules": (
        "{coins: [1, {amout: 1}]}",
        ["8:25: expected a known key of routes[0].price.coins[1], found 'amout' (did you mean "
         "amount?)"],
    ),
    "an unknown key of a tier": (
        "{uc: {of: answer.bytes, counter: gb, tiers: [{upto: 1, amount: 1}]}}",
        ["8:58: expected a known key of routes[0].price.uc.tiers[0], found 'upto' (did you mean "
         "up_to?)"],
    ),
    "an unknown rounding": (
        "{coins: {of: request.bytes, round: upp}}",
        ["8:47: expected up, down, nearest or carry, found 'upp' (did you mean up?)"],
    ),
    "an unknown meter": (
        "{coin: {of: request.bytes}}",
        ["8:13: expected the name of a meter, found 'coin' (did you mean coins?)"],
    ),
    "no rule": (
        "{coins: []}",
        ["8:20: expected at least one entry, found an empty list"],
    ),
    "nothing": (
        "{coins: null}",
        [f"8:20: expected {RULE}, found nothing"],
    ),
    "a boolean": (
        "{coins: true}",
        [f"8:20: expected {RULE}, found true"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("price", "expected"), CASES.values(), ids=CASES.keys())
def test_mistakes(folder: Folder, price: str, expected: list[str]) -> None:
    assert folder.problems(route(price)) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize(
    "rule",
    ["{of: answer.jsn:n, reserve: 5, missing: 1}", "{of: answer.jsn:n, per: 1000}",
     "{of: request.bytes, round: carryy, counter: steps}"],
)  # fmt: skip
def test_one_mistake_is_one_problem(folder: Folder, rule: str) -> None:
    assert len(folder.problems(route(f"{{coins: {rule}}}"))) == 1


def test_a_price_that_reserves_nothing_is_a_warning(folder: Folder) -> None:
    (warning,) = folder.warnings(route("{coins: {of: answer.json:n}}"))
    assert warning == (
        "c.yaml:6:5: 'POST /x/{id}' reserves nothing for answer.json:n: parallel requests can "
        "pass a budget by what they have not been charged yet"
    )
    assert folder.warnings(route("{coins: {of: answer.json:n, reserve: average}}")) == []
    assert folder.warnings(route("{coins: {of: request.json:n}}")) == []


def test_unmatched_is_judged_alike(folder: Folder) -> None:
    price = "{coins: {of: request.path:id}}"
    text = route("{coins: 1}") + f"unmatched: {{action: pass, upstream: app, price: {price}}}\n"
    assert folder.problems(text) == [
        "c.yaml:9:62: expected the name of a {parameter} of the path, found 'id' (none is defined)"
    ]
    text = route("{coins: 1}") + "unmatched: {action: refuse, charge_when: {answer.status: 2xx}}\n"
    assert folder.problems(text) == [
        "c.yaml:9:29: expected nothing beside `action: refuse`, found `charge_when:`"
    ]
