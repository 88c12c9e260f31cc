"""Failover and slots that move, under load: no limit is passed, no event lost or twice there.

How long nobody was served is printed: `pytest -s tests/e2e/test_failover.py`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from tests.e2e.test_cluster import GROUPS, ROOMIES, TIGHT, TIGHTS, Shard, started
from tests.e2e.test_crash import assert_audit_is_clean
from tests.support.cluster import Cluster, Watched, cluster
from tests.support.configs import Caller
from tests.support.until import until

REST_S = 30  # longer than the lease of what nobody gives back


class Load:
    """Callers that call both gateways in turn until they are told to end."""

    def __init__(self, shard: Shard) -> None:
        self.acknowledged: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.spent: set[str] = set()  # accounts that were told that they have no more
        self.served_s: dict[str, float] = {}  # when an account had its last answer
        self.gaps_s: dict[str, float] = {}  # the longest time that it had none
        self._is_over = False
        self._shard = shard
        self._threads = [
            threading.Thread(target=self._call, args=(n,), daemon=True) for n in range(8)
        ]

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def end(self) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _call(self, thread: int) -> None:
        for n in itertools.count():
            tight = TIGHTS[(thread + 5 * n) % GROUPS]
            for who in [*ROOMIES[thread::8], tight]:
                if self._is_over:
                    return
                self._ask(f"/n/{who.account}-{thread}-{n}", who, n % 2)

    def _ask(self, path: str, who: Caller, gateway: int) -> None:
        status = self._shard.gateways[gateway].get(path, who).status
        self.statuses[status] += 1
        if status == 200:
            self._note(path, who)
        elif status == 429:
            self.spent.add(who.account)

    def spend(self) -> None:
        """The rest: what a request has that is lost on its way comes back when that is known."""
        for who in TIGHTS:
            for n in itertools.count():
                if self._paid(who) == TIGHT or n == REST_S:
                    break
                self._ask(f"/n/{who.account}-rest-{n}", who, n % 2)
                time.sleep(0 if n == 0 else 1)
            self._ask(f"/n/{who.account}-more", who, 0)

    def _paid(self, who: Caller) -> int:
        return sum(path.startswith(f"/n/{who.account}-") for path in self.acknowledged)

    def _note(self, path: str, who: Caller) -> None:
        self.acknowledged.add(path)
        now_s = time.monotonic()
        gap_s = now_s - self.served_s.get(who.account, now_s)
        self.gaps_s[who.account] = max(gap_s, self.gaps_s.get(who.account, 0.0))
        self.served_s[who.account] = now_s

    def wait_for_all(self, since_s: float) -> None:
        """Until every roomy account has had an answer since."""
        until(
            lambda: min(self.served_s.get(who.account, 0.0) for who in ROOMIES),
            lambda served_s: served_s > since_s,
            what="answers for accounts of all groups",
            deadline_s=60,
        )


def assert_well(shard: Shard, load: Load) -> None:
    """Every acknowledged answer is one event, nobody is over a limit, nothing is held."""
    stored = shard.paths()
    assert {p: n for p, n in stored.items() if n > 1} == {}
    assert load.acknowledged <= set(stored)
    for who in TIGHTS:
        count = sum(path.startswith(f"/n/{who.account}-") for path in stored)
        assert count == TIGHT, (who, count)
    for gateway, who in itertools.product(shard.gateways, (*TIGHTS, *ROOMIES)):
        mine = sum(path.startswith(f"/n/{who.account}-") for path in stored)
        until(
            lambda g=gateway, w=who: g.usage(w)["used"],  # type: ignore[misc]
            lambda used, mine=mine: used == mine,  # type: ignore[misc]
            what=f"{mine} of {who.account}",
            deadline_s=30,
        )
        assert not gateway.usage(who).get("in_flight")
    for gateway in shard.gateways:
        assert_audit_is_clean(gateway)


@pytest.fixture
def spread(tmp_path: Path) -> Iterator[Shard]:
    with started(tmp_path, cluster()) as made:
        yield made


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Shard]:
    made = Cluster(has_replica=True)
    try:
        with started(tmp_path, made.start()) as shard:
            yield shard
    finally:
        made.stop()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Shard]:
    made = Watched()
    try:
        with started(tmp_path, made.start()) as shard:
            yield shard
    finally:
        made.stop()


def under_load(shard: Shard, name: str, trouble: Callable[[], object]) -> Load:
    """The load, ended some time after the trouble; says how long nobody was served."""
    load = Load(shard).start()
    load.wait_for_all(0.0)
    trouble()
    load.wait_for_all(time.monotonic())
    until(lambda: len(load.spent), lambda n: n == GROUPS, what="the end", deadline_s=120)
    load.end()
    load.spend()
    print(f"\n{name}: {load.statuses}, no answer for {max(load.gaps_s.values()):.1f} s at most")
    return load


def test_a_slot_that_moves_under_load(spread: Shard) -> None:
    nodes = cluster()
    slots = [key_slot(f"{{{n}}}".encode()) for n in (0, 1, 5)]

    def move() -> None:
        for slot in slots:
            source = nodes.node_of(slot)
            target = nodes.nodes[(nodes.nodes.index(source) + 1) % 3]
            nodes.move(slot, source, target)

    def move_back() -> None:
        for slot in slots:
            source = nodes.node_of(slot)
            target = nodes.nodes[(nodes.nodes.index(source) + 1) % 3]
            nodes.move(slot, target, source)

    try:
        load = under_load(spread, "slots that move", move)
    finally:
        move_back()
    assert set(load.statuses) <= {200, 429}, "nobody hears of it"
    assert_well(spread, load)


def test_a_node_that_is_lost_under_load_and_its_replica(replicated: Shard) -> None:
    nodes: Cluster = replicated.valkey  # type: ignore[assignment]
    load = under_load(replicated, "a node that is lost", nodes.fail_over)
    assert set(load.statuses) <= {200, 429, 503}
    assert_well(replicated, load)


def test_a_replica_that_takes_over_by_order(replicated: Shard) -> None:
    nodes: Cluster = replicated.valkey  # type: ignore[assignment]
    assert nodes.replica is not None

    def take_over() -> None:
        nodes.ask(nodes.replica, "CLUSTER", "FAILOVER")  # type: ignore[arg-type]
        nodes.wait(lambda: nodes.ask(nodes.replica, "ROLE")[0] == b"master", "it")  # type: ignore[arg-type]

    load = under_load(replicated, "a replica by order", take_over)
    assert set(load.statuses) <= {200, 429, 503}
    assert_well(replicated, load)


def test_a_server_that_is_lost_and_that_sentinels_replace(watched: Shard) -> None:
    server: Watched = watched.valkey  # type: ignore[assignment]
    load = under_load(watched, "a server under Sentinels", server.fail_over)
    assert set(load.statuses) <= {200, 429, 503}
    assert_well(watched, load)
