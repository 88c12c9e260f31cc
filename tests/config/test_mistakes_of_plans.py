"""Every kind of mistake in plans, with its line and column."""

from __future__ import annotations

import pytest

from tests.config.pricing import SHOP
from tests.config.writing import Folder

METERS = SHOP.replace("plans: {free: {}}\n", "")

# What is wrong, an allowance of coins (at 4:33), behind a | the plan's billing; the problems.
ALLOWANCES: dict[str, tuple[str, list[str]]] = {
    "too precise": (
        "{amount: 0.001, per: month}",
        ["4:42: expected an amount of at most 2 digits, found the number 0.001 (the meter has "
         "decimals: 2)"],
    ),
    "two amounts": (
        "{amount: 1, per_seat: 2, per: month}",
        ["4:55: expected `amount:` or `per_seat:`, not both, found the number 2"],
    ),
    "no amount": (
        "{per: month}",
        ["4:33: expected `amount:`, `per_seat:`, or `price:` with `rate:`, found nothing"],
    ),
    "a price without a rate": (
        "{price: 3, per: month}",
        ["4:33: expected `rate:` above 0, in dollars for each unit, found nothing"],
    ),
    "a rate of nothing": (
        "{price: 3, rate: 0, per: month}",
        ["4:33: expected `rate:` above 0, in dollars for each unit, found nothing"],
    ),
    "a rate without a price": (
        "{amount: 1, rate: 3, per: month}",
        ["4:51: expected no `rate:` without `price:`, found the number 3"],
    ),
    "a rate of money too precise": (
        "{price: 3, rate: 0.75, per: month, overage: {price: 0.0000001}}",
        ["4:85: expected dollars below 9 billion, with at most 6 digits behind the point, found "
         "the number 1E-7"],
    ),
    "two of one period": (
        "[{amount: 9, per: month}, {amount: 2, per: day}, {amount: 1, per: day}]",
        ["4:99: expected another kind of period than the allowances before, found 'day'"],
    ),
    "two kinds of weeks": (
        "[{amount: 9, per: week}, {amount: 2, per: monday}]",
        ["4:75: expected another kind of period than the allowances before, found 'monday'"],
    ),
    "a cap with a price": (
        "[{amount: 9, per: month}, {amount: 2, per: day, overage: {price: 1}}]",
        ["4:81: expected `overage:` in the first allowance of a meter only, found `overage:` "
         "(the others only limit it)"],
    ),
    "a cap of an account's own": (
        "[{amount: 9, per: month}, {amount: 2, per: day, settable: true}]",
        ["4:81: expected `settable:` in the first allowance of a meter only, found `settable:` "
         "(the others only limit it)"],
    ),
    "overage by the week": (
        "{amount: 1, per: week, overage: {price: 0.4}}",
        ["4:65: expected an overage rate with `per: month` only, found a mapping (invoices are "
         "monthly)"],
    ),
    "overage on a free plan": (
        "{amount: 1, per: month, overage: {price: 0.4}}|, billing: free",
        ["4:66: expected no overage rate, found a mapping (billing: free never bills overage)"],
    ),
    "overage on an enterprise plan": (
        "{amount: 1, per: month, when_exhausted: overage}|, billing: enterprise",
        ["4:73: expected block, found 'overage' (a plan that is billed as enterprise never goes "
         "into overage)"],
    ),
    "overage per nothing": (
        "{amount: 1, per: month, overage: {price: 0.4, per: 0}}",
        ["4:84: expected a number above 0, found the number 0"],
    ),
    "overage per less than a unit": (
        "{amount: 1, per: month, overage: {price: 0.4, per: 0.001}}",
        ["4:84: expected an amount of at most 2 digits, found the number 0.001 (the meter has "
         "decimals: 2)"],
    ),
    "a negative overage": (
        "{amount: 1, per: month, overage: {price: -0.4}}",
        ["4:74: expected an amount that is not negative, found the number -0.4"],
    ),
    "an unknown period": (
        "{amount: 1, per: mondy}",
        ["4:50: expected hour, day, week, month, ever, a weekday that weeks begin with, or a "
         "length such as 10d, found 'mondy' (did you mean monday?)"],
    ),
    "a period without its unit": (
        "{amount: 1, per: 10}",
        ["4:50: expected hour, day, week, month, ever, a weekday that weeks begin with, or a "
         "length such as 10d, found the number 10"],
    ),
    "a period of a second": (
        "{amount: 1, per: 1s}",
        ["4:50: expected hour, day, week, month, ever, a weekday that weeks begin with, or a "
         "length such as 10d, found '1s' (at least a minute)"],
    ),
    "a negative amount": (
        "{amount: -1, per: week}",
        ["4:42: expected an amount that is not negative, found the number -1"],
    ),
    "rollover too precise": (
        "{amount: 1, per: week, rollover: 0.001}",
        ["4:66: expected an amount of at most 2 digits, found the number 0.001 (the meter has "
         "decimals: 2)"],
    ),
    "rollover of no next period": (
        "{amount: 1, per: ever, rollover: 1}",
        ["4:66: expected no rollover, found the number 1 (`per: ever` has no next period)"],
    ),
    "an unknown key of an allowance": (
        "[{amount: 1, per: week}, {amont: 1, per: day}]",
        ["4:59: expected a known key of plans.p.allowances.coins[1], found 'amont' (did you "
         "mean amount?)"],
    ),
    "no allowance": (
        "[]",
        ["4:33: expected at least one entry, found an empty list"],
    ),
}  # fmt: skip

