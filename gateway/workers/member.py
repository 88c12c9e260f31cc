"""One worker, as the supervisor sees it: started, and started again whenever it ends or hangs.

Invariant: what its processes have counted is never forgotten, so that metrics do not go
back. Must not know what a worker does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from gateway.workers.channel import Channel, ChannelClosed, NotAnswered
from gateway.workers.figures import Counts, Figures, add
from gateway.workers.pulse import BEAT_S, Pulse
from gateway.workers.siblings import Start

BACKOFF_S = (0.1, 5.0)  # the first pause before another start, doubled up to the last
STEADY_S = 10.0  # whoever ran for so long is started without a long pause
ROOT = str(Path(__file__).parents[2])  # where the workers find this very package


class WorkerFailed(Exception):
    """A worker ended before it served; the text is what it said."""


class Family(Protocol):
    """What a member asks of the supervisor."""

    @property
    def log(self) -> Callable[..., object]: ...

    def start_of(self, member: Member) -> Start: ...

    def inherited(self) -> tuple[int, ...]:
        """Descriptors that every worker keeps open."""
        ...

    async def answer(self, member: Member, what: str, argument: Any) -> Any: ...


class Member:
    """`start`, then it keeps itself running until `stop`."""

    def __init__(self, number: int, family: Family) -> None:
        self.number = number
        self.restarts = 0
        self.is_ready = False
        self.code: int | None = None  # of the last process that ended
        self._family = family
        self._ended: Counts = {}  # what its earlier processes have counted
        self._last = Figures({}, {})  # what the living one has said last
        self._failed = ""
        self._leaving = asyncio.Event()
        self._channel: Channel | None = None
        self._process: Process | None = None
        self._pulse = Pulse()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    # -- its life -------------------------------------------------------------

    async def start(self) -> None:
        """Start it and wait until it serves. Raises WorkerFailed."""
        self._task = asyncio.get_running_loop().create_task(self._keep())
        await self._first

    async def _keep(self) -> None:
        shortest_s, longest_s = BACKOFF_S
        pause_s = shortest_s
        while True:
            began_s = time.monotonic()
            try:
                await self._live()
            except OSError as error:  # no process or descriptor to be had
                self._failed = str(error)
                self._family.log("worker_not_started", level="error", error=str(error))
            if time.monotonic() - began_s > STEADY_S:
                pause_s = shortest_s
            if self._first_failed() or await self._leaves_within(pause_s):
                return
            pause_s = min(2 * pause_s, longest_s)
            self.restarts += 1

    async def _leaves_within(self, pause_s: float) -> bool:
        try:
            return await asyncio.wait_for(self._leaving.wait(), pause_s)
        except TimeoutError:
            return False

    def _first_failed(self) -> bool:
        """A worker that never served is not tried again: the whole start has failed."""
        if self._first.done():
            return False
        said = self._failed or f"it ended with {_ended_by(self.code)}"
        self._first.set_exception(WorkerFailed(f"worker {self.number}: {said}"))
        return True

    async def _live(self) -> None:
        """One process, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = (theirs.fileno(), *self._family.inherited())
            self._process = await asyncio.create_subprocess_exec(
                *_command(theirs.fileno()), pass_fds=inherited, env=_environment()
            )
        self._family.log("worker_started", worker=self.number, pid=self._process.pid)
        self._channel = await Channel.over(ours)
        self._channel.tell("start", self._family.start_of(self))
        if self._leaving.is_set():
            self._drain(0.0)
        self._pulse = Pulse()
        watching = asyncio.get_running_loop().create_task(self._watch(self._process.pid))
        await self._channel.run(self._serve)
        self.is_ready = False
        self.code = await self._process.wait()
        watching.cancel()
        add(self._ended, self._last.counts)
        self._last = Figures({}, {})
        level = "info" if self.code == 0 else "warning"
        by = _ended_by(self.code)
        self._family.log("worker_ended", level=level, worker=self.number, by=by)

    async def _watch(self, pid: int) -> None:
        """Kill it when it hangs."""
        while not (reason := self._pulse.beat()):
            await asyncio.sleep(BEAT_S)
        self._family.log("worker_hangs", level="error", worker=self.number, pid=pid, error=reason)
        self.kill()

    async def _serve(self, what: str, argument: Any) -> Any:
        self._pulse.hear()
        if what == "started":
            self.is_ready = True
            self._pulse.serve()
            self._family.log("worker_serves", worker=self.number, pid=self.pid)
            if not self._first.done():
                self._first.set_result(None)
        elif what == "failed":
            self._failed = argument
            self._family.log("worker_failed", level="error", worker=self.number, error=argument)
        elif what == "draining":
            self._pulse.drain(argument)
        elif what == "figures":
            self._last = argument
        else:
            if what == "sum":
                self._last = argument
            return await self._family.answer(self, what, argument)
        return None

    def leave(self, stay_s: float = 0.0) -> None:
        """Let it drain, for good; for so long its clients may stay until they ask again."""
        self._leaving.set()
        self._drain(stay_s)

    async def stop(self, timeout_s: float, stay_s: float = 0.0) -> bool:
        """Let it drain and wait; whether it ended by itself, with 0, in time."""
        self.leave(stay_s)
        if self._task is None:
            return True
        done, _ = await asyncio.wait([self._task], timeout=timeout_s)
        if not done:
            self._family.log("worker_killed", level="error", worker=self.number)
            self.kill()
            await asyncio.wait([self._task])
        return self.code == 0

    def kill(self) -> None:
        """End its process at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def restart(self) -> None:
        """Let its process drain; another one is started."""
        self._drain(0.0)

    def _drain(self, stay_s: float) -> None:
        if self._channel is not None:
            self._channel.tell("stop", stay_s)

    # -- what it says ---------------------------------------------------------

    async def ask(self, what: str, argument: Any = None, timeout_s: float = 1.0) -> Any:
        """Raises ChannelClosed, NotAnswered, TimeoutError."""
        if self._channel is None:
            raise ChannelClosed
        return await self._channel.ask(what, argument, timeout_s)

    async def answer_of(self, what: str) -> list[Any]:
        """What it says, or nothing where it does not answer in time."""
        try:
            return [await self.ask(what)] if self.is_ready else []
        except (ChannelClosed, NotAnswered, TimeoutError):
            return []

    def counts(self) -> Counts:
        """Everything that its processes have counted, as far as they have said."""
        counts = dict(self._ended)
        add(counts, self._last.counts)
        return counts

    def gauges(self) -> dict[str, float]:
        """Of the living process."""
        return self._last.gauges


def _command(fd: int) -> list[str]:
    # -P: a folder named gateway in the working directory is not this package.
    return [sys.executable, "-P", "-m", "gateway.worker", str(fd)]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path}


def _ended_by(code: int | None) -> str:
    """`exit code 1` or `signal 9`."""
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
