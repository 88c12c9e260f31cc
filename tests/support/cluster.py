"""A Valkey Cluster and a server with Sentinels of the tests' own, by commands alone."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.support.valkey import Valkey, free_port

SLOTS = 16384
NODE_TIMEOUT_MS = 1500
FORM_S = 30.0
_NODE = (
    "--cluster-enabled yes --cluster-config-file nodes.conf --cluster-require-full-coverage no"
    " --cluster-replica-validity-factor 0 --cluster-allow-replica-migration no"
    f" --cluster-node-timeout {NODE_TIMEOUT_MS} --repl-diskless-sync-delay 0"
)
_FOLLOWED = ("--repl-diskless-sync-delay", "0")


def client(server: Valkey) -> Redis:
    """To one server, as it is: nothing is tried again for seconds where nobody listens."""
    return Redis(host="127.0.0.1", port=server.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def wait_for(is_so: Callable[[], object], what: str, wait_s: float = FORM_S) -> None:
    give_up = time.monotonic() + wait_s
    while time.monotonic() < give_up:
        try:
            if is_so():
                return
        except RedisError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not within {wait_s} s: {what}")


class Cluster:
    """So many nodes, each with as many slots; the first may have a replica."""

    def __init__(
        self, nodes: int = 3, *, has_replica: bool = False, announced: bool = False
    ) -> None:
        """`announced`: clients are told of other ports, where something else listens."""
        self.servers = []
        self._buses = []
        for _ in range(nodes + has_replica):
            server = Valkey(*_NODE.split())
            self._buses.append(free_port())
            server.options += ("--cluster-port", str(self._buses[-1]))
            if announced:
                server.announced = free_port()
                server.options += ("--cluster-announce-port", str(server.announced))
            self.servers.append(server)
        self.nodes = self.servers[:nodes]
        self.replica = self.servers[nodes] if has_replica else None

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def start(self) -> Cluster:
        for server in self.servers:
            server.start()
        count = len(self.nodes)
        for n, node in enumerate(self.nodes):
            first, last = SLOTS * n // count, SLOTS * (n + 1) // count - 1
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        self.wait(lambda: all(self._knows_all(server) for server in self.servers), "all nodes")
        if self.replica is not None:
            self.ask(self.replica, "CLUSTER", "REPLICATE", self.id_of(self.nodes[0]))
            self.wait(lambda: b"slave" in self._role(self.replica), "the replica")
            self.wait(self._is_replica_there, "the replica's copy")
        self.wait(lambda: all(self._is_ok(server) for server in self.servers), "the Cluster")
        return self

    def ask(self, server: Valkey, *words: Any) -> Any:
        with client(server) as connection:
            return connection.execute_command(*words)

    def wait(self, is_so: Callable[[], object], what: str) -> None:
        wait_for(is_so, what)

    def _knows_all(self, server: Valkey) -> bool:
        return len(self.ask(server, "CLUSTER NODES")) == len(self.servers)

    def _is_ok(self, server: Valkey) -> bool:
        return bool(self.ask(server, "CLUSTER INFO")["cluster_state"] == "ok")

    def _role(self, server: Valkey | None) -> bytes:
        assert server is not None
        return bytes(self.ask(server, "ROLE")[0]) if server.process is not None else b""

    def _is_replica_there(self) -> bool:
        return bool(self.ask(self.nodes[0], "ROLE")[2])

    def id_of(self, server: Valkey) -> str:
        return str(self.ask(server, "CLUSTER", "MYID").decode())

    def node_of(self, slot: int) -> Valkey:
        """That has a slot, by the even shares they began with."""
        return self.nodes[slot * len(self.nodes) // SLOTS]

    def move(self, slot: int, source: Valkey, target: Valkey, pause_s: float = 0.3) -> None:
        """A slot and its keys, as the manual says; between some keys and others a pause."""
        target_id, source_id = self.id_of(target), self.id_of(source)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 3):
            address = ("127.0.0.1", target.port, "", 0, 5000)
            self.ask(source, "MIGRATE", *address, "REPLACE", "KEYS", *keys)
            time.sleep(pause_s)
            pause_s = 0.0
        for node in (target, source, *self.nodes):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)

    def fail_over(self) -> None:
        """Kill the first node; done when its replica has its slots."""
        self.nodes[0].kill()
        self.wait_promoted()

    def wait_promoted(self) -> None:
        self.wait(lambda: b"master" in self._role(self.replica), "the promotion")

    def restore(self) -> None:
        """After a failover: the node that was killed is the replica of the one in its place."""
        assert self.replica is not None
        self.nodes[0], self.replica = self.replica, self.nodes[0]
        self.replica.start()
        self.wait(lambda: b"slave" in self._role(self.replica), "the replica")
        self.wait(self._is_replica_there, "the replica's copy")
        self.wait(lambda: all(self._is_ok(server) for server in self.servers), "the Cluster")

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


class Watched:
    """A server, its replica and a Sentinel that watches them as `main`."""

    def __init__(self) -> None:
        self.primary = Valkey(*_FOLLOWED)
        self.replica = Valkey(*_FOLLOWED)
        self.sentinel = Valkey()

    @property
    def servers(self) -> list[Valkey]:
        return [self.primary, self.replica]

    @property
    def url(self) -> str:
        """The first Sentinel is not there: the next is asked."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/main/0"

    def start(self) -> Watched:
        self.primary.start()
        self._start_replica()
        file = self.sentinel.home / "sentinel.conf"
        file.write_text(
            f"port {self.sentinel.port}\nbind 127.0.0.1\ndir {self.sentinel.home}\n"
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
        )
        self.sentinel.start_with(str(file), "--sentinel")
        wait_for(self._is_known, "the Sentinel to know the replica")
        return self

    def _start_replica(self) -> None:
        self.replica.options = (*_FOLLOWED, "--replicaof", f"127.0.0.1 {self.primary.port}")
        self.replica.start()

    def _is_known(self) -> bool:
        """As one that may be promoted."""
        with client(self.sentinel) as connection:
            found = connection.sentinel_slaves("main")
        return [(x["port"], x["flags"], x["master-link-status"]) for x in found] == [
            (self.replica.port, "slave", "ok")
        ]

    def fail_over(self) -> None:
        """Kill the server; done when the Sentinel has promoted its replica."""
        self.primary.kill()
        self.wait_promoted()

    def wait_promoted(self) -> None:
        with client(self.replica) as connection:
            wait_for(lambda: connection.role()[0] == b"master", "the promotion")

    def restore(self) -> None:
        """After a failover: the server that was killed is the replica of the one in its place."""
        self.primary, self.replica = self.replica, self.primary
        self._start_replica()
        wait_for(self._is_known, "the Sentinel to know the new replica")

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()


@cache
def cluster() -> Cluster:
    """One that ends with this process; each test has keys of its own."""
    running = Cluster()
    atexit.register(running.stop)
    return running.start()
