"""Open holds: seen while a request is in flight, gone with it, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.office import Office
from tests.support import scripts
from tests.support.raw import RawConnection, connected, head
from tests.support.stores import is_shared
from tests.support.until import until


@pytest.fixture
def gate(desk: Office) -> Iterator[scripts.Gate]:
    """The backend's answer to /slow is held back until the gate opens."""
    held = scripts.Gate()
    desk.stage.recorder.scripts["/slow"] = held
    yield held
    held.open()
    del desk.stage.recorder.scripts["/slow"]


def holds(desk: Office, account: str, count: int) -> list[dict[str, Any]]:
    return until(
        lambda: list(desk.admin.get("/holds", account=account)["items"]),
        lambda found: len(found) == count,
        what=f"{count} holds of {account}",
    )


def begin(connection: RawConnection, bearer: str) -> None:
    connection.send(head("GET", "/slow", bearer, "X-Request-Id: mine-1"))


def test_a_request_in_flight_shows_what_it_holds(desk: Office, gate: scripts.Gate) -> None:
    who = desk.caller()
    with connected(desk.stage.port) as connection:
        begin(connection, who.bearer)
        (hold,) = holds(desk, who.account, 1)
        assert (hold["account"], hold["user"], hold["project"]) == (who.account, "ada", "web")
        assert (hold["route"], hold["operation"], hold["amounts"]) == ("slow", "Slow", {"coins": 2})
        assert hold["request_id"] == "mine-1"
        assert hold["owner"]
        assert hold["since"] < hold["expires"]
        figures = desk.coins(who.account)
        assert (figures["used"], figures["in_flight"], figures["remaining"]) == (0, 2, 3)
        gate.open()
        assert connection.answer().status == 200
    assert holds(desk, who.account, 0) == []
    assert desk.event(who.account)["id"] == hold["id"]
    assert desk.coins(who.account)["in_flight"] == 0


def test_a_hold_whose_client_has_gone_is_not_forgotten(desk: Office, gate: scripts.Gate) -> None:
    who = desk.caller()
    with connected(desk.stage.port) as connection:
        begin(connection, who.bearer)
        holds(desk, who.account, 1)
    figures = desk.coins(who.account)
    shown = desk.admin.get("/holds", account=who.account)["items"]
    assert sum(hold["amounts"]["coins"] for hold in shown) == figures["in_flight"]
    gate.open()
    assert holds(desk, who.account, 0) == []
    assert desk.coins(who.account)["in_flight"] == 0


def test_what_is_held_cannot_be_taken_back(desk: Office, gate: scripts.Gate) -> None:
    who = desk.caller()
    body = {"account": who.account, "meter": "coins", "reason": "test"}
    with connected(desk.stage.port) as connection:
        begin(connection, who.bearer)
        holds(desk, who.account, 1)
        assert desk.admin.ask("POST", "/adjustments", {**body, "amount": -4}).status == 400
        assert desk.admin.ask("POST", "/adjustments", {**body, "amount": -3}).status == 201
        gate.open()
        assert connection.answer().status == 200
    figures = desk.coins(who.account)
    assert (figures["used"], figures["remaining"], figures["overage"]) == (2, 0, 0)


def test_pages_name_every_hold_once(desk: Office, gate: scripts.Gate) -> None:
    callers = [desk.caller() for _ in range(3)]
    connections = [RawConnection(desk.stage.port) for _ in callers]
    for connection, who in zip(connections, callers, strict=True):
        begin(connection, who.bearer)
    for who in callers:
        holds(desk, who.account, 1)
    first = desk.admin.get("/holds", limit="2")
    assert first["scope"] == ("gateway" if is_shared() else "all")
    second = desk.admin.get("/holds", limit="2", cursor=first["next"])
    found = [hold["account"] for hold in (*first["items"], *second["items"])]
    assert sorted(found) == sorted(who.account for who in callers)
    gate.open()
    for connection in connections:
        assert connection.answer().status == 200
        connection.close()
