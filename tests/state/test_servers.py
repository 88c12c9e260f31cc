"""Servers of the shared state: which process answers, where it is, and who may ask."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from redis.crc import key_slot

from gateway.state.shared.cluster import open_servers
from gateway.state.shared.groups import Agreement, GroupsDiffer, GroupServer, Members, tags
from gateway.state.shared.link import StateUnavailable
from gateway.state.shared.servers import SCRIPT
from tests.support import valkey
from tests.support.cluster import Cluster, Watched, client, cluster
from tests.support.tls import Certificate, Fronts
from tests.support.users import PASSWORD, add_user, denied, rules
from tests.support.valkey import Valkey, free_port

_batches = itertools.count(1)
_prefixes = itertools.count()
PATIENCE_S = 20.0


def new_prefix() -> str:
    return f"servers{next(_prefixes)}"


@asynccontextmanager
async def opened(url: str, *names: str, timeout_s: float = 2.0) -> AsyncIterator[list[GroupServer]]:
    servers = open_servers(url, timeout_s, names)
    try:
        yield servers
    finally:
        for one in servers:
            await one.close()


async def look(server: GroupServer, tag: str) -> Any:
    """Run a batch of an epoch that is not there: [-1, ""]."""
    steps = orjson.dumps([["look", f"{tag}a:nobody"]])
    keys = (f"{tag}epoch", f"{tag}reply:w", f"{tag}posted:w", f"{tag}a:nobody")
    return await server.run(keys, ("none", next(_batches), steps, 0))


NOTHING = [-1, b""]


async def sooner_or_later(call: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer; while there is none it is asked again."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + PATIENCE_S
    while True:
        try:
            return await call()
        except StateUnavailable:
            if loop.time() > give_up_s:
                raise
            await asyncio.sleep(0.05)


@pytest.fixture
def alone() -> Iterator[Valkey]:
    running = Valkey().start()
    yield running
    running.stop()


async def test_who_runs_hears_once_of_another_process_whoever_found_out(alone: Valkey) -> None:
    async with opened(alone.url, "{0}") as (server,):
        assert await look(server, "{0}") == NOTHING
        before = await server.process()
        alone.kill()
        alone.start()
        assert await sooner_or_later(lambda: server.command("DBSIZE")) == 0
        with pytest.raises(StateUnavailable, match="another server process"):
            await look(server, "{0}")
        assert await look(server, "{0}") == NOTHING
        assert await server.process() != before


async def test_a_process_that_was_a_replica_meanwhile_is_another(alone: Valkey) -> None:
    async with opened(alone.url, "{0}") as (server,):
        before = await server.process()
        with client(alone) as connection:
            connection.replicaof("127.0.0.1", valkey.server().port)
            connection.replicaof("NO", "ONE")
        after = await server.process()
        assert before[:16] == after[:16], "the process"
        assert before != after


async def test_a_script_that_the_server_has_forgotten_is_sent_again(alone: Valkey) -> None:
    async with opened(alone.url, "{0}") as (server,):
        assert await look(server, "{0}") == NOTHING
        with client(alone) as connection:
            connection.script_flush()
        assert await look(server, "{0}") == NOTHING


async def test_each_group_is_asked_where_its_slot_is() -> None:
    names = tags(new_prefix(), 16)
    async with opened(cluster().url, *names) as servers:
        processes = set()
        for server, tag in zip(servers, names, strict=True):
            assert await look(server, tag) == NOTHING
            processes.add(await server.process())
        assert len(processes) == 3


async def test_a_slot_on_its_way_is_waited_for_and_then_looked_for_once() -> None:
    (tag,) = tags(new_prefix(), 1)
    slot = key_slot(tag.encode())
    source = cluster().node_of(slot)
    target = next(node for node in cluster().nodes if node is not source)
    async with opened(cluster().url, tag) as (server,):
        assert await look(server, tag) == NOTHING
        cluster().ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster().id_of(target))
        asked = asyncio.ensure_future(look(server, tag))
        done, _ = await asyncio.wait([asked], timeout=0.3)
        assert not done
        await asyncio.to_thread(cluster().move, slot, source, target)
        try:
            with pytest.raises(StateUnavailable, match="MovedError"):
                await asked
            assert await look(server, tag) == NOTHING
        finally:
            await asyncio.to_thread(cluster().move, slot, target, source)
        # Somebody else's call finds out this time.
        await sooner_or_later(lambda: server.command("GET", f"{tag}epoch"))
        with pytest.raises(StateUnavailable, match="another node"):
            await look(server, tag)
        assert await look(server, tag) == NOTHING


async def test_a_cluster_of_which_no_node_is_there_says_so() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    async with opened(url, "{0}") as (server,):
        with pytest.raises(StateUnavailable, match="no node of the Cluster answers"):
            await look(server, "{0}")


async def test_gateways_agree_on_the_number_of_groups() -> None:
    name = new_prefix()
    two, three = tags(name, 2), tags(name, 3)
    async with opened(cluster().url, *three) as servers:
        await Agreement(servers[:2], two, "one").reach()
        await servers[1].command("SET", f"{two[1]}epoch", "old")
        await Agreement(servers[:2], two, "other").reach()
        other = Agreement(servers, three, "another")
        with pytest.raises(GroupsDiffer, match=r"state\.groups: expected 2, .* found 3"):
            await other.reach()
        for journal in ("one", "other"):
            await servers[0].command("HDEL", f"{two[0]}members", journal)
        assert await servers[1].command("GET", f"{two[1]}epoch") == b"old"
        await other.reach()
        assert await servers[1].command("GET", f"{two[1]}epoch") is None, "begun anew"
        with pytest.raises(GroupsDiffer, match="expected 3"):
            await Agreement(servers[:2], two, "one").reach()


async def test_who_was_there_before_the_server_was_away_is_waited_for(alone: Valkey) -> None:
    async with opened(alone.url, "{0}") as (server,):
        one, other = (Members(server, "{0}", name) for name in ("one", "other"))
        await other.beat()
        await one.beat()
        assert await one.there() == {"one", "other"}
        await asyncio.sleep(3.1)  # a beat is a second's; it is late from two of them on
        assert await one.there() == {"one", "other"}
        await one.beat()
        assert await one.there() == {"one", "other"}
        stranger = Members(server, "{0}", "stranger")
        await stranger.beat()
        assert await stranger.there() == {"one", "stranger"}


async def test_a_group_that_begins_anew_does_not_wait_for_the_first_ones_server(
    alone: Valkey,
) -> None:
    names = tags(new_prefix(), 2)
    async with opened(alone.url, names[0]) as first, opened(valkey.server().url, names[1]) as other:
        agreement = Agreement([*first, *other], names, "one")
        await agreement.reach()
        alone.kill()
        await agreement.reach(lost=names[1])
        with pytest.raises(StateUnavailable):
            await agreement.reach(lost=names[0])


async def test_a_cluster_that_is_named_as_one_server_says_what_to_name_it() -> None:
    names = tags(new_prefix(), 3)
    node = cluster().nodes[0]
    async with opened(f"redis://127.0.0.1:{node.port}", *names) as servers:
        (server, tag) = next(
            (server, tag)
            for server, tag in zip(servers, names, strict=True)
            if cluster().node_of(key_slot(tag.encode())) is not node
        )
        with pytest.raises(StateUnavailable, match=r"redis\+cluster://"):
            await look(server, tag)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def fronts(certificate: Certificate) -> Iterator[Fronts]:
    made = Fronts(certificate)
    yield made
    made.stop()


def single(fronts: Fronts) -> tuple[Any, list[Valkey], str]:
    running = Valkey().start()
    return running, [running], f"127.0.0.1:{fronts.add(running.port)}/0"


def by_sentinels(fronts: Fronts) -> tuple[Any, list[Valkey], str]:
    running = Watched().start()
    port = fronts.add(running.primary.port)
    told = fronts.add(running.sentinel.port, replaced={running.primary.port: port})
    return running, [running.primary], f"127.0.0.1:{told}/main"


def of_cluster(fronts: Fronts) -> tuple[Any, list[Valkey], str]:
    running = Cluster(announced=True).start()
    for node in running.nodes:
        fronts.add(node.port, node.announced)
    return running, running.nodes, f"127.0.0.1:{running.nodes[1].announced}"


KINDS: dict[str, Any] = {
    "rediss": single,
    "rediss+sentinel": by_sentinels,
    "rediss+cluster": of_cluster,
}


@pytest.mark.parametrize("scheme", KINDS)
async def test_tls_and_a_user_of_its_own(
    scheme: str, fronts: Fronts, certificate: Certificate, tmp_path: Path
) -> None:
    running, servers, where = KINDS[scheme](fronts)
    try:
        for one in servers:
            add_user(one)
        tag = "tallygate{0}"
        url = f"{scheme}://tallygate:{quote(PASSWORD, safe='')}@{where}"
        async with opened(f"{url}?ssl_ca_certs={certificate.file}", tag) as (server,):
            assert await look(server, tag) == NOTHING
            await server.remove(f"{tag}*")
            await server.process()
            with pytest.raises(StateUnavailable, match="NoPermission"):
                await server.command("GET", "somebody-elses")
        assert [entry for one in servers for entry in denied(one)] == ["somebody-elses"]
        stranger = Certificate(tmp_path)
        async with opened(f"{url}?ssl_ca_certs={stranger.file}", tag) as (server,):
            with pytest.raises(StateUnavailable, match=r"(?i)certificate|no Sentinel"):
                await look(server, tag)
        wrong = f"{scheme}://tallygate:wrong@{where}?ssl_ca_certs={certificate.file}"
        async with opened(wrong, tag) as (server,):
            with pytest.raises(StateUnavailable, match=r"(?i)password"):
                await look(server, tag)
    finally:
        running.stop()


@pytest.mark.parametrize("scheme", KINDS)
def test_a_connection_that_was_closed_is_no_longer_there(
    scheme: str, fronts: Fronts, certificate: Certificate
) -> None:
    """TLS says good-bye: the loop may end as soon as `close` has returned."""
    running, _, where = KINDS[scheme](fronts)

    async def use() -> None:
        async with opened(f"{scheme}://{where}?ssl_ca_certs={certificate.file}", "t{0}") as (one,):
            assert await look(one, "t{0}") == NOTHING

    try:
        gc.collect()
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always", ResourceWarning)
            asyncio.run(use())
            gc.collect()
        assert [str(one.message) for one in left] == []
    finally:
        running.stop()


def test_the_manuals_user_may_do_what_the_script_does() -> None:
    allowed = {rule[1:] for rule in rules() if rule.startswith("+")}
    used = {name.lower() for name in re.findall(r"redis\.p?call\('([A-Za-z]+)'", SCRIPT)}
    assert used
    assert used - allowed == set()


async def test_a_server_that_says_nothing_is_said_to_have_timed_out() -> None:
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}/0", "t", timeout_s=0.2) as [one]:
        with pytest.raises(StateUnavailable, match=r"^TimeoutError: no answer within 0\.2 s$"):
            await one.command("PING")
    await asyncio.wait_for(gone.wait(), PATIENCE_S)
    silent.close()
    await silent.wait_closed()
