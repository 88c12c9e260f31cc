"""Several workers of one gateway: real processes on one port, on PostgreSQL and Valkey."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.many import TIGHT_ONE, WORKERS, Scene
from tests.support import scripts
from tests.support.configs import Caller
from tests.support.gateway import Gateway, NotStarted
from tests.support.raw import connected, head
from tests.support.stores import use_kind
from tests.support.until import until
from tests.support.workers import START_S, is_alive


@pytest.fixture(scope="module", autouse=True)
def on_shared_stores() -> Iterator[None]:
    before = use_kind("fleet")
    yield
    use_kind(before)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One that the tests share that leave it as it was."""
    scene = Scene(tmp_path_factory.mktemp("workers"))
    try:
        scene.start()
        yield scene
        scene.gateway.stop()
    finally:
        scene.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """One of this test alone, not started."""
    made = Scene(tmp_path, 2)
    yield made
    made.close()


class Hanging:
    """Requests that wait for their backend, each on a connection of its own."""

    def __init__(self, scene: Scene, who: Caller, calls: int) -> None:
        self.statuses: list[int] = []
        self._gates = []
        self._threads = []
        for number in range(calls):
            path = f"/hang/{who.account}-{number}"
            gate = scene.recorder.scripts[path] = scripts.Gate()
            self._gates.append(gate)
            thread = threading.Thread(target=self._call, args=(scene.gateway, path, who))
            self._threads.append(thread)
            thread.start()
        for gate in self._gates:
            assert gate.reached.wait(10)

    def _call(self, gateway: Gateway, path: str, who: Caller) -> None:
        try:
            self.statuses.append(gateway.get(path, who).status)
        except (OSError, EOFError):
            self.statuses.append(0)

    def finish(self) -> list[int]:
        for gate in self._gates:
            gate.open()
        for thread in self._threads:
            thread.join(20)
        return self.statuses


def test_requests_reach_several_workers_and_the_operator_sees_all(shared: Scene) -> None:
    who = shared.newcomer()
    hanging = Hanging(shared, who, 24)
    done = shared.gateway.cli("holds", "--json", "--account", who.account)
    in_flight = shared.metric("tallygate_in_flight")
    assert hanging.finish() == [200] * 24
    assert done.code == 0, done.err
    owners = Counter(hold["owner"].rpartition(":")[2] for hold in _items(done.out))
    assert owners.total() == 24
    assert len(owners) > 1
    assert set(owners) <= {str(pid) for pid in shared.workers.pids().values()}
    assert in_flight == 24


def _items(out: str) -> list[dict[str, str]]:
    document = json.loads(out)
    items: list[dict[str, str]] = document["items"] if isinstance(document, dict) else document
    return items


def test_100_parallel_requests_against_7_let_exactly_7_through(shared: Scene) -> None:
    assert shared.race(TIGHT_ONE, 100) == {200: 7, 429: 93}


def test_metrics_are_the_sum_of_all_workers(shared: Scene) -> None:
    before = shared.metric("tallygate_requests_total")
    assert shared.race(shared.newcomer(), 50) == {200: 50}
    for _ in range(5):  # whichever worker answers
        assert shared.metric("tallygate_requests_total") == before + 50
    assert shared.metric("tallygate_workers") == WORKERS


def test_a_revoked_key_is_refused_by_every_worker_at_once(shared: Scene) -> None:
    account = shared.newcomer().account
    made = shared.gateway.cli("keys", "create", account, "--json")
    assert made.code == 0, made.err
    key = json.loads(made.out)
    who = Caller(account, key["key"])
    assert shared.race(who, 30) == {200: 30}
    assert shared.gateway.cli("keys", "revoke", key["id"]).code == 0
    # Who is told that it is revoked may count on it, at whichever worker.
    assert shared.race(who, 30) == {401: 30}


def test_the_audit_is_clean_while_they_run(shared: Scene) -> None:
    who = shared.newcomer()
    assert shared.race(who, 40) == {200: 40}
    done = shared.gateway.cli("audit")
    assert done.code == 0, (done.out, done.err)
    assert re.search(r" live counters of worker [1-9] of [2-9] in ", done.out), done.out
    shared.wait_used(who, 40)


def test_every_event_of_every_worker_is_followed(shared: Scene) -> None:
    who = shared.newcomer()
    command = [sys.executable, "-m", "gateway", "events", "--follow", "--json", "--account",
               who.account, "--config", str(shared.gateway.file)]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    seen: list[str] = []

    def read(lines: Iterable[str]) -> None:
        for line in lines:
            seen.append(json.loads(line)["path"])

    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as following:
        assert following.stdout is not None
        reading = threading.Thread(target=read, args=(following.stdout,))
        reading.start()
        try:
            assert shared.gateway.get("/n/first", who).status == 200
            until(lambda: seen, what="the first event", deadline_s=START_S)
            assert shared.race(who, 40) == {200: 40}
            until(lambda: len(seen), lambda n: n >= 41, what="all events")
        finally:
            following.send_signal(signal.SIGINT)
            reading.join(10)
    assert sorted(seen) == sorted(["/n/first", *(f"/n/{n}" for n in range(40))])


