"""What a price of the configuration costs: from YAML to smallest units."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.core.figures import parse_figure
from gateway.core.pricing import FREE, Tier, Unpriceable
from tests.config.pricing import Said, priced, route, settled
from tests.config.writing import Folder


@pytest.mark.parametrize(
    ("price", "charges"),
    [
        ("{coins: 1}", (("coins", 100),)),
        ("{coins: [0.5, {amount: 0.25}]}", (("coins", 75),)),
        ("{coins: {amount: 10, per: 1000}}", (("coins", 1),)),  # a whole cent each
        ("{coins: 1, uc: 0.000000001}", (("coins", 100), ("uc", 1))),
    ],
)
def test_what_counts_nothing_is_fixed(
    folder: Folder, price: str, charges: tuple[tuple[str, int], ...]
) -> None:
    found = priced(folder, price)
    assert found.is_fixed and found.charges == charges


@pytest.mark.parametrize("price", ["free", "0", "{coins: 0}"])
def test_free(folder: Folder, price: str) -> None:
    assert priced(folder, price) == FREE


@pytest.mark.parametrize(
    ("rule", "figures", "units"),
    [
        ("{of: request.items:tests}", {"request.items:tests": 3}, 300),
        ("{amount: 1, per: 10, of: request.json:n}", {"request.json:n": 25}, 250),
        ("{amount: 1, per: 3, of: request.json:n}", {"request.json:n": 1}, 34),
        ("{amount: 1, per: 3, of: request.json:n, round: down}", {"request.json:n": 1}, 33),
        ("{amount: 1, per: 8, of: request.json:n, round: nearest}", {"request.json:n": 1}, 13),
        ("{amount: 1, per: 1GB, of: answer.bytes}", {"answer.bytes": 2 * 10**9}, 200),
        ("{amount: 1, per: 1GiB, of: answer.bytes}", {"answer.bytes": 2**30}, 100),
        ("{amount: 3, per: 1h, of: open.seconds}", {"open.seconds": 1800}, 150),
        ("{amount: 3, per: 1h30m, of: open.seconds}", {"open.seconds": 5400}, 300),
        ("{of: [stream.json:u.n, answer.json:u.n]}", {"answer.json:u.n": 2}, 200),
        ("{of: [stream.json:u.n, answer.json:u.n]}", {"stream.json:u.n": 0}, 0),
        ("{of: answer.json:n, reserve: 5}", {}, 500),
        ("{of: answer.json:n, reserve: 5, missing: 1}", {}, 100),
        ("{of: request.json:n, missing: 1}", {}, 100),
        ("{of: request.json:n, times: 2}", {"request.json:n": 3}, 600),
        ("{of: request.json:n, times: [2, 0.5]}", {"request.json:n": 3}, 300),
        ("{times: {by: account.setting:quality, values: {cheap: 0.5, medium: 1, best: 2}}}",
         {"account.setting:quality": "best"}, 200),
        ("{amount: {by: request.json:model, values: {a: 2, b: 0.5}}, per: 1000, of: answer.json:n}",
         {"request.json:model": "b", "answer.json:n": 3000}, 150),
        ("{per: {by: request.json:model, values: {a: 2, b: 0.5}}, of: answer.json:n}",
         {"request.json:model": "b", "answer.json:n": 3}, 600),
        ("{times: {by: request.json:model, values: {a: 2}, otherwise: 3}}", {}, 300),
        ("{amount: 1, when: {request.json:dry: null}}", {}, 100),
        ("{amount: 1, when: {request.json:dry: false}}", {}, 0),
        ("{amount: 1, when: {request.json:dry: false}}", {"request.json:dry": "false"}, 100),
        ("{amount: 1, when: {request.json:v: 1.50}}", {"request.json:v": "1.5"}, 100),
        ("{amount: 1, when: {request.header:X-T: {not: [a, b]}}}", {"request.header:x-t": "b"}, 0),
        ("{amount: 1, when: {request.header:X-T: {not: [a, b]}}}", {}, 100),
        ("{amount: 1, when: {request.header:X-T: {not: null}}}", {}, 0),
        ("{amount: 1, when: {request.header:X-T: present}}", {"request.header:x-t": "1"}, 100),
        ("{amount: 1, when: {answer.status: [2xx, 304]}}", {"answer.status": "304"}, 100),
        ("{amount: 1, when: {answer.status: 2xx}}", {"answer.status": "404"}, 0),
    ],
)  # fmt: skip
def test_rules(
    folder: Folder, rule: str, figures: dict[str, str | int | Fraction], units: int
) -> None:
    cost = settled(priced(folder, f"{{coins: {rule}}}"), figures)
    assert sum(amount for _, amount in cost.charges) == units


def test_rules_of_a_meter_are_added_before_they_are_rounded(folder: Folder) -> None:
    price = priced(
        folder, "{coins: [{per: 3, of: request.json:a}, {per: 3, of: request.json:b}], uc: 1}"
    )
    cost = settled(price, {"request.json:a": 1, "request.json:b": 2})
    assert dict(cost.charges) == {"coins": 100, "uc": 10**9}


def test_what_no_table_knows_has_no_price(folder: Folder) -> None:
    price = priced(folder, "{coins: {times: {by: request.json:model, values: {a: 2}}}}")
    with pytest.raises(Unpriceable, match=r"request\.json:model: expected one of a, found 'b'"):
        price.reserve(Said({"request.json:model": "b"}))


@pytest.mark.parametrize("rule", ["{of: request.json:n}", "{of: request.json:n, missing: refuse}"])
def test_a_request_without_its_figure_has_no_price(folder: Folder, rule: str) -> None:
    with pytest.raises(Unpriceable):
        priced(folder, f"{{coins: {rule}}}").reserve(Said({}))


def test_carry_counts_in_the_counters_smallest_unit(folder: Folder) -> None:
    price = priced(folder, "{coins: {per: 10, of: request.json:n, round: carry, counter: steps}}")
    (entry,) = settled(price, {"request.json:n": 7}).counted
    assert (entry.rule.counter, entry.amount) == ("steps", 7)
    assert [entry.rule.cost_of(n) for n in (0, 1, 7, 10, 100)] == [0, 10, 70, 100, 1000]


def test_a_counter_with_decimals(folder: Folder) -> None:
    text = route("{coins: {amount: 36, per: 1h, of: open.seconds, round: carry, counter: gb}}")
    text = text.replace("gb: {per: day}", "gb: {per: day, decimals: 6}")
    price = folder.load(text).book.routes[0].prices["api_key"]
    (entry,) = settled(price, {"open.seconds": Fraction(3, 2)}).counted
    assert entry.amount == 1_500_000
    assert (
        entry.rule.cost_of(1_500_000) == 1
    )  # 1.5 s at a cent each: what is left of the second is carried


def test_tiers_are_split_exactly(folder: Folder) -> None:
    tiers = "[{up_to: 10GB, amount: 1, per: 1GB}, {amount: 0.5, per: 1GB}]"
    price = priced(folder, f"{{uc: {{of: answer.bytes, counter: gb, tiers: {tiers}}}}}")
    (rule,) = price.rules
    assert rule.tiers == (Tier(10**10, (1, 1)), Tier(None, (1, 2)))
    assert rule.cost_of(12 * 10**9) == 11 * 10**9


@pytest.mark.parametrize(
    ("reserve", "figures", "units"),
    [
        ("7", {}, 700), ("1KB", {}, 100_000), ("10s", {}, 1000), ("average", {}, 0),
        ("request.json:max", {"request.json:max": 4}, 400), ("request.json:max", {}, 0),
        ("{of: [request.json:a, request.json:b], otherwise: 9}", {"request.json:b": 2}, 200),
        ("{of: request.json:a, average: true, otherwise: 9}", {}, 900),
    ],
)  # fmt: skip
def test_reserves(
    folder: Folder, reserve: str, figures: dict[str, str | int | Fraction], units: int
) -> None:
    price = priced(folder, f"{{coins: {{of: answer.json:n, reserve: {reserve}}}}}")
    assert price.reserve(Said(figures)).charges == (("coins", units),)


def test_conditions_and_outcomes(folder: Folder) -> None:
    more = (
        "charge_when: {answer.status: 2xx, answer.json:status: acquired}\n"
        "outcomes: {polling: {answer.json:status: [polling, running]}}"
    )
    price = priced(folder, "{coins: 1}", more)
    assert not price.is_fixed and price.reads_answer and not price.reads_body

    def outcome(status: int, said: str) -> tuple[int, str]:
        cost, name = price.settle(
            Said({"answer.status": status, "answer.json:status": said}), price.reserve(Said({}))
        )
        return sum(amount for _, amount in cost.charges), name

    assert outcome(200, "acquired") == (100, "")
    assert outcome(200, "running") == (0, "polling")
    assert outcome(500, "acquired") == (0, "not_charged")


def test_each_kind_of_caller_may_have_a_measured_price(folder: Folder) -> None:
    more = 'callers: {api_key: {price: {coins: {of: "request.items:a"}}}, browser: {}}'
    prices = folder.load(route("free", more)).book.routes[0].prices
    assert prices["browser"] == FREE
    assert prices["api_key"].figures() == {parse_figure("request.items:a")}
    assert prices["api_key"].reads_body


def test_what_a_route_requires_and_sends(folder: Folder) -> None:
    more = 'requires: {ai: "on"}\nsend: {X-Quality: quality}\ninspect_max: 2MB\ninterval: 500ms'
    found = folder.load(route("free", more)).book.routes[0]
    assert found.requires == (("ai", "on"),)
    assert found.send_settings == (("X-Quality", "quality"),)
    assert (found.inspect_max_bytes, found.drain_timeout_s, found.interval_s) == (
        2 * 10**6,
        30,
        0.5,
    )


def test_a_route_may_have_several_paths(folder: Folder) -> None:
    text = route("{coins: 1}").replace("POST /x/{id}", "['POST /x/{id}', 'GET,PUT /y']")
    first, second = folder.load(text).book.routes
    assert (first.template, second.template) == ("/x/{id}", "/y")
    assert first.name == second.name and first.prices == second.prices
    assert second.methods == {"GET", "PUT"}
