"""The channel between two processes: here both ends are in one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.workers.channel import Channel, ChannelClosed, NotAnswered


class End:
    """One end, which serves as it is told here."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.told: list[tuple[str, Any]] = []
        self.gate = asyncio.Event()
        self.task = asyncio.ensure_future(channel.run(self.serve))

    async def serve(self, what: str, argument: Any) -> Any:
        self.told.append((what, argument))
        if what == "wait":
            await self.gate.wait()
        if what == "fail":
            raise ValueError("cannot")
        if what == "tell_first":
            self.channel.tell("said", argument)
        return (what, argument)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    pair = [End(await Channel.over(end)) for end in socket.socketpair()]
    yield pair[0], pair[1]
    for end in pair:
        await end.channel.close()
        await end.task


async def test_an_answer_is_what_the_other_end_gives(ends: tuple[End, End]) -> None:
    one, two = ends
    assert await one.channel.ask("this", {"a": 1}) == ("this", {"a": 1})
    assert await two.channel.ask("that") == ("that", None)
    assert two.told == [("this", {"a": 1})]


async def test_large_messages_are_whole(ends: tuple[End, End]) -> None:
    large = "x" * 5_000_000
    assert await ends[0].channel.ask("large", large, 10) == ("large", large)


async def test_what_is_told_comes_in_order_and_before_the_answer(ends: tuple[End, End]) -> None:
    one, two = ends
    for number in range(100):
        one.channel.tell("number", number)
    assert await one.channel.ask("tell_first", "x") == ("tell_first", "x")
    assert [argument for _, argument in two.told[:100]] == list(range(100))
    assert one.told == [("said", "x")]


async def test_a_question_that_waits_holds_nothing_up(ends: tuple[End, End]) -> None:
    one, two = ends
    waiting = asyncio.ensure_future(one.channel.ask("wait", timeout_s=10))
    assert await one.channel.ask("other") == ("other", None)
    two.gate.set()
    assert await waiting == ("wait", None)


async def test_a_failure_is_told_to_who_asked(ends: tuple[End, End]) -> None:
    with pytest.raises(NotAnswered, match="ValueError: cannot"):
        await ends[0].channel.ask("fail")
    assert await ends[0].channel.ask("next") == ("next", None)


async def test_no_answer_in_time(ends: tuple[End, End]) -> None:
    one, two = ends
    with pytest.raises(TimeoutError):
        await one.channel.ask("wait", timeout_s=0.01)
    two.gate.set()  # the late answer is nobody's
    assert await one.channel.ask("next") == ("next", None)


async def test_the_end_of_the_other_process_is_the_end(ends: tuple[End, End]) -> None:
    one, two = ends
    waiting = asyncio.ensure_future(one.channel.ask("wait", timeout_s=10))
    await one.channel.ask("next")
    await two.channel.close()
    with pytest.raises(ChannelClosed):
        await waiting
    await one.task
    with pytest.raises(ChannelClosed):
        await one.channel.ask("more")
    one.channel.tell("more")  # nobody is there to hear it
