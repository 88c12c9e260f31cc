"""Plans, settings, accounts and operators: what they become in the book."""

from __future__ import annotations

import pytest

from gateway.core.book import (
    Account,
    Allowance,
    Bundle,
    OperatorToken,
    OverageRate,
    Plan,
    SettableLimit,
    Setting,
)
from gateway.core.limits import RateLimit
from gateway.core.periods import DAY_US, Period
from tests.config.pricing import SHOP
from tests.config.writing import HASH, Folder

METERS = SHOP.replace("plans: {free: {}}\n", "")
MONTH = Period("month")


def plan(folder: Folder, keys: str) -> Plan:
    return folder.load(METERS + f"plans: {{p: {{{keys}}}}}\n").book.plans["p"]


@pytest.mark.parametrize(
    ("written", "period"),
    [
        ("hour", Period("hour")), ("day", Period("day")), ("week", Period("week")),
        ("month", MONTH), ("ever", Period("ever")), ("monday", Period("week", weekday=0)),
        ("sunday", Period("week", weekday=6)), ("10d", Period("fixed", 10 * DAY_US)),
        ("36h", Period("fixed", DAY_US * 3 // 2)),
    ],
)  # fmt: skip
def test_periods(folder: Folder, written: str, period: Period) -> None:
    (found,) = plan(folder, f"allowances: {{coins: {{amount: 1, per: {written}}}}}").allowances
    assert found == Allowance("coins", 100, period)


@pytest.mark.parametrize(
    ("written", "allowance"),
    [
        ("{amount: 1000, per: month, when_exhausted: overage, status: 402, settable: true}",
         Allowance("coins", 100_000, MONTH, "overage", 402, settable=True)),
        ("{per_seat: 5, per: month}", Allowance("coins", 500, MONTH, per_seat=True)),
        ("{amount: 9, per: month, rollover: 4.5}", Allowance("coins", 900, MONTH, rollover=450)),
        ("{price: 256, rate: 0.75, per: month}", Allowance("coins", 34133, MONTH)),
        ("{price: 64, rate: 0.85, per: month}", Allowance("coins", 7529, MONTH)),
        ("{amount: 1, per: month, overage: {price: 0.01, per: 100}}",
         Allowance("coins", 100, MONTH, overage=OverageRate(10_000, 10_000))),
        ("{amount: 1, per: month, overage: {price: 0.4, rounding: lot}}",
         Allowance("coins", 100, MONTH, overage=OverageRate(400_000, 100, "lot"))),
    ],
)  # fmt: skip
def test_allowances(folder: Folder, written: str, allowance: Allowance) -> None:
    assert plan(folder, f"allowances: {{coins: {written}}}").allowances == (allowance,)


def test_several_allowances_of_a_meter_are_in_their_order(folder: Folder) -> None:
    several = "[{amount: 9, per: month, rollover: 1}, {amount: 2, per: day}, {amount: 5, per: 7d}]"
    found = plan(folder, f"allowances: {{coins: {several}, uc: {{amount: 1, per: ever}}}}")
    assert [(a.meter, a.period.kind) for a in found.allowances] == [
        ("coins", "month"), ("coins", "day"), ("coins", "fixed"), ("uc", "ever"),
    ]  # fmt: skip


def test_what_a_plan_costs_and_sells(folder: Folder) -> None:
    bundles = (
        "{small: {meter: coins, amount: 10, price: 5}, "
        "large: {meter: coins, amount: 100, price: 40.5, title: L, badge: Popular, "
        "savings: 19%, valid: 365d}}"
    )
    found = plan(
        folder,
        f"title: Pro, billing: enterprise, price: 256, seat_price: 0.5, "
        f"on_leave: next_period, bundles: {bundles}",
    )
    assert (found.title, found.billing, found.on_leave) == ("Pro", "enterprise", "next_period")
    assert (found.price_micro, found.seat_price_micro) == (256_000_000, 500_000)
    assert found.bundles == (
        Bundle("small", "coins", 1000, 5_000_000, "small"),
        Bundle("large", "coins", 10_000, 40_500_000, "L", 365 * DAY_US, "Popular", "19%"),
    )
    assert plan(folder, "").on_leave == "at_once"


def test_limits_that_accounts_may_set(folder: Folder) -> None:
    found = plan(
        folder, "limits: {own: {settable: {to: 9}, window: day, default: 3}, hourly: 5/hour}"
    )
    limit = RateLimit("own", "account", "fixed_window", 9, DAY_US, 9, "plan/p/own")
    assert found.settable == (SettableLimit(limit, 1, 3),)
    assert [limit.id for limit in found.limits] == ["plan/p/hourly"]


def test_settings_roles_and_money(folder: Folder) -> None:
    book = folder.load(
        SHOP.replace('ai: {values: ["on", "off"]}', 'ai: {values: ["on", "off"], editors: [boss]}')
        + "roles: [boss, guest]\nmoney: {rounding: up}\n"
    ).book
    assert book.settings["ai"] == Setting("ai", ("on", "off"), "on", "ai", frozenset({"boss"}))
    assert book.settings["quality"].default == "medium"
    assert (book.roles, book.money_rounding) == (("boss", "guest"), "up")
    book = folder.load("{}\n").book
    assert (book.roles, book.money_rounding) == (("owner", "admin", "member"), "half_up")


def test_operators(folder: Folder) -> None:
    book = folder.load(f'admin: {{tokens: [{{name: ops, role: billing, hash: "{HASH}"}}]}}\n').book
    assert book.operators == {bytes.fromhex(HASH[7:]): OperatorToken("ops", "billing")}


def test_what_accounts_have_of_their_own(folder: Folder) -> None:
    text = """\
        plans:
          p:
            allowances: {coins: {amount: 1, per: week, settable: true}}
            limits: {own: {settable: {to: 9}}}
        accounts:
          plain: {plan: p}
          acme:
            plan: p
            seats: 10
            overage: on
            cap: 50.00
            timezone: Europe/Kyiv
            settings: {quality: best, ai: "on"}
            allowances: {coins: 5000.5}
            limits: {own: 4}
            members: {alice: owner, bob: member}
        """
    folder.write("plans.yaml", text)
    book = folder.load("include: plans.yaml\n" + METERS).book
    anchor_us = book.accounts["plain"].anchor_us
    assert book.accounts["plain"] == Account("plain", "p", anchor_us, "plain")
    assert book.accounts["acme"] == Account(
        "acme", "p", anchor_us, "acme", seats=10, overage=True, cap_micro=50_000_000,
        timezone="Europe/Kyiv", settings=(("quality", "best"),),  # "on" is the default
        allowances=(("coins", 500_050),), limits=(("own", 4),),
    )  # fmt: skip
    assert book.members == {"acme": {"alice": "owner", "bob": "member"}}


def test_the_period_of_a_meter(folder: Folder) -> None:
    meters = folder.load(
        "meters: {a: {}, b: {per: ever}, c: {per: day, decimals: 9}}\n"
    ).book.meters
    assert [meter.period.kind for meter in meters.values()] == ["month", "ever", "day"]
    assert meters["c"].unit == 10**9
