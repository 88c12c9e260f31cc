"""Quantities carried over requests: exact, in whatever order and way they end."""

from __future__ import annotations

from itertools import permutations

import pytest

from gateway.core.book import Plan
from gateway.core.periods import DAY_US, Period
from gateway.core.pricing import Counted, Rule, Tier
from gateway.state.base import Hold
from tests.state.stage import DAY, Stage, allowance, us

T = us("2026-03-10")
MARCH = us("2026-03-01")
STEPS = Rule("coins", rate=(1, 10), counter="steps", id="agent")


def counted(quantity: int, rule: Rule = STEPS) -> tuple[Counted, ...]:
    return (Counted(rule, quantity),)


def stage_of(coins: int) -> Stage:
    return Stage(Plan("p", (allowance("coins", coins),)))


def call(stage: Stage, quantity: int, at_us: int = T, rule: Rule = STEPS) -> Hold:
    return stage.hold(at_us, ("coins", 0), counted=counted(quantity, rule))


def coins(stage: Stage) -> tuple[int, int]:
    balance = stage.balance(T)
    return balance.used, balance.held


def test_onetest_ten_calls_of_one_step_make_exactly_one_coin() -> None:
    stage = stage_of(100)
    posted = [stage.settle(call(stage, 1)) for _ in range(10)]
    assert posted[:9] == [(("steps", 1, MARCH),)] * 9
    assert posted[9] == (("coins", 1, MARCH), ("steps", 1, MARCH))


def test_one_call_with_many_steps_costs_the_same() -> None:
    stage = stage_of(100)
    assert stage.settle(call(stage, 25)) == (("coins", 2, MARCH), ("steps", 25, MARCH))
    assert stage.settle(call(stage, 5)) == (("coins", 1, MARCH), ("steps", 5, MARCH))


def test_ten_parallel_calls_hold_one_coin_and_make_one() -> None:
    stage = stage_of(1)
    holds = [call(stage, 1) for _ in range(10)]
    assert coins(stage) == (0, 1)
    assert sum(p[0] == "coins" for hold in reversed(holds) for p in stage.settle(hold)) == 1
    assert coins(stage) == (1, 0)


@pytest.mark.parametrize("voided", [(0,), (9,), (2, 5, 7), tuple(range(10))])
def test_parallel_calls_of_which_some_void_cost_what_is_left_and_hold_no_more(
    voided: tuple[int, ...],
) -> None:
    stage = stage_of(1)
    holds = [call(stage, 1) for _ in range(10)]
    for index, hold in enumerate(holds):
        if index in voided:
            stage.hot.release(hold)
        else:
            stage.settle(hold)
    assert coins(stage) == (0, 0)
    for _ in voided:
        stage.settle(call(stage, 1))
    assert coins(stage) == (1, 0)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_void_makes_no_room_that_another_request_needs(order: tuple[int, ...]) -> None:
    """One coin is left. 7 + 7 steps hold it; whichever goes, the other may need it."""
    stage = stage_of(1)
    holds = [call(stage, 7), call(stage, 7), call(stage, 2), call(stage, 2)]
    for index in order:
        if index % 2:
            stage.hot.release(holds[index])
        else:
            stage.settle(holds[index])
        balance = stage.balance(T)
        assert balance.used + balance.held <= 1
    assert coins(stage) == (0, 0) and stage.balance(T, "steps").used == 9


def test_what_the_counter_would_pass_is_refused_and_changes_nothing() -> None:
    stage = stage_of(1)
    call(stage, 15)
    refusal = stage.refusal(T, ("coins", 0), counted=counted(5))
    assert (refusal.code, refusal.reason) == ("budget_exhausted", "blocked:coins")
    assert coins(stage) == (0, 1) and stage.balance(T, "steps").held == 15
    call(stage, 4)


def test_a_counter_with_an_allowance_of_its_own_is_a_budget_too() -> None:
    stage = Stage(Plan("p", (allowance("coins", 100), allowance("steps", 20))))
    stage.settle(call(stage, 15))
    assert stage.refusal(T, ("coins", 0), counted=counted(6)).reason == "blocked:steps"
    stage.settle(call(stage, 5))


def test_an_answer_with_more_than_was_held_moves_what_the_others_hold() -> None:
    stage = stage_of(10)
    first, second = call(stage, 1), call(stage, 1)
    stage.settle(first, counted=counted(9))
    assert coins(stage) == (0, 1)  # the second is the tenth now
    assert stage.settle(second)[0] == ("coins", 1, MARCH)
    stage.settle(call(stage, 30), counted=counted(0))
    assert coins(stage) == (1, 0)


def test_two_quantities_of_one_request_count_one_after_the_other() -> None:
    stage = stage_of(10)
    other = Rule("coins", rate=(1, 10), counter="steps", id="other")
    both = (Counted(STEPS, 5), Counted(other, 5))
    posted = stage.settle(stage.hold(T, ("coins", 0), counted=both))
    assert posted == (("coins", 1, MARCH), ("steps", 10, MARCH))
    assert coins(stage) == (1, 0)


def test_apibricks_daily_tiers_are_split_inside_a_request_and_across_requests() -> None:
    """10 at 5, the next 10 at 3, then 1 each; it is the day's sum that counts."""
    tiers = (Tier(10, (5, 1)), Tier(20, (3, 1)), Tier(None, (1, 1)))
    rule = Rule("coins", counter="steps", tiers=tiers)
    stage = stage_of(1_000)
    stage.use_periods({"steps": DAY})
    quantities = [4, 9, 12, 5]  # 20 | 30+9 | 21+5 | 5
    posted = [stage.settle(call(stage, q, rule=rule))[0][1] for q in quantities]
    assert posted == [20, 39, 26, 5]
    tomorrow = stage.settle(call(stage, 1, T + DAY_US, rule))
    assert tomorrow == (("coins", 5, MARCH), ("steps", 1, T + DAY_US))


