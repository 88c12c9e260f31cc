"""kill -9 under load: every answer that a client has is in the store once, and the audit agrees."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support import scripts
from tests.support.configs import Caller, route
from tests.support.gateway import Gateway
from tests.support.raw import connected, head
from tests.support.stage import Stage, stage
from tests.support.stores import ALL_KINDS, each_store, use_kind
from tests.support.until import until

pytestmark = each_store

ROUNDS = 6
CLIENTS = 8
ANSWERS = 300  # in all, before the process is killed


@pytest.fixture(params=ALL_KINDS)
def store_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Also with a state that others could share."""
    before = use_kind(request.param)
    yield request.param
    use_kind(before)


@pytest.fixture
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    routes = [route("GET /n/{id}", {"coins": 1}), route("GET /hang/{id}", {"coins": 1})]
    with stage(tmp_path_factory.mktemp("crash"), routes, accounts=CLIENTS + 1) as running:
        yield running


class Load:
    """Clients that call as fast as they can until the gateway is gone."""

    def __init__(self, gateway: Gateway, callers: list[Caller], round_: int) -> None:
        self.acknowledged: list[str] = []
        self._round = round_
        self._threads = [
            threading.Thread(target=self._call, args=(gateway.port, who), daemon=True)
            for who in callers
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, answers: int) -> None:
        until(lambda: len(self.acknowledged) >= answers, what="the load")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _call(self, port: int, who: Caller) -> None:
        with connected(port) as connection:
            for number in itertools.count():
                path = f"/n/{who.account}-{self._round}-{number}"
                connection.send(head("GET", path, who.bearer))
                try:
                    answer = connection.answer()
                except (EOFError, OSError):
                    return
                if not answer.complete:
                    return
                assert answer.status == 200, answer
                self.acknowledged.append(path)


def assert_audit_is_clean(gateway: Gateway) -> None:
    done = gateway.cli("audit")
    assert done.code == 0, (done.out, done.err)


def test_no_acknowledged_answer_is_lost_or_counted_twice(crashing: Stage) -> None:
    gateway = crashing.gateway
    callers = [crashing.newcomer() for _ in range(CLIENTS)]
    acknowledged: list[str] = []
    for round_ in range(ROUNDS):
        load = Load(gateway, callers, round_)
        load.wait(ANSWERS)
        gateway.kill()
        load.join()
        acknowledged += load.acknowledged
        gateway.start()
    events = [e for e in gateway.events() if e.path.startswith("/n/")]
    counted = Counter(e.path for e in events)
    assert set(counted.values()) == {1}, [p for p, n in counted.items() if n > 1]
    lost = set(acknowledged) - set(counted)
    assert not lost, sorted(lost)[:10]
    for who in callers:
        mine = [e for e in events if e.account == who.account and e.charges]
        assert crashing.used(who) == len(mine)
    assert_audit_is_clean(gateway)


def test_request_in_flight_at_a_crash_is_not_charged(crashing: Stage) -> None:
    gateway, who = crashing.gateway, crashing.newcomer()
    gate = scripts.Gate()
    path = f"/hang/{who.account}"
    crashing.recorder.scripts[path] = gate
    with connected(gateway.port) as connection:
        connection.send(head("GET", path, who.bearer))
        assert gate.reached.wait(10)
        gateway.kill()
    gate.open()
    gateway.start()
    figures = gateway.settled_usage(who)
    assert (figures["used"], figures["in_flight"]) == (0, 0)
    assert [e for e in gateway.events(account=who.account) if e.charges] == []
    assert_audit_is_clean(gateway)


def test_sigterm_lets_the_request_in_flight_finish(crashing: Stage) -> None:
    gateway, who = crashing.gateway, crashing.newcomer()
    gate = scripts.Gate()
    path = f"/hang/{who.account}"
    crashing.recorder.scripts[path] = gate
    with connected(gateway.port) as connection:
        connection.send(head("GET", path, who.bearer))
        assert gate.reached.wait(10)
        gateway.terminate()
        until(lambda: not _accepts(gateway), what="the end of new connections")
        gate.open()
        answer = connection.answer()
        assert (answer.status, answer.complete) == (200, True)
        assert connection.is_closed()
    assert gateway.wait() == 0
    gateway.start()
    assert gateway.wait_event(account=who.account).outcome == "charged"
    assert crashing.used(who) == 1
    assert_audit_is_clean(gateway)


def _accepts(gateway: Gateway) -> bool:
    """Whether a new connection is still served."""
    try:
        with connected(gateway.port) as connection:
            connection.send(head("GET", "/n/probe", "Connection: close"))
            return connection.answer(timeout_s=2).status != 503
    except (OSError, EOFError):
        return False


def test_audit_is_clean_on_a_live_system(crashing: Stage) -> None:
    gateway, who = crashing.gateway, crashing.newcomer()
    for number in range(20):
        assert gateway.get(f"/n/{number}", who).status == 200
    assert_audit_is_clean(gateway)
