"""Jobs on one account's copy, done in order, each until it is written.

Question: who works on the copy now? What came up while others were being written is done
next, all of it at once. Where somebody else was faster, the same jobs are undone and done
again. Invariant: a job has its result only when it is written. Must not know what a job
does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from gateway.core.waiting import NotLoaded
from gateway.state.shared.draft import Draft
from gateway.state.shared.link import Overtaken

OVERTAKEN_S = 5.0  # nobody waits for longer while others are faster


def nothing() -> None:
    """Of a job that changes only the copy."""


class Job:
    """`run` works on the copy and its draft; `undo` gives back what is in neither.

    `written` is called when it is, before anybody hears of the result.
    """

    __slots__ = ("run", "undo", "written", "hold_id", "result")

    def __init__(
        self,
        run: Callable[[Draft], Any],
        undo: Callable[[], object],
        written: Callable[[], object],
        hold_id: str,
    ) -> None:
        self.run = run
        self.undo = undo
        self.written = written
        self.hold_id = hold_id
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Jobs:
    """The queue of one account, and what works it off while there is something in it."""

    __slots__ = ("_write", "_outdate", "_queue", "_task")

    def __init__(
        self,
        write: Callable[[Sequence[Job]], Awaitable[list[Any] | None]],
        outdate: Callable[[], object],
    ) -> None:
        """`write` runs jobs: their results, written; None when somebody else was faster.

        `outdate` says that the copy is not the document's any more.
        """
        self._write = write
        self._outdate = outdate
        self._queue: list[Job] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self._queue)

    @property
    def unwritten(self) -> set[str]:
        """Ids of holds that are being made: nobody has them yet."""
        return {job.hold_id for job in self._queue}

    def put(
        self,
        run: Callable[[Draft], Any],
        undo: Callable[[], object] = nothing,
        written: Callable[[], object] = nothing,
        hold_id: str = "",
    ) -> asyncio.Future[Any]:
        """The job's result. `hold_id` is of the hold that it makes, if it makes one."""
        job = Job(run, undo, written, hold_id)
        self._queue.append(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drive())
        return job.result

    async def _drive(self) -> None:
        try:
            await self._work_off()
        except Exception as error:
            self._undo(self._queue)
            for job in self._queue:
                if not job.result.done():
                    job.result.set_exception(error)
                    job.result.exception()  # of some nobody asks
            self._queue.clear()
        finally:
            self._task = None

    async def _work_off(self) -> None:
        done_s = time.monotonic()
        while self._queue:
            jobs = list(self._queue)
            try:
                results = await self._write(jobs)
            except NotLoaded as missing:
                self._undo(jobs)
                await asyncio.wrap_future(missing.future)
                continue
            if results is None:
                if time.monotonic() - done_s > OVERTAKEN_S:
                    raise Overtaken("other processes were faster each time")
                self._undo(jobs)
                continue
            done_s = time.monotonic()
            del self._queue[: len(jobs)]
            for job, result in zip(jobs, results, strict=True):
                job.written()
                if not job.result.done():
                    job.result.set_result(result)

    def _undo(self, jobs: Iterable[Job]) -> None:
        self._outdate()
        for job in jobs:
            job.undo()
