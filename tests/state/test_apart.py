"""Limits that other groups count than the account's: exact, and given back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.book import Plan
from gateway.core.limits import Algorithm, RateLimit, Subject
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from gateway.state.shared.groups import place_of
from gateway.state.shared.link import StateUnavailable
from gateway.state.shared.places import is_of_account
from tests.state.fleet import ACCOUNT, ClusterFleet
from tests.state.stage import S, allowance
from tests.support.asking import Asking

ALGORITHMS: tuple[Algorithm, ...] = ("fixed_window", "gcra", "concurrency")
T = 1_800_000_000 * S
HOUR = 3600 * S
HOME = place_of(ACCOUNT, ClusterFleet.groups)


def limit_in(group: int, algorithm: Algorithm, quota: int) -> RateLimit:
    """Of all callers, in a group of one's choice."""
    name = next(n for n in itertools.count() if place_of(f"all/{n}:", ClusterFleet.groups) == group)
    period_us = 0 if algorithm == "concurrency" else HOUR
    return RateLimit("l", "all", algorithm, quota, period_us, quota, f"all/{name}")


def others() -> list[int]:
    return [n for n in range(ClusterFleet.groups) if n != HOME]


@pytest.fixture
def fleet() -> Iterator[ClusterFleet]:
    made = ClusterFleet(Plan("p", (allowance("coins", 2),)), from_us=T)
    yield made
    made.close()


def ask(fleet: ClusterFleet, coins: int, *limits: RateLimit) -> Hold | Refusal:
    charges = (("coins", coins),) if coins else ()
    answer: Hold | Refusal = fleet.hot.admit(
        Asking(fleet.bind(fleet.next()), T, charges, limits=limits)
    )
    for process in fleet.processes:
        fleet.hot.drain(process)
    return answer


def codes(fleet: ClusterFleet, count: int, coins: int, *limits: RateLimit) -> list[str]:
    found = [ask(fleet, coins, *limits) for _ in range(count)]
    return [answer.code if isinstance(answer, Refusal) else "" for answer in found]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("group", [HOME, *others()[:2]])
def test_what_the_account_refuses_is_given_back(
    fleet: ClusterFleet, algorithm: Algorithm, group: int
) -> None:
    limit = limit_in(group, algorithm, 3)
    assert codes(fleet, 7, 1, limit) == ["", "", *["budget_exhausted"] * 5]
    refused = "concurrency_limited" if algorithm == "concurrency" else "rate_limited"
    assert codes(fleet, 3, 0, limit) == ["", refused, refused]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_one_group_refuses_the_others_give_back(
    fleet: ClusterFleet, algorithm: Algorithm
) -> None:
    first, second = others()[:2]
    wide, narrow = limit_in(first, algorithm, 3), limit_in(second, algorithm, 1)
    own = limit_in(HOME, algorithm, 3)
    assert [not code for code in codes(fleet, 6, 0, wide, own, narrow)] == [True, *[False] * 5]
    assert [not code for code in codes(fleet, 4, 0, wide, own)] == [True, True, False, False]


def test_the_answer_tells_all_limits_in_their_order(fleet: ClusterFleet) -> None:
    limits = [limit_in(group, "fixed_window", 5) for group in (others()[0], HOME, others()[1])]
    answer = ask(fleet, 1, *limits)
    assert isinstance(answer, Hold)
    assert [(c.limit.id, c.left(T)[0]) for c in answer.counters] == [(x.id, 4) for x in limits]
    refused = ask(fleet, 5, *limits)
    assert isinstance(refused, Refusal)
    rows = {row.name: row for row in refused.limits}
    assert (rows["coins"].refused, rows["l"].refused, rows["l"].used) == (True, False, 1)


def test_what_is_in_flight_is_let_go_at_its_end(fleet: ClusterFleet) -> None:
    limit = limit_in(others()[0], "concurrency", 1)
    hold = ask(fleet, 1, limit)
    assert isinstance(hold, Hold)
    assert codes(fleet, 2, 0, limit) == ["concurrency_limited"] * 2
    fleet.hot.settle(hold, fleet.hot.settlement(hold, (("coins", 1),), ()))
    for process in fleet.processes:
        fleet.hot.drain(process)
    second = ask(fleet, 0, limit)  # the first one goes the careful way, this one does not
    assert isinstance(second, Hold)
    fleet.hot.settle(second, fleet.hot.settlement(second, (), ()))
    for process in fleet.processes:
        fleet.hot.drain(process)
    assert codes(fleet, 2, 0, limit) == ["", "concurrency_limited"]


def test_where_a_limits_server_is_away_the_account_still_decides_exactly(
    fleet: ClusterFleet,
) -> None:
    away = others()[0]
    limit = limit_in(away, "fixed_window", 3)
    for process in fleet.processes:
        process.groups[away].link.failure = "it is away"
    assert codes(fleet, 4, 1, limit) == ["", "", "budget_exhausted", "budget_exhausted"]
    for process in fleet.processes:
        process.state.allows = False
    with pytest.raises(StateUnavailable, match="it is away"):
        ask(fleet, 0, limit)


@pytest.mark.parametrize(
    ("subject", "key_id", "is_own"),
    [
        ("account", "", True),
        ("user", "", True),
        ("project", "", True),
        ("key", "k", True),
        ("key", "", False),
        ("source", "k", False),
        ("route", "k", False),
        ("all", "k", False),
    ],
)
def test_whose_limit_it_is(subject: Subject, key_id: str, is_own: bool) -> None:
    asking: Any = Asking(None, T, (), key_id=key_id)  # type: ignore[arg-type]
    limit = RateLimit("l", subject, "fixed_window", 1, HOUR, 1)
    assert is_of_account(limit, asking) is is_own
