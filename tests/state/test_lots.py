"""Units from several sources: the order in which they burn, and what expires when."""

from __future__ import annotations

import pytest

from gateway.core.book import Plan
from gateway.core.periods import DAY_US, HOUR_US
from tests.state.stage import DAY, MONTH, Stage, allowance, us

PLAN = Plan("p", (allowance("coins", 100),))
T = us("2026-03-10")
MARCH, APRIL, MAY = us("2026-03-01"), us("2026-04-01"), us("2026-05-01")


def test_testkase_burns_the_allowance_before_a_bundle_which_does_not_expire_monthly() -> None:
    stage = Stage(PLAN)
    stage.give("b1", 1_000, T)
    assert stage.balance(T).remaining == 1_100
    assert stage.spend(T, 130) == (("coins", 30, MARCH, "b1"), ("coins", 100, MARCH))
    assert stage.balance(T).remaining == 970
    assert stage.balance(APRIL).remaining == 1_070
    assert stage.spend(APRIL, 60) == (("coins", 60, APRIL),)
    assert stage.balance(MAY).remaining == 1_070


def test_what_expires_first_burns_first_then_priority_then_age() -> None:
    stage = Stage(PLAN)
    for entry_id, expires_us, priority, time_us in (
        ("never", None, 0, T),
        ("late", MAY, 0, T),
        ("soon", T + DAY_US, 9, T),
        ("soon-first", T + DAY_US, 1, T + 5),
        ("soon-old", T + DAY_US, 9, T - 5),
    ):
        stage.give(
            entry_id, 10, time_us, expires_us=expires_us, priority=priority, starts_us=T - 10
        )
    order = []
    for _ in range(15):
        for posting in stage.spend(T + 10, 10):
            order.append(posting[3] if len(posting) == 4 else "")
    assert order == ["soon-first", "soon-old", "soon", *([""] * 10), "late", "never"]
    assert stage.refusal(T + 10, ("coins", 1)).code == "budget_exhausted"


def test_an_onetest_top_up_is_there_at_once_and_only_in_its_cycle() -> None:
    stage = Stage(PLAN)
    stage.spend(T, 100)
    assert stage.refusal(T, ("coins", 1)).status == 429
    stage.give("t1", 50, T, kind="topup", lot="")
    assert stage.balance(T).remaining == 50
    stage.spend(T, 20)
    assert stage.balance(APRIL).remaining == 100  # neither kept nor added to the budget
    stage.restart()
    assert (stage.balance(T).remaining, stage.balance(T).topped_up) == (30, 50)


def test_an_entry_counts_once_however_often_it_is_told() -> None:
    stage = Stage(PLAN)
    stage.balance(T)
    top_up = stage.give("t1", 50, T, kind="topup", lot="")
    bundle = stage.give("b1", 7, T)
    for entry in (top_up, bundle, top_up):
        stage.hot.apply_entry(stage.state, entry)
    assert stage.balance(T).remaining == 157


@pytest.mark.one_process
def test_an_entry_that_did_not_reach_the_store_is_taken_back_whole() -> None:
    stage = Stage(PLAN)
    stage.balance(T)
    entries = [
        stage.give("t1", 50, T, kind="topup", lot=""),
        stage.give("b1", 7, T),
        stage.give("r1", 3, T, kind="recurring", every="day"),
    ]
    assert stage.balance(T).remaining == 160
    for entry in entries * 2:
        stage.hot.undo_entry(stage.state, entry)
    assert stage.balance(T).remaining == 100
    assert [stage.spend(T, 100), stage.balance(T).is_plain] == [(("coins", 100, MARCH),), True]


def test_an_adjustment_takes_back_from_the_lot_it_names() -> None:
    stage = Stage(PLAN)
    stage.give("b1", 40, T)
    stage.give("a1", -15, T + 1, kind="adjustment", lot="b1")
    stage.give("a2", -30, T + 1, kind="adjustment", lot="")
    assert stage.balance(T + 2).remaining == 25 + 70
    stage.restart()
    assert stage.balance(T + 2).remaining == 25 + 70


def test_a_lot_begins_and_expires_in_place_at_its_instants() -> None:
    stage = Stage(PLAN)
    stage.give("b1", 40, T, starts_us=T + HOUR_US, expires_us=T + 2 * HOUR_US)
    balance = stage.balance(T)
    assert (balance.remaining, balance.end_us) == (100, T + HOUR_US)
    assert stage.balance(T + HOUR_US - 1).remaining == 100
    balance = stage.balance(T + HOUR_US)
    assert (balance.remaining, balance.end_us) == (140, T + 2 * HOUR_US)
    assert stage.balance(T + 2 * HOUR_US - 1).remaining == 140
    balance = stage.balance(T + 2 * HOUR_US)
    assert (balance.remaining, balance.end_us) == (100, APRIL)


