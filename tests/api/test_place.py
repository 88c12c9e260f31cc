"""What an operation waits for inside a gateway, and for how long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.api import place
from gateway.api.operations import Hot
from gateway.api.place import Gateway, LivePlace
from gateway.api.problem import ApiProblem
from gateway.core.waiting import NotLoaded
from gateway.state.shared.link import StateUnavailable


@pytest.fixture
def live() -> Iterator[LivePlace]:
    """A place with an event loop and nothing else."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    parts: dict[str, Any] = dict.fromkeys(("book", "directory", "state", "store"))
    yield LivePlace(cast(Gateway, SimpleNamespace(loop=loop, **parts)))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_an_answer_that_does_not_come_is_given_up_and_left_to_the_others(
    live: LivePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "LOAD_WAIT_S", 0.1)
    answer: Future[Any] = Future()

    def work(hot: Hot) -> None:
        raise NotLoaded(answer)

    with pytest.raises(ApiProblem, match="did not answer") as refused:
        live.hot(work)
    assert refused.value.code == "store_unavailable"
    assert not answer.cancelled()


def test_answers_that_say_nothing_are_not_asked_for_without_an_end(
    live: LivePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "LOAD_WAIT_S", 0.1)

    def work(hot: Hot) -> None:
        answer: Future[Any] = Future()
        threading.Timer(0.01, answer.set_result, (None,)).start()
        raise NotLoaded(answer)

    with pytest.raises(ApiProblem, match="did not answer"):
        live.hot(work)


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_a_shared_state_that_is_away_is_said_to_be(live: LivePlace, is_waited_for: bool) -> None:
    failure = StateUnavailable("the store cannot be read: it is away")
    answer: Future[Any] = Future()
    answer.set_exception(failure)

    def work(hot: Hot) -> None:
        raise NotLoaded(answer) if is_waited_for else failure

    with pytest.raises(ApiProblem, match="it is away") as refused:
        live.hot(work)
    assert refused.value.code == "store_unavailable"
