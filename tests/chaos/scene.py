"""What a scenario is played on: gateways that share a state and a PostgreSQL server.

Between each gateway and each server is a door of its own, so one of them can be cut off;
not so where the gateways are told addresses by Sentinels or a Cluster.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos.cast import Cast, hot_parts, parts
from tests.chaos.load import Backend, Load, Stream
from tests.chaos.loop import LoopThread
from tests.chaos.proxy import Door
from tests.chaos.state import OneServer, State, read_document, tag_of
from tests.support.configs import Caller, Config, config, route
from tests.support.gateway import Gateway
from tests.support.postgres import Server
from tests.support.until import until
from tests.support.valkey import Valkey
from tests.support.workers import Workers

Posted = dict[tuple[str, bytes], int]
LOST_TIMES = 3
CALLS = 4  # on one connection, where the next one may lead to another worker


class Servers:
    """The servers behind, for all scenes of a run; each scene has a schema and keys of its own."""

    def __init__(self, home: Path) -> None:
        self.thread = LoopThread()
        self.backend = Backend(self.thread)
        self.one = OneServer(self.thread)
        self.store = Server(home)
        self._numbers = itertools.count(1)

    def schema(self) -> str:
        name = f"chaos_{next(self._numbers)}"
        self.store.do(f"CREATE SCHEMA {name}")
        return name

    def close(self) -> None:
        self.backend.stop()
        self.one.stop()
        self.store.close()
        self.thread.stop()


class Scene:
    """Two gateways, not yet started. `more` are parts of their configuration.

    `casts`: how many rounds are played; `scale`, `is_hot`: see tests/chaos/cast.py; `place`:
    where the state is, if not on the run's one server, and the scene closes it; `workers`: of
    each gateway.
    """

    def __init__(
        self,
        servers: Servers,
        home: Path,
        *,
        casts: int,
        scale: int = 1,
        is_hot: bool = False,
        place: State | None = None,
        when_away: str = "allow",
        workers: int = 1,
        **more: Any,
    ) -> None:
        self.servers = servers
        self.thread = servers.thread
        self.store = servers.store
        self.schema = servers.schema()
        self.state = place or servers.one
        self._when_away = when_away
        self._workers = workers
        self._more = more
        self._parts = (hot_parts if is_hot else parts)(scale)
        self._all = [Cast(n, self._parts, self.state.groups) for n in range(casts)]
        self._casts = iter(self._all)
        self.playing = self._all[0]
        self.state_doors: list[Door] = []
        self.store_doors: list[Door] = []
        self.gateways = [self._gateway(home / name) for name in ("one", "two")]

    def _gateway(self, directory: Path) -> Gateway:
        directory.mkdir(parents=True)
        url, doors = self.state.way()
        self.state_doors += doors
        self.store_doors.append(Door(self.thread, self.store.socket))
        return Gateway(self._config(url), directory, module="tests.chaos.stepped")

    def _config(self, state_url: str) -> Config:
        # Patient, so that a machine that has other things to do is not taken for a trouble.
        state = {"timeout": "1s", "when_away": self._when_away}
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
            state={"url": state_url, "prefix": self.schema, **state},
            workers=self._workers,
            **self._more,
        )

    @property
    def valkey(self) -> Valkey:
        """The one server."""
        return self.servers.one.valkey

    def start(self) -> Scene:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Gateway.start, self.gateways))
        return self

    def cast(self) -> Cast:
        self.playing = next(self._casts)
        return self.playing

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
            calls=CALLS if self._workers > 1 else 0,
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

    def wait_shared(self, cast: Cast) -> None:
        """Until every gateway posts what it charges the accounts to the shared state."""
        everybody = cast.served()
        count = len(self.gateways) * self._workers * len(everybody)

        def all_there(found: Posted) -> bool:
            return len(found) == count

        def all_further(found: Posted) -> bool:
            return all_there(found) and all([found[name] > first[name] for name in first])

        what = "posts of all gateways"
        first = until(lambda: self._posted(everybody), all_there, what=what, deadline_s=60)
        until(lambda: self._posted(everybody), all_further, what=what, deadline_s=60)

    def document(self, who: Caller) -> dict[bytes, bytes]:
        """The account's, as the server has it."""
        tag = tag_of(who.account, self.schema, self.state.groups)
        return read_document(self.state, f"{tag}a:{who.account}")

    def _posted(self, everybody: Sequence[Caller]) -> Posted:
        """By account and journal: its last record that is in the account's document."""
        return {
            (who.account, name): int(value)
            for who in everybody
            for name, value in self.document(who).items()
            if name[:2] == b"p|"
        }

    def wait_shipped(self) -> None:
        """Until nobody is served and everything that was is in the store."""
        wanted = {"tallygate_connections 0.0", "tallygate_journal_unshipped_records 0.0"}
        for gateway in self.gateways:

            def missing(gateway: Gateway = gateway) -> set[str]:
                for who in self.playing.callers.values():
                    gateway.get("/v1/usage", who)  # the store is told at once where somebody reads
                return wanted - set(gateway.admin("/metrics").body.decode().splitlines())

            until(missing, lambda left: not left, what=f"rest of {gateway}", deadline_s=60)

    def stop(self) -> None:
        """A clean end of all, as SIGTERM brings it about."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(Gateway.stop, self.gateways))

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.kill()
        for gateway in self.gateways:
            Workers(gateway).wait_ended()
        for door in self.doors():
            door.close()
        self.state.close()