def test_a_reload_reaches_all_and_drops_no_request(shared: Scene) -> None:
    who, slow = shared.newcomer(), shared.newcomer()
    hanging = Hanging(shared, slow, 12)
    priced = next(r for r in shared.gateway.config["routes"] if r["name"] == "priced")
    priced["price"] = {"coins": 5}
    before = len(shared.reloaded())
    shared.gateway.reload()
    until(lambda: len(shared.reloaded()), lambda n: n == before + 1, what="the reload")
    assert shared.race(who, 30, "/priced") == {200: 30}
    assert hanging.finish() == [200] * 12
    shared.wait_used(who, 150)


def test_a_wrong_configuration_is_refused_by_all(shared: Scene) -> None:
    who = shared.newcomer()
    right = shared.gateway.file.read_text()
    wrong = right.replace('"routes": [', '"routes": [{"name": "wrong"}, ')
    shared.gateway.file.write_text(wrong)
    try:
        os.kill(shared.gateway.pid, signal.SIGHUP)
        refused = until(lambda: shared.workers.facts("reload_refused"), what="the refusal")
        assert "expected the key 'match'" in str(refused[0]["problems"])
        assert shared.race(who, 30) == {200: 30}
        # What stands in the file does not count for a worker that is started again, either.
        pid = shared.workers.pids()[2]
        os.kill(pid, signal.SIGKILL)
        shared.workers.wait_restarted(2, pid)
        assert shared.race(who, 30) == {200: 30}
        assert len(shared.workers.facts("reload_refused")) == 1
    finally:
        shared.gateway.file.write_text(right)


class Load:
    """Clients that call as fast as they can, and connect anew when they are cut off."""

    def __init__(self, gateway: Gateway, callers: list[Caller]) -> None:
        self.acknowledged: list[str] = []
        self._gateway = gateway
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(who,)) for who in callers]
        for thread in self._threads:
            thread.start()

    def _call(self, who: Caller) -> None:
        numbers = itertools.count()
        while not self._ended.is_set():
            try:
                with connected(self._gateway.port) as connection:
                    self._on(connection, who, numbers)
            except (OSError, EOFError):
                continue

    def _on(self, connection, who: Caller, numbers: Iterator[int]) -> None:  # type: ignore[no-untyped-def]
        while not self._ended.is_set():
            path = f"/n/{who.account}-{next(numbers)}"
            connection.send(head("GET", path, who.bearer))
            answer = connection.answer()
            if not answer.complete:
                return
            assert answer.status == 200, answer
            self.acknowledged.append(path)

    def wait(self, answers: int) -> None:
        wanted = len(self.acknowledged) + answers
        until(lambda: len(self.acknowledged), lambda n: n >= wanted, what="the load")

    def end(self) -> list[str]:
        self._ended.set()
        for thread in self._threads:
            thread.join(20)
        return self.acknowledged


def _kill(scene: Scene, number: int, seen: float) -> float:
    """Kill a worker; the metric that was seen last, which never goes back."""
    pid = scene.workers.pids()[number]
    before = scene.metric("tallygate_requests_total")
    os.kill(pid, signal.SIGKILL)
    for _ in range(5):
        now = scene.metric("tallygate_requests_total")
        assert now >= max(before, seen)
        seen = now
    scene.workers.wait_restarted(number, pid)
    return seen


def test_a_killed_worker_is_started_again_and_nothing_is_lost(shared: Scene) -> None:
    callers = [shared.newcomer() for _ in range(6)]
    load = Load(shared.gateway, callers)
    seen = 0.0
    try:
        for number in (1, 2):
            load.wait(150)
            seen = _kill(shared, number, seen)
            load.wait(50)
    finally:
        acknowledged = load.end()
    _check_events(shared, callers, acknowledged)
    assert shared.metric("tallygate_worker_restarts_total") >= 2
    assert shared.metric("tallygate_requests_total") >= seen


def _check_events(scene: Scene, callers: list[Caller], acknowledged: list[str]) -> None:
    """Every acknowledged request is there once, and charged as the balances say."""
    names = {who.account for who in callers}
    until(
        lambda: len(set(acknowledged) - {e.path for e in scene.gateway.events()}),
        lambda lost: lost == 0,
        what="every acknowledged request",
    )
    events = [e for e in scene.gateway.events() if e.account in names]
    assert set(Counter(e.path for e in events).values()) == {1}
    for who in callers:
        mine = sum(e.charges.get("coins", 0) for e in events if e.account == who.account)
        scene.wait_used(who, mine)
    done = scene.gateway.cli("audit")
    assert done.code == 0, (done.out, done.err)


