"""Prices: exact ratios, carried remainders, tiers, tables, conditions, what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.figures import Figure, look_up, parse_figure
from gateway.core.ledger import Balance
from gateway.core.periods import Span
from gateway.core.pricing import (
    Cost,
    Price,
    Ratio,
    Reserve,
    Rule,
    Table,
    Tier,
    Unpriceable,
    round_ratio,
)
from gateway.core.pricing import (
    Test as Trial,
)

TOKENS = parse_figure("answer.json:usage.total_tokens")
STEPS = parse_figure("request.json:steps")
MODEL = parse_figure("request.json:model")
STATUS = parse_figure("answer.status")
MOST = parse_figure("request.json:max_tokens")


@dataclass
class Known:
    """Facts by the text of their figure."""

    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    mean: int | None = None
    failed: bool = False

    def text(self, figure: Figure) -> str | None:
        return self.texts.get(str(figure))

    def number(self, figure: Figure) -> Ratio | None:
        found = self.numbers.get(str(figure))
        return None if found is None else (found, 1)

    def has_failed(self) -> bool:
        return self.failed

    def average(self, rule: Rule) -> Ratio | None:
        return None if self.mean is None else (self.mean, 1)


def cost_of(price: Price, facts: Known) -> Cost:
    return price.settle(facts, Cost(()))[0]


def test_a_fixed_price_needs_no_facts() -> None:
    price = Price((("coins", 1), ("credits", 5)))
    assert price.is_fixed and not price.is_free
    assert price.meters == ("coins", "credits")
    assert cost_of(price, Known()) == Cost((("coins", 1), ("credits", 5)))


@pytest.mark.parametrize(("steps", "coins"), [(0, 0), (1, 1), (10, 1), (11, 2), (100, 10)])
def test_a_quantity_is_rounded_up_per_request(steps: int, coins: int) -> None:
    price = Price(rules=(Rule("coins", (1, 10), of=(STEPS,)),))
    assert cost_of(price, Known(numbers={"request.json:steps": steps})).charges == (
        ("coins", coins),
    )


def test_parts_of_one_meter_are_rounded_once() -> None:
    """Input and output tokens priced apart: a third and two thirds are one."""
    other = parse_figure("answer.json:usage.output")
    price = Price(rules=(Rule("c", (1, 3), of=(TOKENS,)), Rule("c", (2, 3), of=(other,))))
    facts = Known(numbers={str(TOKENS): 1, str(other): 1})
    assert cost_of(price, facts).charges == (("c", 1),)


def test_a_table_multiplies_and_an_unknown_text_has_no_price() -> None:
    table = Table(MODEL, {"small": (1, 2), "large": (5, 1)})
    price = Price(rules=(Rule("c", (1, 100), of=(TOKENS,), tables=(table,)),))
    large = Known({str(MODEL): "large"}, {str(TOKENS): 200})
    assert cost_of(price, large).charges == (("c", 10),)
    with pytest.raises(Unpriceable, match="expected one of small, large, found 'huge'"):
        price.reserve(Known({str(MODEL): "huge"}))
    with pytest.raises(Unpriceable, match="found nothing"):
        price.reserve(Known())


def test_what_the_answer_says_is_reserved_by_estimate() -> None:
    rule = Rule("c", (1, 100), of=(TOKENS,), reserve=Reserve((MOST,), (4000, 1)))
    price = Price(rules=(rule,))
    assert price.reserve(Known(numbers={str(MOST): 1000})).charges == (("c", 10),)
    assert price.reserve(Known()).charges == (("c", 40),)
    settled, name = price.settle(Known(numbers={str(TOKENS): 150}), Cost(()))
    assert (settled.charges, name) == ((("c", 2),), "")


def test_zero_is_zero_and_missing_falls_to_the_reserve() -> None:
    price = Price(rules=(Rule("c", (1, 1), of=(TOKENS,), reserve=Reserve(otherwise=(7, 1))),))
    assert cost_of(price, Known(numbers={str(TOKENS): 0})).charges == (("c", 0),)
    assert cost_of(price, Known()).charges == (("c", 7),)


def test_what_a_failed_backend_never_said_costs_nothing() -> None:
    other = parse_figure("stream.json:usage.total_tokens")
    rule = Rule("c", of=(TOKENS, other), reserve=Reserve(otherwise=(7, 1)))
    assert cost_of(Price(rules=(rule,)), Known(failed=True)).charges == (("c", 0),)
    said = Known(numbers={str(other): 3}, failed=True)
    assert cost_of(Price(rules=(rule,)), said).charges == (("c", 3),)


def test_the_mean_is_reserved_where_there_is_one() -> None:
    rule = Rule("c", of=(TOKENS,), reserve=Reserve(otherwise=(9, 1), average=True))
    assert Price(rules=(rule,)).reserve(Known()).charges == (("c", 9),)
    assert Price(rules=(rule,)).reserve(Known(mean=4)).charges == (("c", 4),)


def test_a_request_without_its_quantity_is_refused_or_has_a_default() -> None:
    with pytest.raises(Unpriceable, match=r"expected a number at request\.json:steps"):
        Price(rules=(Rule("c", of=(STEPS,)),)).reserve(Known())
    given_one = Price(rules=(Rule("c", of=(STEPS,), missing=(1, 1)),))
    assert given_one.reserve(Known()).charges == (("c", 1),)


def test_conditions_and_second_outcomes() -> None:
    state = parse_figure("answer.json:status")
    price = Price(
        (("ai", 1),),
        charge_when=(Trial(STATUS, frozenset({"2xx"})), Trial(state, frozenset({"acquired"}))),
        outcomes=(("polling", (Trial(state, frozenset({"running"})),)),),
    )
    assert not price.is_fixed
    cases = (
        ("200", "acquired", (("ai", 1),), ""),
        ("200", "running", (), "polling"),
        ("200", "else", (), "not_charged"),
        ("503", "acquired", (), "not_charged"),
    )
    for status, found, charges, name in cases:
        facts = Known({str(STATUS): status, str(state): found})
        assert price.settle(facts, Cost(())) == (Cost(charges), name)
    assert price.reserve(Known()).charges == (("ai", 1),)


def test_a_rule_that_does_not_apply_reserves_nothing() -> None:
    setting = parse_figure("account.setting:llm")
    rule = Rule("t", of=(TOKENS,), when=(Trial(setting, none_of=frozenset({"own"})),))
    rule_with = Rule("t", of=(TOKENS,), when=rule.when, reserve=Reserve(otherwise=(5, 1)))
    assert Price(rules=(rule_with,)).reserve(Known({str(setting): "own"})).charges == ()
    assert Price(rules=(rule_with,)).reserve(Known()).charges == (("t", 5),)


def test_amounts_beyond_53_bits_are_refused() -> None:
    price = Price(rules=(Rule("c", (10**9, 1), of=(STEPS,)),))
    with pytest.raises(Unpriceable, match=r"below 2\^53"):
        price.reserve(Known(numbers={str(STEPS): 2**53 - 1}))
    exact = Price(rules=(Rule("c", of=(STEPS,)),))
    assert exact.reserve(Known(numbers={str(STEPS): 2**53 - 1})).charges == (("c", 2**53 - 1),)


@given(st.lists(st.integers(0, 40), max_size=60))
def test_carried_quantities_lose_nothing(steps: list[int]) -> None:
    """The sum of what each request pays is what all of them together cost."""
    rule = Rule("coins", (3, 10), counter="steps")
    total = paid = 0
    for number in steps:
        paid += rule.cost_of(total + number) - rule.cost_of(total)
        total += number
    assert paid == total * 3 // 10


TIERS = (Tier(1000, (1, 1000)), Tier(10_000, (1, 2000)), Tier(None, (1, 5000)))


def exact_tiers(total: int) -> Fraction:
    cost = Fraction(min(total, 1000), 1000)
    cost += Fraction(min(max(total - 1000, 0), 9000), 2000)
    return cost + Fraction(max(total - 10_000, 0), 5000)


@given(st.lists(st.integers(0, 15_000), max_size=30))
def test_tiers_are_split_exactly(amounts: list[int]) -> None:
    rule = Rule("uc", counter="rates", tiers=TIERS)
    total = paid = 0
    for amount in amounts:
        paid += rule.cost_of(total + amount) - rule.cost_of(total)
        total += amount
        assert paid == exact_tiers(total).__floor__()


def test_one_request_across_two_boundaries() -> None:
    rule = Rule(
        "uc",
        counter="rates",
        tiers=tuple(Tier(t.up_to, (t.rate[0] * 1000, t.rate[1])) for t in TIERS),
    )
    assert rule.cost_of(500) == 500
    assert rule.cost_of(20_000) - rule.cost_of(500) == 500 + 4500 + 2000


@pytest.mark.parametrize(("rounding", "expected"), [("up", 2), ("down", 1), ("nearest", 2)])
def test_rounding(rounding: str, expected: int) -> None:
    assert round_ratio((3, 2), rounding) == expected  # type: ignore[arg-type]


@pytest.mark.slow
def test_ten_million_hundredths_and_as_many_bytes_sum_exactly() -> None:
    """10 UC per 1,000 requests and 1 UC per GB, with nine digits behind the point."""
    requests = Balance("uc", Span(0, 1), None)
    traffic = Balance("uc", Span(0, 1), None)
    size = 123_457
    for _ in range(10_000_000):
        requests.held += 10_000_000
        requests.post(10_000_000, 10_000_000)
        traffic.post(0, size)
    assert requests.used == 100_000 * 10**9
    assert traffic.used == 10_000_000 * size


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("request.json:a.b.0", ("a", "b", 0)),
        ("request.json:/a~1b/c.d", ("a/b", "c.d")),
        ("request.items:", ()),
    ],
)
def test_paths(text: str, steps: tuple[str | int, ...]) -> None:
    assert parse_figure(text).steps == steps


@pytest.mark.parametrize(
    "text", ["answer", "request.json:a..b", "request.header:", "bytes:x", "request.header:a b"]
)
def test_wrong_figures(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_figure(text)


def test_looking_up() -> None:
    document = {"a": [{"b": 1}, {"b": None}], "0": "zero"}
    assert look_up(document, ("a", 0, "b")) == 1
    assert look_up(document, (0,)) == "zero"
    for steps in (("a", 2, "b"), ("a", 1, "b"), ("a", "b"), ("x",), ("a", 0, "b", "c")):
        assert look_up(document, steps) is None