def test_a_recurring_lot_is_given_anew_each_day_from_its_start_to_its_end() -> None:
    stage = Stage(Plan("p", (allowance("coins", 0),)))
    first = us("2026-03-10T12:00")
    stage.give("r", 5, T, kind="recurring", every="day", starts_us=first, expires_us=T + 3 * DAY_US)
    assert stage.balance(first - 1).remaining == 0
    eleventh = us("2026-03-11")
    assert stage.spend(first, 3) == (("coins", 3, MARCH, f"r@{T}"),)
    assert stage.balance(first).remaining == 2
    assert stage.balance(eleventh).remaining == 5  # what was left of yesterday's is gone
    assert stage.spend(eleventh, 5) == (("coins", 5, MARCH, f"r@{eleventh}"),)
    stage.restart()
    assert stage.balance(eleventh).remaining == 0
    assert stage.balance(T + 2 * DAY_US).remaining == 5
    assert stage.balance(T + 3 * DAY_US).remaining == 0


def test_a_lot_that_expires_still_pays_for_what_was_admitted_before_and_for_nothing_else() -> None:
    stage = Stage(Plan("p", (allowance("coins", 0),)))
    stage.give("b1", 10, T, expires_us=T + HOUR_US)
    first, second = stage.hold(T, ("coins", 6)), stage.hold(T, ("coins", 2))
    later = T + HOUR_US
    assert stage.balance(later).remaining == 0
    stage.refusal(later, ("coins", 1))
    stage.hot.release(second)
    stage.refusal(later, ("coins", 1))  # what is given back of it is gone
    stage.give("b2", 5, later)
    third = stage.hold(later, ("coins", 5))
    assert stage.settle(third) == (("coins", 5, MARCH, "b2"),)
    assert stage.settle(first) == (("coins", 6, MARCH, "b1"),)
    balance = stage.balance(later)
    assert (balance.over, balance.held, balance.remaining, balance.late) == (0, 0, 0, ())


def test_requests_of_the_last_period_keep_what_they_hold_of_a_bundle() -> None:
    stage = Stage(Plan("p", (allowance("coins", 5, DAY),)))
    stage.give("b1", 5, T, expires_us=T + DAY_US + HOUR_US)
    old = stage.hold(T + 1, ("coins", 10))
    today = T + DAY_US
    assert stage.balance(today).remaining == 5
    new = stage.hold(today, ("coins", 5))
    stage.refusal(today, ("coins", 1))
    assert stage.settle(new) == (("coins", 5, today),)  # although the bundle expires first
    assert sorted(stage.settle(old)) == [("coins", 5, T), ("coins", 5, T, "b1")]
    assert (old.reserved[0][0].over, new.reserved[0][0].over) == (0, 0)
    assert stage.store.sums["coins", T, "b1"] == 5


def test_a_lot_bought_while_a_plain_request_is_on_its_way_pays_for_it() -> None:
    stage = Stage(PLAN)
    hold = stage.hold(T, ("coins", 100))
    assert hold.is_plain
    stage.give("b1", 10, T + 1, expires_us=T + DAY_US)
    posted = stage.settle(hold)
    assert posted == (("coins", 10, MARCH, "b1"), ("coins", 90, MARCH))


def test_more_than_was_reserved_is_overdraft_and_said_to_be() -> None:
    stage = Stage(Plan("p", (allowance("coins", 10),)))
    hold = stage.hold(T, ("coins", 4))
    stage.settle(hold, (("coins", 13),))
    balance = stage.balance(T)
    assert (balance.used, balance.over, balance.remaining) == (13, 3, 0)
    assert stage.refusal(T, ("coins", 0)).code == "budget_exhausted"
    stage.give("b1", 5, T)  # pays for what comes after it, not for the overdraft
    assert stage.balance(T).remaining == 5
    stage.give("t1", 5, T, kind="topup", lot="")  # the period's own does
    assert (stage.balance(T).over, stage.balance(T).remaining) == (0, 7)


def test_nothing_reserved_does_not_go_on_for_ever_on_an_overdrawn_balance_with_lots() -> None:
    stage = Stage(Plan("p", (allowance("coins", 10),)))
    stage.give("b1", 1, T)
    stage.settle(stage.hold(T, ("coins", 0)), (("coins", 12),))
    stage.refusal(T, ("coins", 0))


def test_a_meter_without_an_allowance_is_counted_and_never_refused() -> None:
    stage = Stage(PLAN)
    stage.spend(T, 10**9, "other")
    assert stage.balance(T, "other").remaining is None


@pytest.mark.parametrize("amount", [0, 1])
def test_what_costs_nothing_is_not_posted(amount: int) -> None:
    stage = Stage(Plan("p", (allowance("coins", 10), allowance("steps", 10, MONTH))))
    posted = stage.settle(stage.hold(T, ("coins", amount), ("steps", 0)))
    assert posted == ((("coins", 1, MARCH),) if amount else ())
