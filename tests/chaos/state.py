"""Where the shared state of a scene is: one server, one with Sentinels, or a Cluster.

To one server each gateway has a door of its own; the others tell gateways their addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.config.compile import CLUSTER_GROUPS
from gateway.state.shared.groups import place_of, tags
from tests.chaos.loop import LoopThread
from tests.chaos.proxy import Door
from tests.support.cluster import Cluster, Watched, client
from tests.support.valkey import Valkey


class State(Protocol):
    """What a scene asks of it."""

    @property
    def groups(self) -> int:
        """Of accounts, each with a hash tag of its own."""
        ...

    @property
    def servers(self) -> Sequence[Valkey]: ...

    def way(self) -> tuple[str, list[Door]]:
        """The URL for one more gateway, and the doors on its way there."""
        ...

    def close(self) -> None: ...


class OneServer:
    """For all scenes of a run that need no more."""

    groups = 1

    def __init__(self, thread: LoopThread) -> None:
        self.valkey = Valkey().start()
        self._thread = thread
        self._doors: list[Door] = []  # of all scenes

    @property
    def servers(self) -> Sequence[Valkey]:
        return [self.valkey]

    def way(self) -> tuple[str, list[Door]]:
        """To the server of the moment."""
        door = Door(self._thread, self.valkey.port)
        self._doors.append(door)
        return f"redis://127.0.0.1:{door.port}/0", [door]

    def fail_over(self, replica: Valkey) -> None:
        """The master dies, and its address leads to the replica, which is promoted."""
        self.valkey.stop()
        self.valkey = replica
        replica.command("REPLICAOF NO ONE")
        for door in self._doors:
            door.lead_to(replica.port)
            door.cut()

    def close(self) -> None:
        """It is there for the next scene."""

    def stop(self) -> None:
        self.valkey.stop()


class Sentinels:
    """A server that has a replica, which a Sentinel promotes when the server is lost."""

    groups = 1

    def __init__(self) -> None:
        self.watched = Watched().start()

    @property
    def servers(self) -> Sequence[Valkey]:
        return self.watched.servers

    def way(self) -> tuple[str, list[Door]]:
        return self.watched.url, []

    def close(self) -> None:
        self.watched.stop()


class Nodes:
    """A Cluster of three; the first one has a replica."""

    groups = CLUSTER_GROUPS

    def __init__(self) -> None:
        self.cluster = Cluster(has_replica=True).start()

    @property
    def servers(self) -> Sequence[Valkey]:
        return self.cluster.servers

    def way(self) -> tuple[str, list[Door]]:
        return self.cluster.url, []

    def move(self, slots: Sequence[int], *, back: bool = False) -> None:
        """Each to the node after the one that has it, or from there back."""
        nodes = self.cluster.nodes
        for slot in slots:
            home = self.cluster.node_of(slot)
            guest = nodes[(nodes.index(home) + 1) % len(nodes)]
            source, target = (guest, home) if back else (home, guest)
            self.cluster.move(slot, source, target)

    def close(self) -> None:
        self.cluster.stop()


def tag_of(account: str, prefix: str, groups: int) -> str:
    """What begins all keys of the account."""
    return tags(prefix, groups)[place_of(account, groups)]


def slot_of(account: str, groups: int) -> int:
    return int(key_slot(tag_of(account, "", groups).encode()))


def read_document(state: State, key: str) -> dict[bytes, bytes]:
    """As the server has it that decides now; nothing while it is just coming, or going."""
    for server in state.servers:
        try:
            found = _of_master(server, key)
        except RedisError:  # it is away, or another one has the slot
            continue
        if found:
            return found
    return {}


def _of_master(server: Valkey, key: str) -> dict[bytes, bytes]:
    with client(server) as connection:
        asked: Any = connection
        if asked.role()[0] != b"master":
            return {}
        found: dict[bytes, bytes] = asked.hgetall(key)
        return found