# What is wrong, the keys of a plan (from 4:13), the problems.
PLANS: dict[str, tuple[str, list[str]]] = {
    "an unknown meter": (
        "allowances: {coin: {amount: 1, per: week}}",
        ["4:26: expected the name of a meter, found 'coin' (did you mean coins?)"],
    ),
    "a bundle of an unknown meter": (
        "bundles: {b: {meter: coin, amount: 1, price: 10}}",
        ["4:34: expected the name of a meter, found 'coin' (did you mean coins?)"],
    ),
    "a bundle of nothing": (
        "bundles: {b: {meter: coins, amount: 0, price: 10}}",
        ["4:49: expected an amount above 0, found the number 0"],
    ),
    "a bundle without a price": (
        "bundles: {b: {meter: coins, amount: 1}}",
        ["4:26: expected the key 'price', found none (Dollars)"],
    ),
    "a bundle too precise": (
        "bundles: {b: {meter: coins, amount: 0.001, price: 10.0000001}}",
        [
            "4:49: expected an amount of at most 2 digits, found the number 0.001 (the meter "
            "has decimals: 2)",
            "4:63: expected dollars below 9 billion, with at most 6 digits behind the point, "
            "found the number 10.0000001",
        ],
    ),
    "a range upside down": (
        "limits: {l: {settable: {from: 10, to: 1}}}",
        ["4:36: expected `from:` of at most `to:`, found a mapping"],
    ),
    "a default outside of its range": (
        "limits: {l: {settable: {from: 2, to: 10}, default: 1}}",
        ["4:64: expected 0 for unlimited, or 2 to 10, found the number 1"],
    ),
    "a range from nothing": (
        "limits: {l: {settable: {from: 0, to: 10}}}",
        ["4:43: expected a number of at least 1, found the number 0"],
    ),
    "a range without an end": (
        "limits: {l: {settable: {from: 1}}}",
        ["4:36: expected the key 'to', found none (Most)"],
    ),
    "a range that accounts share": (
        "limits: {l: {settable: {to: 10}, per: source}}",
        ["4:51: expected account, key, user or project, found 'source' (accounts share such a "
         "count, so none can have its own)"],
    ),
    "a rate beside a range": (
        "limits: {l: {settable: {to: 10}, rate: 1/s, algorithm: gcra, burst: 3}}",
        [
            "4:52: expected no `rate:` beside `settable:`, found '1/s'",
            "4:68: expected no `algorithm:` beside `settable:`, found 'gcra'",
            "4:81: expected no `burst:` beside `settable:`, found the number 3",
        ],
    ),
    "a window without a range": (
        "limits: {l: {rate: 1/s, window: hour, default: 3}}",
        [
            "4:45: expected no `window:` without `settable:`, found 'hour'",
            "4:60: expected no `default:` without `settable:`, found the number 3",
        ],
    ),
    "an unknown billing": (
        "billing: payed",
        ["4:22: expected paid, free, trial, enterprise or off, found 'payed' (did you mean paid?)"],
    ),
    "an unknown way to leave": (
        "on_leave: next",
        ["4:23: expected at_once or next_period, found 'next'"],
    ),
    "a price with its sign": (
        "price: $30",
        ["4:20: expected an amount such as 1 or 0.25, found '$30'"],
    ),
    "a price too precise": (
        "seat_price: 0.0000001",
        ["4:25: expected dollars below 9 billion, with at most 6 digits behind the point, found "
         "the number 1E-7"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), ALLOWANCES.values(), ids=ALLOWANCES.keys())
def test_mistakes_of_allowances(folder: Folder, written: str, expected: list[str]) -> None:
    allowance, _, more = written.partition("|")
    text = f"plans: {{p: {{allowances: {{coins: {allowance}}}{more}}}}}\n"
    assert folder.problems(METERS + text) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize(("keys", "expected"), PLANS.values(), ids=PLANS.keys())
def test_mistakes_of_plans(folder: Folder, keys: str, expected: list[str]) -> None:
    text = METERS + f"plans: {{p: {{{keys}}}}}\n"
    assert folder.problems(text) == [f"c.yaml:{line}" for line in expected]
