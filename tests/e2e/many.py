"""Several workers of one gateway before a recorder, on PostgreSQL and Valkey."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.support.configs import Caller, Config, caller, config, pool, route
from tests.support.gateway import Gateway
from tests.support.recorder import Recorder
from tests.support.until import until
from tests.support.workers import START_S, Workers

WORKERS = 3
ROOMY = {"allowances": {"coins": {"amount": 1_000_000, "per": "month"}}}
TIGHT = {"allowances": {"coins": {"amount": 7, "per": "month"}}}
CALLERS = pool("acct", 40)
TIGHT_ONE = caller("tight")


class Scene:
    """A gateway of several workers before a recorder."""

    def __init__(self, home: Path, workers: int = WORKERS) -> None:
        self.recorder = Recorder()
        self.gateway = Gateway(self._config(workers), home)
        self.workers = Workers(self.gateway)
        self._callers = list(CALLERS)

    def _config(self, workers: int) -> Config:
        routes = [
            route("GET /n/{id}", {"coins": 1}),
            route("GET /priced/{id}", {"coins": 1}, name="priced"),
            route("GET /hang/{id}", {"coins": 1}, name="hang"),
        ]
        return config(
            self.recorder.port,
            routes=routes,
            callers={"roomy": CALLERS, "tight": [TIGHT_ONE]},
            plans={"roomy": ROOMY, "tight": TIGHT},
            workers=workers,
        )

    def start(self) -> None:
        """Start, and wait for all workers: the first one serves before the others."""
        before = len(self.workers.facts("serving"))
        self.gateway.start()
        if self.gateway.config["workers"] > 1:
            until(
                lambda: len(self.workers.facts("serving")),
                lambda n: n > before,
                what="all workers",
                deadline_s=START_S,
            )

    def newcomer(self) -> Caller:
        return self._callers.pop()

    def race(self, who: Caller, calls: int, path: str = "/n") -> Counter[int]:
        """So many calls at once, each on a connection of its own."""
        with ThreadPoolExecutor(16) as threads:
            answers = threads.map(lambda n: self.gateway.get(f"{path}/{n}", who), range(calls))
            return Counter(answer.status for answer in answers)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = until(self._metrics, what="an answer of a worker")
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def _metrics(self) -> str:
        """Nothing, where the worker that was asked has just been killed."""
        with suppress(OSError, EOFError):
            answer = self.gateway.admin("/metrics")
            return answer.body.decode() if answer.status == 200 else ""
        return ""

    def wait_used(self, who: Caller, units: int) -> None:
        """Until it is told; a worker tells what it knew of the others a moment ago."""
        until(
            lambda: self.gateway.settled_usage(who)["used"],
            lambda used: used == units,
            what=f"{units} units",
        )

    def close(self) -> None:
        self.gateway.kill()
        self.workers.wait_ended()
        self.recorder.stop()

    def reloaded(self) -> list[dict[str, object]]:
        """Reloads that the supervisor has ended."""
        return [fact for fact in self.workers.facts("reloaded") if "workers" in fact]

    def resize(self, workers: int) -> None:
        """Another number of them by a reload; done when the supervisor says so."""
        before = len(self.reloaded())
        self.gateway.config["workers"] = workers
        self.gateway.reload()
        until(lambda: len(self.reloaded()), lambda n: n > before, what="the other number")
        assert self.reloaded()[-1]["workers"] == workers
