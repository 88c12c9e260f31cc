"""Jobs on an account's copy: when they have their results, and what is done anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from gateway.core.waiting import NotLoaded
from gateway.state.shared import jobs as jobs_module
from gateway.state.shared.document import Document
from gateway.state.shared.draft import Draft
from gateway.state.shared.jobs import Job, Jobs
from gateway.state.shared.link import Overtaken


class Copy:
    """What jobs are done on; each write comes to the next of `turns`, and then it is written."""

    def __init__(self, *turns: str | Exception) -> None:
        self.turns = list(turns)
        self.writes: list[int] = []  # how many jobs each had
        self.outdated = 0
        self.jobs = Jobs(self.write, self.outdate)

    def outdate(self) -> None:
        self.outdated += 1

    async def write(self, jobs: Sequence[Job]) -> list[Any] | None:
        self.writes.append(len(jobs))
        draft = Draft(Document(), (), "", (), 0, 1)
        results = [job.run(draft) for job in jobs]
        await asyncio.sleep(0)
        turn = self.turns.pop(0) if self.turns else ""
        if isinstance(turn, Exception):
            raise turn
        return None if turn == "overtaken" else results


async def test_what_comes_up_while_others_are_written_is_done_next_all_at_once() -> None:
    copy = Copy()
    first = copy.jobs.put(lambda draft: 1)
    await asyncio.sleep(0)
    later = [copy.jobs.put(lambda draft, n=n: n) for n in (2, 3)]
    assert copy.jobs.is_busy
    assert await asyncio.gather(first, *later) == [1, 2, 3]
    assert (copy.writes, copy.outdated, copy.jobs.is_busy) == ([1, 2], 0, False)


async def test_who_was_overtaken_is_undone_and_done_again() -> None:
    copy = Copy("overtaken", "overtaken")
    done: list[str] = []
    result = copy.jobs.put(lambda draft: done.append("run"), lambda: done.append("undo"))
    await result
    assert done == ["run", "undo", "run", "undo", "run"]
    assert copy.outdated == 2


async def test_who_is_overtaken_for_too_long_hears_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "OVERTAKEN_S", -1.0)
    copy = Copy("overtaken")
    undone: list[bool] = []
    with pytest.raises(Overtaken):
        await copy.jobs.put(lambda draft: None, lambda: undone.append(True))
    assert undone == [True]
    assert await copy.jobs.put(lambda draft: "the next one") == "the next one"


async def test_what_is_not_known_yet_is_waited_for() -> None:
    known: Future[None] = Future()
    copy = Copy(NotLoaded(known))
    result = copy.jobs.put(lambda draft: "done")
    while not copy.writes:
        await asyncio.sleep(0)
    assert not result.done()
    known.set_result(None)
    assert await result == "done"
    assert (copy.writes, copy.outdated) == ([1, 1], 1)


async def test_all_that_wait_hear_of_a_failure_and_the_next_are_done() -> None:
    copy = Copy(ValueError("the store is away"))
    first = copy.jobs.put(lambda draft: 1)
    await asyncio.sleep(0)
    second = copy.jobs.put(lambda draft: 2)
    for result in (first, second):
        with pytest.raises(ValueError, match="the store is away"):
            await result
    assert not copy.jobs.is_busy
    assert await copy.jobs.put(lambda draft: 3) == 3


async def test_whoever_does_not_wait_any_more_is_done_all_the_same() -> None:
    copy = Copy()
    ran: list[int] = []
    gone, other = copy.jobs.put(lambda draft: ran.append(1)), copy.jobs.put(lambda draft: 2)
    gone.cancel()
    assert await other == 2
    assert ran == [1]
