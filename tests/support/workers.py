"""The workers of a gateway, as its supervisor's log tells of them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.support.gateway import Gateway
from tests.support.until import until

START_S = 60.0  # of several interpreters on a machine that does much else


class Workers:
    """None for a gateway that is one process."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def facts(self, event: str) -> list[dict[str, object]]:
        """Lines of the log, by what they tell of."""
        lines = (json.loads(x) for x in self.gateway.log.splitlines() if x.startswith("{"))
        return [line for line in lines if line["event"] == event]

    def pids(self) -> dict[int, int]:
        """Of the latest processes, by number."""
        return self._latest("worker_started")

    def _latest(self, event: str) -> dict[int, int]:
        return {x["worker"]: x["pid"] for x in self.facts(event)}  # type: ignore[misc]

    def kill(self, number: int) -> int:
        """SIGKILL; the process that it was."""
        pid = self.pids()[number]
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_restarted(self, number: int, pid: int) -> None:
        """Until another process serves in the place of one that was killed."""
        until(lambda: self.pids()[number], lambda now: now != pid, what="another process")
        until(
            lambda: self._latest("worker_serves").get(number),
            lambda now: now == self.pids()[number],
            what="its start",
            deadline_s=START_S,
        )

    def kill_all(self) -> None:
        """The supervisor, too, and all at once, so that nobody drains."""
        pids = [*self.pids().values(), self.gateway.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.gateway.wait()

    def alive(self) -> list[int]:
        return [pid for pid in self.pids().values() if is_alive(pid)]

    def wait_ended(self) -> None:
        """They drain when their supervisor has been killed."""
        until(
            self.alive,
            lambda left: not left,
            what="the end of the workers",
            deadline_s=START_S,
        )


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended may still wait for its parent to hear of it."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
