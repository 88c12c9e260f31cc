"""A reload at one gateway reaches all that share its state, each from its own file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.configs import Config, caller, config, route
from tests.support.gateway import Gateway, running
from tests.support.recorder import Recorder
from tests.support.stores import postgres_url
from tests.support.until import until
from tests.support.valkey import Valkey

WHO = caller("acct")
PLANS = {"roomy": {"allowances": {"coins": {"amount": 1_000_000, "per": "month"}}}}
HEARD_S = 5.0  # half a second, where nothing else runs
QUIET_S = 2.0  # six times as long as it takes to hear
START_S = 60.0  # of several interpreters


class Pair:
    """Two gateways, each with a file of its own."""

    def __init__(self, home: Path, valkey: Valkey, recorder: Recorder, workers: int) -> None:
        store = {"url": postgres_url(home)}
        state = {"url": valkey.url, "prefix": f"t-{home.name}"}
        built = [
            _config(recorder, store=store, state=state),
            _config(recorder, store=store, state=state, workers=workers),
        ]
        self.gateways = []
        for name, one in zip(("one", "two"), built, strict=True):
            directory = home / name
            directory.mkdir()
            self.gateways.append(Gateway(one, directory))

    def write(self, coins: int) -> None:
        for gateway in self.gateways:
            write(gateway, coins)


def _config(recorder: Recorder, **more: Any) -> Config:
    routes = [route("GET /n/{id}", {"coins": 1}, name="priced")]
    return config(recorder.port, routes=routes, callers={"roomy": [WHO]}, plans=PLANS, **more)


def write(gateway: Gateway, coins: int) -> None:
    """Another price in its file; nobody is told."""
    priced = next(r for r in gateway.config["routes"] if r["name"] == "priced")
    priced["price"] = {"coins": coins}
    gateway._write_config()


def hang_up(gateway: Gateway) -> None:
    os.kill(gateway.pid, signal.SIGHUP)


def price(gateway: Gateway) -> int:
    """What a request costs there."""
    left = [_remaining(gateway), _remaining(gateway)]
    return left[0] - left[1]


def _remaining(gateway: Gateway) -> int:
    answer = gateway.get("/n/1", WHO)
    assert answer.status == 200, answer
    name, _, amount = (answer.get("X-Budget-Remaining") or "").partition("=")
    assert name == "coins"
    return int(amount)


def wait_price(gateway: Gateway, coins: int) -> float:
    """How long it took."""
    began_s = time.monotonic()
    until(lambda: price(gateway), lambda p: p == coins, what="the price", deadline_s=HEARD_S)
    return time.monotonic() - began_s


def facts(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    """Lines of the log, by what they tell of."""
    lines = (json.loads(line) for line in gateway.log.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]


def rows(gateway: Gateway) -> list[dict[str, Any]]:
    """Reloads in the audit log, newest first."""
    done = gateway.cli("audit-log", "--action", "configuration.reloaded", "--json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


@pytest.fixture
def pair(tmp_path: Path, valkey: Valkey, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """The second one has as many workers as the test says, or is one process."""
    recorder = Recorder()
    made = Pair(tmp_path, valkey, recorder, getattr(request, "param", 1))
    try:
        with running(made.gateways):
            if made.gateways[1].config["workers"] > 1:
                until(
                    lambda: facts(made.gateways[1], "serving"),
                    what="all workers",
                    deadline_s=START_S,
                )
            yield made
    finally:
        recorder.stop()


def test_what_one_reloads_the_other_reads_from_its_own_file(pair: Pair) -> None:
    one, two = pair.gateways
    assert (price(one), price(two)) == (1, 1)
    pair.write(5)
    hang_up(one)
    wait_price(one, 5)
    wait_price(two, 5)
    # Their ports and folders are their own, and no difference.
    assert facts(two, "configuration_differs") == []
    [row] = rows(two)
    [reloaded] = facts(one, "reloaded")
    [started] = facts(one, "started")
    assert row["actor"] == "SIGHUP"
    assert row["subject"] == row["after"] == reloaded["version"]
    assert row["before"] == started["version"]


def test_each_may_be_the_one_and_nobody_reloads_because_of_itself(pair: Pair) -> None:
    took_s = []
    for number, (told, other) in enumerate([pair.gateways, pair.gateways[::-1]], 1):
        pair.write(10 * number)
        hang_up(told)
        took_s.append(wait_price(other, 10 * number))
        wait_price(told, 10 * number)
    time.sleep(QUIET_S)
    assert [len(facts(gateway, "reloaded")) for gateway in pair.gateways] == [2, 2]
    assert len(rows(pair.gateways[0])) == 2
    assert min(took_s) < 1.0  # the better of both: others use this machine, too


def test_a_reload_of_the_same_file_is_nobody_elses_matter(pair: Pair) -> None:
    one, two = pair.gateways
    hang_up(one)
    until(lambda: facts(one, "reloaded"), what="the reload")
    time.sleep(QUIET_S)
    assert facts(two, "reloaded") == []
    assert rows(one) == []


def test_a_wrong_file_is_refused_and_the_old_price_stays(pair: Pair) -> None:
    one, two = pair.gateways
    pair.write(5)
    right = two.file.read_text()
    two.file.write_text(right.replace('"routes": [', '"routes": [{"name": "wrong"}, '))
    hang_up(one)
    [refused] = until(lambda: facts(two, "reload_refused"), what="the refusal")
    assert "expected the key 'match'" in str(refused["problems"])
    assert (price(one), price(two)) == (5, 1)
    # Mended, it is taken as ever, and the other one has nothing to do.
    two.file.write_text(right)
    hang_up(two)
    wait_price(two, 5)
    time.sleep(QUIET_S)
    assert len(facts(one, "reloaded")) == 1
    assert len(facts(two, "reload_refused")) == 1


def test_files_that_differ_are_said_and_each_goes_on_with_its_own(pair: Pair) -> None:
    one, two = pair.gateways
    write(one, 5)
    write(two, 7)
    hang_up(one)
    wait_price(two, 7)
    assert price(one) == 5
    time.sleep(QUIET_S)
    [reloaded], [own] = facts(one, "reloaded"), facts(two, "reloaded")
    [differs] = facts(two, "configuration_differs")
    assert (differs["expected"], differs["found"]) == (reloaded["version"], own["version"])
    assert facts(one, "configuration_differs") == []
    assert len(rows(one)) == 1


def test_what_was_reloaded_while_one_was_away_it_has_when_it_is_back(pair: Pair) -> None:
    one, two = pair.gateways
    os.kill(two.pid, signal.SIGSTOP)
    pair.write(5)
    hang_up(one)
    wait_price(one, 5)
    os.kill(two.pid, signal.SIGCONT)
    wait_price(two, 5)


@pytest.mark.parametrize("pair", [1, 2], indirect=True)
def test_one_that_starts_with_other_rules_keeps_them_and_says_once_that_it_differs(
    pair: Pair,
) -> None:
    one, two = pair.gateways
    two.stop()
    write(one, 5)
    hang_up(one)
    [reloaded] = until(lambda: facts(one, "reloaded"), what="the reload")
    write(two, 4)
    two.start()
    [differs] = until(lambda: facts(two, "configuration_differs"), what="the difference")
    found = {fact["version"] for fact in facts(two, "started")}
    assert differs["level"] == "warning"
    assert differs["expected"] == reloaded["version"]
    assert differs["found"] in found
    assert price(two) == 4
    time.sleep(QUIET_S)
    assert len(facts(two, "configuration_differs")) == 1
    assert facts(two, "reloaded") == []


def test_one_that_starts_with_what_was_reloaded_does_not_differ(pair: Pair) -> None:
    one, two = pair.gateways
    two.stop()
    pair.write(5)
    hang_up(one)
    wait_price(one, 5)
    two.start()
    assert price(two) == 5
    time.sleep(QUIET_S)
    assert facts(two, "configuration_differs") == []


@pytest.mark.parametrize("pair", [2], indirect=True)
def test_all_workers_of_a_supervisor_hear_it_and_are_heard(pair: Pair) -> None:
    one, many = pair.gateways
    for number, (told, other) in enumerate([(one, many), (many, one)], 1):
        pair.write(10 * number)
        hang_up(told)
        wait_price(other, 10 * number)
        wait_price(told, 10 * number)
        until(
            lambda: len(facts(many, "reloaded")),
            lambda n, so_far=3 * number: n == so_far,  # type: ignore[misc]
            what="both workers and the supervisor",
        )
    time.sleep(QUIET_S)
    # The supervisor says so once each time, and each of its workers.
    by = [fact.get("worker", "supervisor") for fact in facts(many, "reloaded")]
    assert sorted(map(str, by)) == ["1", "1", "2", "2", "supervisor", "supervisor"]
    assert len(facts(one, "reloaded")) == 2
    assert len(rows(one)) == 2


@pytest.mark.parametrize("pair", [2], indirect=True)
def test_a_worker_that_is_started_again_has_what_its_supervisor_has(pair: Pair) -> None:
    one, many = pair.gateways
    write(one, 5)
    write(many, 7)
    hang_up(one)
    until(lambda: facts(many, "configuration_differs"), what="the difference")
    write(many, 9)  # and nobody is told
    pids = {fact["worker"]: fact["pid"] for fact in facts(many, "worker_started")}
    os.kill(pids[2], signal.SIGKILL)
    until(
        lambda: len(facts(many, "worker_serves")),
        lambda n: n == 3,
        what="its start",
        deadline_s=START_S,
    )
    time.sleep(QUIET_S)
    assert {price(many) for _ in range(20)} == {7}
    assert len(facts(many, "reloaded")) == 3
    assert len(facts(many, "configuration_differs")) == 1
