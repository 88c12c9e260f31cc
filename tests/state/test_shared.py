"""What one process must know of what another one did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.core.book import Plan
from gateway.core.ledger import Balance
from gateway.core.refusals import Refusal
from gateway.core.waiting import NotLoaded
from gateway.state.base import Hold, Posting
from gateway.state.shared.link import StateUnavailable
from tests.state.fleet import Fleet, Process
from tests.state.stage import DAY, DOLLAR, WEEK, S, allowance, priced, us

MARCH, APRIL = us("2026-03-31"), us("2026-04-02")  # of one week
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
    found = fleet.run(fleet.processes[0].server.command("HGETALL", fleet.key))
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


@pytest.mark.parametrize("fleet", [WEEKLY], indirect=True)
@pytest.mark.parametrize("is_after_a_crash", [False, True])
def test_what_ends_late_was_used_before_the_month_that_another_has_begun(
    fleet: Fleet, is_after_a_crash: bool
) -> None:
    """Also where nobody knows any more when it came: then the store is asked."""
    one, other = fleet.processes
    late = admitted(fleet, one, MARCH, 0)
    assert isinstance(late, Hold)
    begun = admitted(fleet, other, APRIL, 0)
    assert isinstance(begun, Hold)
    fleet.settle(begun, (("coins", 11),))
    fleet.pinned = other
    assert fleet.hot.spending(fleet.state, APRIL).spent == 1 * CENT
    marks = [name for name in document(fleet) if name.startswith("m|")]
    assert len(marks) == 1
    fleet.run(_forgotten(fleet))
    if is_after_a_crash:
        posting = ("coins", 3, late.reserved[0][0].span.start_us)
        fleet.store.post([posting], MARCH)
        fleet.run(_post_again(one, posting))
        fleet.hot.drain(one)
        assert marks[0] not in document(fleet)
    else:
        fleet.settle(late, (("coins", 3),))
        assert document(fleet)[marks[0]] == "3"
    for process in fleet.processes:
        fleet.pinned = process
        assert fleet.hot.spending(fleet.state, APRIL).spent == 4 * CENT
    assert document(fleet)[marks[0]] == "3"


async def _post_again(process: Process, posting: Posting) -> None:
    process.state.post_again("acme", "lost", 7, [posting])


async def _forgotten(fleet: Fleet) -> None:
    """The document without its open holds."""
    command, key = fleet.processes[0].server.command, fleet.key
    names = [name for name in await command("HKEYS", key) if name.startswith(b"o|")]
    await command("HDEL", key, *names)


TWO = Plan("t", (*WEEKLY.allowances, allowance("tokens", 10, WEEK)))


@pytest.mark.parametrize("fleet", [TWO], indirect=True)
def test_a_month_that_begins_is_noted_for_the_others_with_the_first_request(fleet: Fleet) -> None:
    fleet.pinned = fleet.processes[0]
    fleet.change(MARCH, cap_micro=None)  # else all meters are looked at by the first
    fleet.hold(APRIL, ("tokens", 1))
    fleet.hold(APRIL, ("coins", 1))
    assert [name for name in document(fleet) if name.startswith("m|coins|")]


def asked(fleet: Fleet, process: Process) -> Balance:
    """As the APIs ask: again, while there is something to wait for."""

    async def ask() -> Balance:
        state = fleet.bind(process)
        while True:
            try:
                return process.state.balance(state, "coins", MARCH)
            except NotLoaded as missing:
                await asyncio.wrap_future(missing.future)

    return fleet.run(ask())


@pytest.mark.parametrize("fleet", [WEEKLY], indirect=True)
def test_who_asks_hears_that_a_document_cannot_be_begun(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = fleet.processes

    async def away(account_id: str) -> list[str | int]:
        raise StateUnavailable("the store cannot be read: it is away")

    with monkeypatch.context() as patched:
        patched.setattr(one, "standing", away)
        for _ in range(2):
            with pytest.raises(StateUnavailable, match="it is away"):
                asked(fleet, one)
    assert asked(fleet, one).used == 0


@pytest.mark.parametrize("fleet", [WEEKLY], indirect=True)
def test_nobody_is_hurt_by_who_does_not_wait_any_more(fleet: Fleet) -> None:
    one, _ = fleet.processes
    failed: list[object] = []
    fleet.loop.set_exception_handler(lambda _, context: failed.append(context))

    async def leave() -> None:
        with pytest.raises(NotLoaded) as missing:
            one.state.balance(fleet.bind(one), "coins", MARCH)
        assert missing.value.future.cancel()

    fleet.run(leave())
    assert asked(fleet, one).used == 0
    assert failed == []


@pytest.mark.parametrize("lease_s", [15, 60])
def test_what_a_gateway_holds_lasts_as_long_as_its_lease(lease_s: int) -> None:
    for plan in (Plan("p", (allowance("coins", 5),)), CAPPED):  # by the script, and on a copy
        fleet = Fleet(plan, from_us=MARCH, lease_us=lease_s * S)
        one, other = fleet.processes
        assert isinstance(admitted(fleet, one, MARCH, 4), Hold)
        one.state.shared(fleet.bind(one)).own.clear()
        fleet.now_us = MARCH + (lease_s - 1) * S
        assert isinstance(admitted(fleet, other, fleet.now_us, 4), Refusal)
        fleet.now_us = MARCH + (lease_s + 1) * S
        assert isinstance(admitted(fleet, other, fleet.now_us, 4), Hold)
        fleet.close()
