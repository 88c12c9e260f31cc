"""Two gateways that share a Cluster, or a server that Sentinels watch, decide as one.

Recovery times are printed: `pytest -s tests/e2e/test_cluster.py`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from redis.crc import key_slot

from gateway.state.shared.groups import place_of
from tests.e2e.test_crash import assert_audit_is_clean
from tests.e2e.test_fleet import Pair
from tests.support import scripts
from tests.support.cluster import Cluster, Watched
from tests.support.cluster import cluster as shared_cluster
from tests.support.configs import Caller, Config, config, pool, route
from tests.support.gateway import Gateway, NotStarted
from tests.support.recorder import Recorder
from tests.support.tls import Certificate, Fronts
from tests.support.until import until
from tests.support.users import PASSWORD, add_user, denied

GROUPS = 16
TIGHT = 7
EVERYBODY = 25  # requests at once, of all callers together


def one_of_each_group(prefix: str, groups: int = GROUPS) -> list[Caller]:
    by_group = {place_of(who.account, groups): who for who in pool(prefix, 200)}
    return [by_group[n] for n in range(groups)]


TIGHTS = one_of_each_group("tight")
ROOMIES = one_of_each_group("roomy")
(CAREFUL,) = pool("careful", 1)
PLANS = {
    "tight": {"allowances": {"coins": {"amount": TIGHT, "per": "month"}}},
    "roomy": {"allowances": {"coins": {"amount": 1_000_000, "per": "month"}}},
    # Two allowances of one meter: more than one number decides.
    "careful": {
        "allowances": {
            "coins": [{"amount": 1_000, "per": "month"}, {"amount": TIGHT, "per": "day"}]
        }
    },
}
# The next one comes after most of an hour: no window ends while a test runs.
OF_ALL = {
    "rate": f"{EVERYBODY}/day",
    "per": "route",
    "algorithm": "gcra",
    "burst": EVERYBODY,
}
AT_ONCE = {"concurrent": 2, "per": "route"}
ROUTES = [
    route("GET /n/{id}", {"coins": 1}),
    route("GET /everybody/{id}", {"coins": 1}, limits={"of-all": OF_ALL}),
    route("GET /hang/{id}", {"coins": 1}, limits={"at-once": AT_ONCE}),
]


class Shard(Pair):
    """Two gateways on a state that has a URL. With "deny" only what it decides is let through."""

    def __init__(self, home: Path, server: Any, recorder: Recorder, when_away: str) -> None:
        self.recorder = recorder
        self.when_away = when_away
        super().__init__(home, server, recorder)

    def _config(self, recorder: Recorder, prefix: str) -> Config:
        state = {"url": self.valkey.url, "prefix": f"t-{prefix}", "when_away": self.when_away}
        return config(
            recorder.port,
            routes=ROUTES,
            callers={"tight": TIGHTS, "roomy": ROOMIES, "careful": [CAREFUL]},
            plans=PLANS,
            store={"url": self.url},
            state=state,
        )

    def paths(self) -> Counter[str]:
        """Of all events in the store, once every journal is there."""
        for gateway in self.gateways:
            until(lambda g=gateway: is_shipped(g), what="shipping", deadline_s=60)  # type: ignore[misc]
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT path FROM events").fetchall()
        return Counter(str(row[0]) for row in rows)

    def assert_well(self, load: Load) -> None:
        """Every acknowledged answer is one event, nobody is over a limit, nothing is held."""
        stored = self.paths()
        assert {p: n for p, n in stored.items() if n > 1} == {}
        assert load.acknowledged <= set(stored)
        for who in TIGHTS:
            count = sum(path.startswith(f"/n/{who.account}-") for path in stored)
            assert count == TIGHT, (who, count)
        for gateway, who in itertools.product(self.gateways, (*TIGHTS, *ROOMIES)):
            mine = sum(path.startswith(f"/n/{who.account}-") for path in stored)
            until(
                lambda g=gateway, w=who: g.usage(w)["used"],  # type: ignore[misc]
                lambda used, mine=mine: used == mine,  # type: ignore[misc]
                what=f"{mine} of {who.account}",
                deadline_s=30,
            )
            assert not gateway.usage(who).get("in_flight")
        for gateway in self.gateways:
            assert_audit_is_clean(gateway)


def is_shipped(gateway: Gateway) -> bool:
    lines = gateway.admin("/metrics").body.decode().splitlines()
    return "tallygate_journal_unshipped_records 0.0" in lines


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
                path = f"/n/{who.account}-{thread}-{n}"
                status = self._shard.gateways[n % 2].get(path, who).status
                self.statuses[status] += 1
                if status == 200:
                    self._note(path, who)
                elif status == 429:
                    self.spent.add(who.account)

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


@contextmanager
def started(home: Path, server: Any, when_away: str = "deny") -> Iterator[Shard]:
    recorder = Recorder()
    recorder.scripts |= {f"/hang/{n}": scripts.Gate() for n in (1, 2)}
    made = Shard(home, server, recorder, when_away)
    try:
        for gateway in made.gateways:
            gateway.start()
        yield made
        for gateway in made.gateways:
            gateway.stop()
    finally:
        for gateway in made.gateways:
            gateway.kill()
        recorder.stop()


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with started(tmp_path, shared_cluster()) as made:
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


def test_accounts_of_all_groups_get_exactly_what_they_have(shard: Shard) -> None:
    calls = [(who, n) for n in range(12) for who in TIGHTS]
    got: Counter[tuple[str, int]] = Counter()

    def call(n: int) -> int:
        who, number = calls[n]
        status = shard.gateways[n % 2].get(f"/n/{who.account}-{number}", who).status
        got[(who.account, status)] += 1
        return status

    assert shard._race(call, len(calls)) == {200: GROUPS * TIGHT, 429: GROUPS * (12 - TIGHT)}
    assert {got[(who.account, 200)] for who in TIGHTS} == {TIGHT}


def test_a_limit_of_a_route_is_exact_over_all_groups(shard: Shard) -> None:
    spent = TIGHTS[3]
    assert shard.race(spent, TIGHT) == {200: TIGHT}
    # What the account refuses is given back to the route's limit, in another group.
    refused = [shard.gateways[n % 2].get(f"/everybody/no-{n}", spent).json() for n in range(30)]
    assert {answer["code"] for answer in refused} == {"budget_exhausted"}

    def call(n: int) -> int:
        who = ROOMIES[n % GROUPS]
        return shard.gateways[n % 2].get(f"/everybody/{n}", who).status

    assert shard._race(call, 100) == {200: EVERYBODY, 429: 100 - EVERYBODY}
    answer = shard.gateways[0].get("/everybody/more", ROOMIES[5])
    assert (answer.status, answer.json()["code"]) == (429, "rate_limited")


def test_requests_in_flight_are_counted_over_all_groups_and_let_go(shard: Shard) -> None:
    one, two = shard.gateways
    asking = [
        threading.Thread(target=gateway.get, args=(f"/hang/{n}", ROOMIES[n]), daemon=True)
        for n, gateway in ((1, one), (2, two))
    ]
    for thread in asking:
        thread.start()
    gates: list[Any] = [shard.recorder.scripts[f"/hang/{n}"] for n in (1, 2)]
    for gate in gates:
        assert gate.reached.wait(20)
    assert [g.get("/hang/3", ROOMIES[3]).status for g in (one, two, one)] == [429] * 3
    for gate in gates:
        gate.open()
    for thread in asking:
        thread.join(20)
    until(
        lambda: one.get("/hang/4", ROOMIES[4]).status,
        lambda status: status == 200,
        what="the end of both",
    )


def test_another_number_of_groups_is_refused_while_others_run(shard: Shard, tmp_path: Path) -> None:
    one, two = shard.gateways
    assert shard.race(TIGHTS[0], 5) == {200: 5}
    two.stop()
    two.config["state"]["groups"] = 5
    with pytest.raises(NotStarted, match=r"state\.groups: expected 16, .* found 5"):
        two.start()
    one.stop()
    two.start()
    assert shard.race_at(two, TIGHTS[0], 5) == {200: 2, 429: 3}
    one.config["state"]["groups"] = 5
    one.start()
    assert shard.race_at(one, TIGHTS[0], 5) == {429: 5}


def test_while_a_node_is_away_accounts_of_others_are_decided_as_before(tmp_path: Path) -> None:
    cluster = Cluster().start()
    lost = cluster.nodes[0]
    there, away = [], []
    for n, who in enumerate(TIGHTS):
        node = cluster.node_of(key_slot(f"{{{n}}}".encode()))
        (away if node is lost else there).append(who)
    try:
        with started(tmp_path, cluster, "allow") as shard:
            lost.kill()
            for who in there[:4]:
                assert shard.race(who, 12) == {200: TIGHT, 429: 12 - TIGHT}
            # Decided by what each gateway knows: nobody hears of it.
            assert shard.race(away[0], 4) == {200: 4}
            audit = shard.gateways[0].cli("audit")
            assert (audit.code, "the shared state does not answer" in audit.err) == (1, True)
            lost.start()
            for gateway in shard.gateways:  # what the other has decided is known, too
                until(
                    lambda g=gateway: g.usage(away[0])["used"],  # type: ignore[misc]
                    lambda used: used == 4,
                    what="the node",
                    deadline_s=60,
                )
            assert shard.race(away[0], 12) == {200: TIGHT - 4, 429: 12 - (TIGHT - 4)}
            stored = shard.paths()
            for gateway in shard.gateways:
                until(
                    lambda g=gateway: g.usage(away[0])["used"],  # type: ignore[misc]
                    lambda used: used == TIGHT,
                    what="all of them",
                )
                assert_audit_is_clean(gateway)
            mine = [n for path, n in stored.items() if path.startswith(f"/n/{away[0].account}-")]
            assert sum(mine) == TIGHT
    finally:
        cluster.stop()


def test_with_tls_and_the_manuals_user(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    fronts = Fronts(certificate)
    cluster = Cluster(announced=True).start()
    try:
        for node in cluster.nodes:
            fronts.add(node.port, node.announced)
            add_user(node, prefix=f"t-{tmp_path.name}")
        where = ",".join(f"127.0.0.1:{node.announced}" for node in cluster.nodes)
        user = f"tallygate:{quote(PASSWORD, safe='')}"
        url = f"rediss+cluster://{user}@{where}?ssl_ca_certs={certificate.file}"
        with started(tmp_path, SimpleNamespace(url=url)) as shard:
            assert shard.race(TIGHTS[0], 20) == {200: TIGHT, 429: 20 - TIGHT}
            assert shard.race(CAREFUL, 20) == {200: TIGHT, 429: 20 - TIGHT}
            assert shard.gateways[0].get("/everybody/1", ROOMIES[0]).status == 200
            for node in cluster.nodes:
                cluster.ask(node, "FLUSHALL")
            assert shard.race(TIGHTS[1], 20) == {200: TIGHT, 429: 20 - TIGHT}
            assert shard.race(TIGHTS[0], 5) == {429: 5}
        assert [what for node in cluster.nodes for what in denied(node)] == []
    finally:
        cluster.stop()
        fronts.stop()


def under_load(shard: Shard, name: str, trouble: Callable[[], object]) -> Load:
    """The load, ended some time after the trouble; says how long nobody was served."""
    load = Load(shard).start()
    load.wait_for_all(0.0)
    trouble()
    load.wait_for_all(time.monotonic())
    until(lambda: len(load.spent), lambda n: n == GROUPS, what="the end", deadline_s=120)
    load.end()
    print(f"\n{name}: {load.statuses}, no answer for {max(load.gaps_s.values()):.1f} s at most")
    return load


def test_a_slot_that_moves_under_load(shard: Shard) -> None:
    cluster: Cluster = shard.valkey  # type: ignore[assignment]
    slots = [key_slot(f"{{{n}}}".encode()) for n in (0, 1, 5)]

    def move() -> None:
        for slot in slots:
            source = cluster.node_of(slot)
            target = cluster.nodes[(cluster.nodes.index(source) + 1) % 3]
            cluster.move(slot, source, target)

    def move_back() -> None:
        for slot in slots:
            source = cluster.node_of(slot)
            target = cluster.nodes[(cluster.nodes.index(source) + 1) % 3]
            cluster.move(slot, target, source)

    try:
        load = under_load(shard, "slots that move", move)
    finally:
        move_back()
    assert set(load.statuses) <= {200, 429}, "nobody hears of it"
    shard.assert_well(load)


def test_a_node_that_is_lost_under_load_and_its_replica(replicated: Shard) -> None:
    cluster: Cluster = replicated.valkey  # type: ignore[assignment]
    load = under_load(replicated, "a node that is lost", cluster.fail_over)
    assert set(load.statuses) <= {200, 429, 503}
    replicated.assert_well(load)


def test_a_replica_that_takes_over_by_order(replicated: Shard) -> None:
    cluster: Cluster = replicated.valkey  # type: ignore[assignment]
    assert cluster.replica is not None

    def take_over() -> None:
        cluster.ask(cluster.replica, "CLUSTER", "FAILOVER")  # type: ignore[arg-type]
        cluster.wait(lambda: cluster.ask(cluster.replica, "ROLE")[0] == b"master", "it")  # type: ignore[arg-type]

    load = under_load(replicated, "a replica by order", take_over)
    assert set(load.statuses) <= {200, 429, 503}
    replicated.assert_well(load)


def test_a_server_that_is_lost_and_that_sentinels_replace(watched: Shard) -> None:
    server: Watched = watched.valkey  # type: ignore[assignment]
    load = under_load(watched, "a server under Sentinels", server.fail_over)
    assert set(load.statuses) <= {200, 429, 503}
    watched.assert_well(load)