def test_a_counter_that_outlives_its_meters_period_never_breaks_and_never_overdraws() -> None:
    stage = Stage(Plan("p", (allowance("coins", 1, DAY),)))
    stage.use_periods({"steps": Period("ever")})
    yesterday, today = call(stage, 9), call(stage, 9, T + DAY_US)
    assert (yesterday.reserved[0][0].held, today.reserved[0][0].held) == (1, 1)
    assert stage.settle(today) == (("steps", 9, 0),)
    assert stage.settle(yesterday) == (("coins", 1, T), ("steps", 9, 0))
    for hold in (yesterday, today):
        balance = hold.reserved[0][0]
        assert (balance.held, balance.over) == (0, 0)
    assert stage.balance(T + DAY_US, "steps").shares == ()


def test_two_periods_do_not_both_take_the_last_unit_of_a_bundle() -> None:
    """The third step of yesterday and seven of today are one coin; either may have to pay it."""
    stage = Stage(Plan("p", (allowance("coins", 5, DAY),)))
    stage.give("b1", 1, T)
    stage.hold(T, ("coins", 5), counted=counted(3))
    today = T + DAY_US
    stage.refusal(today, ("coins", 5), counted=counted(7))
    stage.hold(today, ("coins", 4), counted=counted(7))


def test_older_periods_together_do_not_need_more_of_a_bundle_than_there_is() -> None:
    stage = Stage(Plan("p", (allowance("coins", 6, DAY),)))
    stage.give("b1", 9, T)
    stage.hold(T, ("coins", 4), counted=counted(20))
    stage.hold(T + DAY_US, ("coins", 10), counted=counted(14))
    stage.refusal(T + 2 * DAY_US, ("coins", 0), counted=counted(6))
    balances = stage.balances(T + 2 * DAY_US)
    assert [(b.held, b.has_what_is_held) for b in balances] == [(7, True), (13, True), (0, True)]


def test_two_periods_do_not_both_count_on_the_unit_that_is_carried_over() -> None:
    stage = Stage(Plan("p", (allowance("coins", 5, DAY, rollover=5),)), from_us=T)
    stage.hold(T, ("coins", 4), counted=counted(3))
    today = T + DAY_US
    assert stage.balance(today).carried == 1
    stage.refusal(today, ("coins", 6), counted=counted(7))
    assert stage.balance(today).carried == 1
    stage.hold(today, ("coins", 4), counted=counted(7))
    balance = stage.balance(today)
    assert (balance.carried, balance.held, balance.remaining) == (0, 5, 0)


def test_rules_with_other_prices_on_one_counter_each_hold_enough() -> None:
    dear = Rule("coins", rate=(5, 10), counter="steps", id="dear")
    stage = stage_of(100)
    holds = [call(stage, 6), call(stage, 7, rule=dear), call(stage, 8), call(stage, 9, rule=dear)]
    held = stage.balance(T).held
    for hold in (holds[3], holds[0], holds[1], holds[2]):
        stage.settle(hold)
        balance = stage.balance(T)
        assert balance.used + balance.held <= held
    assert stage.balance(T).held == 0


def test_counted_units_burn_lots_and_count_in_caps() -> None:
    stage = Stage(Plan("p", (allowance("coins", 2), allowance("coins", 4, DAY))))
    stage.give("b1", 10, T)
    first, second = call(stage, 15), call(stage, 18)  # 1.5 and 1.8: 3 coins together
    balance = stage.balance(T)
    assert (balance.held, balance.caps[0].held) == (3, 3)
    assert stage.refusal(T, ("coins", 2)).reason == "blocked:coins@day"
    stage.hot.release(first)
    balance = stage.balance(T)
    assert (balance.held, balance.caps[0].held) == (1, 1)
    posted = stage.settle(second, counted=counted(30))
    assert set(posted) == {
        ("coins", 2, MARCH),
        ("coins", 1, MARCH, "b1"),
        ("steps", 30, MARCH),
        ("coins", 3, T, "@day"),
    }
    assert (balance.caps[0].used, balance.caps[0].held) == (3, 0)


def test_ten_million_events_of_a_hundredth_sum_exactly() -> None:
    """1 coin for 100 steps: no request is rounded, and nothing is lost."""
    rule = Rule("coins", rate=(1, 100), counter="steps")
    assert rule.cost_of(10_000_000) == 100_000
    parts = [rule.cost_of(n + 1) - rule.cost_of(n) for n in range(0, 100_000)]
    assert sum(parts) == 1_000 and set(parts) == {0, 1}


def test_a_cap_of_yesterday_holds_only_what_was_held_yesterday() -> None:
    stage = Stage(Plan("p", (allowance("coins", 100), allowance("coins", 2, DAY))))
    old = call(stage, 10)
    new = call(stage, 10, T + DAY_US)
    yesterday, today = (hold.counts[0].share.caps[0] for hold in (old, new))
    assert yesterday is not today and (yesterday.span.start_us, today.span.start_us) == (
        T,
        T + DAY_US,
    )
    assert ("coins", 1, T + DAY_US, "@day") in stage.settle(new)
    assert ("coins", 1, T, "@day") in stage.settle(old)
    assert [(cap.used, cap.held) for cap in (yesterday, today)] == [(1, 0), (1, 0)]
