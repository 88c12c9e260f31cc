"""Two gateways that share a Cluster, or a server that Sentinels watch, decide as one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
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
from tests.support.cluster import Cluster
from tests.support.cluster import cluster as shared_cluster
from tests.support.configs import Caller, Config, config, pool, route
from tests.support.gateway import Gateway, NotStarted, running
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


def is_shipped(gateway: Gateway) -> bool:
    lines = gateway.admin("/metrics").body.decode().splitlines()
    return "tallygate_journal_unshipped_records 0.0" in lines


@contextmanager
def started(home: Path, server: Any, when_away: str = "deny") -> Iterator[Shard]:
    recorder = Recorder()
    recorder.scripts |= {f"/hang/{n}": scripts.Gate() for n in (1, 2)}
    made = Shard(home, server, recorder, when_away)
    try:
        with running(made.gateways):
            yield made
    finally:
        recorder.stop()


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with started(tmp_path, shared_cluster()) as made:
        yield made


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
            assert (audit.code, "the shared state does not answer (" in audit.err) == (1, True)
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
