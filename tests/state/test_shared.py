"""What one process must know of what another one did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.book import Plan
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from tests.state.fleet import Fleet, Process
from tests.state.stage import DAY, DOLLAR, WEEK, allowance, priced, us

MARCH = us("2026-03-31")
WEEKLY = Plan("w", (allowance("coins", 10, WEEK, on_exhausted="overage", overage=priced(1)),))
CAPPED = Plan("c", (allowance("coins", 10), allowance("coins", 5, DAY)))
CENT = DOLLAR // 100


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    made = Fleet(request.param, cap_micro=5 * CENT, from_us=MARCH, anchor_us=us("2026-03-02"))
    yield made
    made.close()


def admitted(fleet: Fleet, process: Process, at_us: int, coins: int) -> Hold | Refusal:
    fleet.pinned = process
    return fleet.admit(at_us, ("coins", coins))


def document(fleet: Fleet) -> dict[str, str]:
    found = fleet.run(fleet.processes[0].redis.command("HGETALL", f"{fleet.tag}a:acme"))
    return {name.decode(): value.decode() for name, value in found.items()}


def run_out(fleet: Fleet) -> None:
    """The leases of all holds, of which no process knows any more."""
    for process in fleet.processes:
        process.state.shared(fleet.bind(process)).own.clear()
    fleet.run(fleet._run_out())


@pytest.mark.parametrize("fleet", [WEEKLY], indirect=True)
def test_a_refusal_is_of_what_is_held_now(fleet: Fleet) -> None:
    one, other = fleet.processes
    hold = admitted(fleet, one, MARCH, 14)
    assert isinstance(hold, Hold)
    assert isinstance(admitted(fleet, other, MARCH, 3), Refusal)
    fleet.settle(hold, (("coins", 1),))
    assert isinstance(admitted(fleet, other, MARCH, 3), Hold)


@pytest.mark.parametrize("fleet", [CAPPED], indirect=True)
def test_what_was_posted_without_an_event_is_given_back_for_good(fleet: Fleet) -> None:
    one, other = fleet.processes
    hold = admitted(fleet, one, MARCH, 3)
    assert isinstance(hold, Hold)
    fleet.run(one.state.settlement_together(hold, (("coins", 3),), ()))
    used = [name for name in document(fleet) if name.startswith("u|")]
    assert [document(fleet)[name] for name in used] == ["3", "3"]
    run_out(fleet)  # before the event was written
    for _ in range(2):
        fleet.refresh(other)
        assert [document(fleet)[name] for name in used] == ["0", "0"]
