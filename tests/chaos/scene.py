"""What a scenario is played on: gateways that share a Valkey and a PostgreSQL server.

Between each gateway and each server is a door of its own, so one of them can be cut off.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.cast import Cast, parts
from tests.chaos.load import Backend, Load, Stream
from tests.chaos.loop import LoopThread
from tests.chaos.proxy import Door
from tests.support.configs import Caller, Config, config, route
from tests.support.gateway import Gateway
from tests.support.postgres import Server
from tests.support.until import until
from tests.support.valkey import Valkey

LOST_TIMES = 3


class Servers:
    """The servers behind, for all scenes of a run; each scene has a schema and keys of its own."""

    def __init__(self, home: Path) -> None:
        self.thread = LoopThread()
        self.backend = Backend(self.thread)
        self.valkey = Valkey().start()
        self.store = Server(home)
        self._state_doors: list[Door] = []  # of all scenes
        self._numbers = itertools.count(1)

    def schema(self) -> str:
        name = f"chaos_{next(self._numbers)}"
        self.store.do(f"CREATE SCHEMA {name}")
        return name

    def state_door(self) -> Door:
        """To the Valkey of the moment."""
        self._state_doors.append(Door(self.thread, self.valkey.port))
        return self._state_doors[-1]

    def fail_over(self, replica: Valkey) -> None:
        """The master dies, and its address leads to the replica, which is promoted."""
        self.valkey.stop()
        self.valkey = replica
        replica.command("REPLICAOF NO ONE")
        for door in self._state_doors:
            door.lead_to(replica.port)
            door.cut()

    def close(self) -> None:
        self.backend.stop()
        self.valkey.stop()
        self.store.close()
        self.thread.stop()


class Scene:
    """Two gateways, not yet started. `more` are parts of their configuration.

    `casts`: how many rounds are played; `scale`: see tests/chaos/cast.py.
    """

    def __init__(
        self,
        servers: Servers,
        home: Path,
        *,
        casts: int,
        scale: int = 1,
        state: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.servers = servers
        self.thread = servers.thread
        self.store = servers.store
        self.schema = servers.schema()
        self.tag = f"{self.schema}{{0}}"  # begins all keys of the shared state
        # Patient, so that a machine that has other things to do is not taken for a trouble.
        self._state = {"timeout": "1s", **(state or {})}
        self._more = more
        self._parts = parts(scale)
        self._all = [Cast(number, self._parts) for number in range(casts)]
        self._casts = iter(self._all)
        self.state_doors: list[Door] = []
        self.store_doors: list[Door] = []
        self.gateways = [self._gateway(home / name) for name in ("one", "two")]

    def _gateway(self, directory: Path) -> Gateway:
        directory.mkdir(parents=True)
        self.state_doors.append(self.servers.state_door())
        self.store_doors.append(Door(self.thread, self.store.socket))
        return Gateway(self._config(), directory, module="tests.chaos.stepped")

    def _config(self) -> Config:
        state = f"redis://127.0.0.1:{self.state_doors[-1].port}/0"
        store = (
            f"postgresql://postgres@127.0.0.1:{self.store_doors[-1].port}/postgres?connect_timeout=2"
            f"&sslmode=disable&gssencmode=disable&options=-c%20search_path%3D{self.schema}"
        )
        return config(
            self.servers.backend.port,
            routes=[route("GET /n/{id}", {"coins": 1})],
            callers={n: [cast.callers[n] for cast in self._all] for n in self._parts},
            plans={name: part.plan for name, part in self._parts.items()},
            store={"url": store},
            state={"url": state, "prefix": self.schema, **self._state},
            **self._more,
        )

    @property
    def valkey(self) -> Valkey:
        return self.servers.valkey

    def start(self) -> Scene:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Gateway.start, self.gateways))
        return self

    def cast(self) -> Cast:
        return next(self._casts)

    def load(self, cast: Cast, name: str, *, connections: int, pace_s: float) -> Load:
        streams = [
            Stream(number, who, part.expected)
            for number in range(len(self.gateways))
            for _, who, part in cast.items()
        ]
        return Load(
            self.thread,
            self.gateways,
            streams,
            name=f"{self.schema}-{name}",
            connections=connections,
            pace_s=pace_s,
        )

    def lose(self, doors: list[Door], call: bytes, between: int) -> None:
        """The replies to some calls at each of the doors, with so many answers between two.

        What is sent again is to be answered: twice in a row would be a server that is away.
        """
        for door in doors * LOST_TIMES:
            after = door.answered + between
            until(lambda d=door, n=after: d.answered > n, what="answers", deadline_s=60)  # type: ignore[misc]
            lost = door.swallowed
            door.swallow(call)
            until(lambda d=door, n=lost: d.swallowed > n, what="a lost reply", deadline_s=60)  # type: ignore[misc]

    def heal(self) -> None:
        for door in self.doors():
            door.heal()

    def doors(self) -> list[Door]:
        return [*self.state_doors, *self.store_doors]

    def wait_shared(self, who: Caller) -> None:
        """Until every gateway posts what it charges the account to the shared state."""
        count = len(self.gateways)

        def all_there(found: dict[bytes, int]) -> bool:
            return len(found) == count

        def all_further(found: dict[bytes, int]) -> bool:
            return all_there(found) and all([found[name] > first[name] for name in first])

        what = "posts of all gateways"
        first = until(lambda: self._posted(who), all_there, what=what, deadline_s=60)
        until(lambda: self._posted(who), all_further, what=what, deadline_s=60)

    def document(self, who: Caller) -> dict[bytes, bytes]:
        """The account's, as the server has it."""
        server: Any = Redis(port=self.valkey.port, socket_timeout=5)
        try:
            found: dict[bytes, bytes] = server.hgetall(f"{self.tag}a:{who.account}")
            return found
        except RedisError:  # it is just coming, or going
            return {}
        finally:
            server.close()

    def _posted(self, who: Caller) -> dict[bytes, int]:
        """By journal: its last record that is in the account's document."""
        document = self.document(who)
        return {name: int(value) for name, value in document.items() if name[:2] == b"p|"}

    def wait_shipped(self) -> None:
        """Until nobody is served and everything that was is in the store."""
        wanted = {"tallygate_connections 0.0", "tallygate_journal_unshipped_records 0.0"}
        for gateway in self.gateways:

            def missing(gateway: Gateway = gateway) -> set[str]:
                return wanted - set(gateway.admin("/metrics").body.decode().splitlines())

            until(missing, lambda left: not left, what=f"rest of {gateway}", deadline_s=60)

    def stop(self) -> None:
        """A clean end of all, as SIGTERM brings it about."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(Gateway.stop, self.gateways))

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.kill()
        for door in self.doors():
            door.close()