def test_a_worker_that_hangs_is_replaced_and_nothing_is_lost(shared: Scene) -> None:
    callers = [shared.newcomer() for _ in range(4)]
    pid = shared.workers.pids()[2]
    load = Load(shared.gateway, callers)
    try:
        load.wait(100)
        os.kill(pid, signal.SIGSTOP)
        hung = until(
            lambda: shared.workers.facts("worker_hangs"), what="the sign", deadline_s=START_S
        )
        shared.workers.wait_restarted(2, pid)
        load.wait(100)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        acknowledged = load.end()
    assert [(fact["worker"], fact["pid"]) for fact in hung] == [(2, pid)]
    assert "said nothing for 20 s" in str(hung[0]["error"])
    ended = [fact["by"] for fact in shared.workers.facts("worker_ended") if fact["worker"] == 2]
    assert ended[-1] == "signal 9"
    assert shared.race(shared.newcomer(), 40) == {200: 40}
    _check_events(shared, callers, acknowledged)
    assert shared.metric("tallygate_worker_restarts_total") >= 1
    assert shared.metric("tallygate_workers") == WORKERS


def test_sigterm_lets_the_requests_in_flight_finish(scene: Scene) -> None:
    who = scene.newcomer()
    scene.start()
    hanging = Hanging(scene, who, 6)
    scene.gateway.terminate()
    until(lambda: not _accepts(scene), what="the end of new connections")
    assert hanging.finish() == [200] * 6
    assert scene.gateway.wait() == 0
    assert len(scene.workers.facts("stopped")) == 2
    scene.start()
    scene.wait_used(who, 6)
    scene.gateway.stop()


def _accepts(scene: Scene) -> bool:
    try:
        return scene.gateway.get("/n/probe").status != 503
    except (OSError, EOFError):
        return False


def test_workers_end_with_their_supervisor_and_the_next_start_waits_for_them(scene: Scene) -> None:
    who = scene.newcomer()
    scene.start()
    hanging = Hanging(scene, who, 6)
    pids = scene.workers.pids().values()
    scene.gateway.kill()
    until(lambda: not _accepts(scene), what="the end of new connections")
    assert any(map(is_alive, pids))  # they drain
    starting = threading.Thread(target=scene.start)
    starting.start()
    assert hanging.finish() == [200] * 6
    starting.join(START_S)
    assert not starting.is_alive()
    until(lambda: not any(map(is_alive, pids)), what="the end of the workers")
    scene.wait_used(who, 6)
    scene.gateway.stop()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])
def test_another_number_of_workers_ships_what_is_left(
    tmp_path: Path, before: int, after: int
) -> None:
    scene = Scene(tmp_path, before)
    who = scene.newcomer()
    try:
        scene.start()
        assert scene.race(who, 60) == {200: 60}
        scene.workers.kill_all()
        scene.gateway.config["workers"] = after
        scene.start()
        paths = Counter(e.path for e in scene.gateway.events(account=who.account))
        assert paths == {f"/n/{n}": 1 for n in range(60)}
        scene.wait_used(who, 60)
        assert scene.race(who, 10) == {200: 10}
        done = scene.gateway.cli("audit")
        assert done.code == 0, (done.out, done.err)
        scene.gateway.stop()
    finally:
        scene.close()


def test_more_and_fewer_workers_by_a_reload(scene: Scene) -> None:
    who = scene.newcomer()
    scene.start()
    assert scene.race(who, 30) == {200: 30}
    for count in (3, 1):
        scene.resize(count)
        until(
            lambda: scene.metric("tallygate_workers"),
            lambda found, n=count: found == n,  # type: ignore[misc]
            what="the workers that serve",
        )
        assert scene.race(who, 10) == {200: 10}
    assert scene.metric("tallygate_requests_total") >= 50
    scene.wait_used(who, 50)
    scene.gateway.stop()


def test_what_stops_a_worker_at_first_stops_the_start(scene: Scene) -> None:
    scene.gateway.config["store"] = {"url": "postgresql://127.0.0.1:1/none?connect_timeout=2"}
    with pytest.raises(NotStarted) as failed:
        scene.gateway.start()
    assert '"not_started"' in str(failed.value)
    assert "worker 1: StoreError" in str(failed.value)
    assert scene.gateway.wait() == 1


def test_a_port_that_another_gateway_has_is_not_shared(shared: Scene, scene: Scene) -> None:
    scene.gateway.directory.joinpath("data").mkdir()
    scene.gateway.port, scene.gateway.admin_port = shared.gateway.port, 0
    scene.gateway._write_config()
    done = scene.gateway.cli("serve")
    assert done.code == 1
    assert f"listeners.proxy 127.0.0.1:{shared.gateway.port}: address already in use" in done.err


def test_offline_commands_bring_in_what_all_workers_left(scene: Scene) -> None:
    who = scene.newcomer()
    scene.start()
    assert scene.race(who, 30) == {200: 30}
    scene.workers.kill_all()
    scene.workers.wait_ended()
    done = scene.gateway.cli("usage", who.account, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["meters"]["coins"]["used"] == 30
