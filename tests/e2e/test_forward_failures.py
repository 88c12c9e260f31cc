"""Backends and clients that fail: what the caller gets, what is charged, what the event says."""

from __future__ import annotations

import pytest

from tests.support import scripts
from tests.support.bulk import BLOCK
from tests.support.configs import Caller
from tests.support.raw import connected, head
from tests.support.recorder import Recorder, Wire
from tests.support.scripts import OK
from tests.support.stage import Stage

PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "request_id"}


def assert_not_charged(e2e: Stage, who: Caller, outcome: str, status: int) -> None:
    """No coin spent, no hold left, one event that tells why."""
    assert e2e.used(who) == 0
    event = e2e.gateway.wait_event(account=who.account)
    assert (event.outcome, event.status, event.charges) == (outcome, status, {})


def test_backend_down_is_502(e2e: Stage, who: Caller) -> None:
    answer = e2e.ask(head("GET", "/x", who.bearer, host="dead.test"))
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert answer.json().keys() >= PROBLEM_FIELDS
    assert_not_charged(e2e, who, "upstream_unreachable", 502)
    said = [line for line in e2e.gateway.log.splitlines() if "upstream_unreachable" in line]
    assert "127.0.0.1:" in said[0] and "Connect" in said[0]


def test_backend_down_with_a_body_is_502(e2e: Stage, who: Caller) -> None:
    data = head("POST", "/x", who.bearer, "Content-Length: 5", host="dead.test") + b"hello"
    assert e2e.ask(data, "POST").code == "upstream_unreachable"
    assert_not_charged(e2e, who, "upstream_unreachable", 502)


@pytest.mark.parametrize("host", ["slow.test", "brief.test"])
def test_backend_that_says_nothing_is_504(
    e2e: Stage, who: Caller, impatient: Recorder, host: str
) -> None:
    path = f"/silent/{who.account}"
    gate = scripts.Gate()
    impatient.scripts[path] = gate
    answer = e2e.ask(head("GET", path, who.bearer, host=host))
    gate.open()
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert_not_charged(e2e, who, "upstream_timeout", 504)


def test_backend_that_falls_silent_inside_the_body_breaks_the_answer(
    e2e: Stage, who: Caller, impatient: Recorder
) -> None:
    path = f"/stall/{who.account}"
    gate = scripts.Gate(before=OK + b"Content-Length: 100\r\n\r\npart")
    impatient.scripts[path] = gate
    with connected(e2e.port) as connection:
        connection.send(head("GET", path, who.bearer, host="slow.test"))
        assert connection.is_closed(10)
        answer = connection.answer()
    gate.open()
    assert (answer.status, answer.body, answer.complete) == (200, b"part", False)
    assert_not_charged(e2e, who, "upstream_timeout", 200)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 100\r\n\r\npart",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    ],
)
def test_backend_that_breaks_inside_the_body_breaks_the_answer(
    e2e: Stage, who: Caller, framing: bytes
) -> None:
    path = f"/broken/{who.account}"
    e2e.recorder.scripts[path] = scripts.resets_after(OK + framing)
    with connected(e2e.port) as connection:
        connection.send(head("GET", path, who.bearer))
        assert connection.is_closed(10)
        answer = connection.answer()
    assert answer.status == 502 if answer.is_refusal else not answer.complete
    assert e2e.used(who) == 0
    assert e2e.gateway.wait_event(account=who.account).outcome == "upstream_error"


def test_client_gone_while_the_backend_works(e2e: Stage, who: Caller) -> None:
    """The backend had the whole request: it is charged, and no hold stays."""
    path = f"/gone/{who.account}"
    gate = scripts.Gate()
    e2e.recorder.scripts[path] = gate
    with connected(e2e.port) as connection:
        connection.send(head("GET", path, who.bearer))
        assert gate.reached.wait(10)
        assert e2e.gateway.usage(who)["in_flight"] == 1
        connection.abort()
    event = e2e.gateway.wait_event(account=who.account)
    gate.open()
    assert (event.outcome, event.charges) == ("client_gone", {"coins": 1})
    assert e2e.used(who) == 1


def test_client_gone_inside_the_answer(e2e: Stage, who: Caller) -> None:
    path = f"/gone-inside/{who.account}"
    gate = scripts.Gate(before=OK + b"Content-Length: 1000\r\n\r\npart")
    e2e.recorder.scripts[path] = gate
    with connected(e2e.port) as connection:
        connection.send(head("GET", path, who.bearer))
        connection.receive(lambda got: b"part" in got)
        connection.abort()
    event = e2e.gateway.wait_event(account=who.account)
    gate.open()
    assert (event.outcome, event.status, event.charges) == ("client_gone", 200, {"coins": 1})
    assert e2e.used(who) == 1


def test_client_gone_inside_a_large_answer(e2e: Stage, who: Caller) -> None:
    with connected(e2e.port) as connection:
        connection.send(head("GET", "/down/50000000", who.bearer, host="bulk.test"))
        connection.receive(lambda got: len(got) > 1_000_000)
        connection.abort()
    assert e2e.gateway.wait_event(account=who.account).outcome == "client_gone"
    assert e2e.used(who) == 1


def test_client_gone_inside_its_body(e2e: Stage, who: Caller) -> None:
    """The backend never had the whole request: nothing is charged."""
    with connected(e2e.port) as connection:
        connection.send(head("POST", "/half", who.bearer, "Content-Length: 1000000") + BLOCK)
        connection.abort()
    event = e2e.gateway.wait_event(account=who.account)
    assert event.charges == {}
    assert e2e.used(who) == 0
    assert [r for r in e2e.recorded(who) if r.complete] == []


def test_early_answer_while_the_body_is_still_sent(e2e: Stage, who: Caller) -> None:
    path = f"/early/{who.account}"

    def refuse(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 413 Too Large\r\nX-Recorder: yes\r\nContent-Length: 3\r\n\r\nbig")
        wire.close()

    e2e.recorder.on_head[path] = refuse
    with connected(e2e.port) as connection:
        connection.send(head("POST", path, who.bearer, "Content-Length: 300000") + BLOCK[:1000])
        answer = connection.answer("POST")
    assert (answer.status, answer.body) == (413, b"big")
    assert not e2e.gateway.settled_usage(who).get("in_flight")


def test_many_failures_leave_no_hold_and_no_connection(e2e: Stage, who: Caller) -> None:
    for _ in range(20):
        e2e.ask(head("GET", "/x", who.bearer, host="dead.test"))
        with connected(e2e.port) as connection:
            connection.send(head("POST", "/half", who.bearer, "Content-Length: 10") + b"abc")
            connection.abort()
    figures = e2e.gateway.settled_usage(who)
    assert (figures["used"], figures["in_flight"]) == (0, 0)
