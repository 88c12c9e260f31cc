"""Look-ups that do not wait: asked in a thread, asked once, forgotten after a change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.core.book import Account
from gateway.core.waiting import NotLoaded
from gateway.store import awaited
from gateway.store.awaited import AwaitedStore
from gateway.store.base import StoreUnavailable


class Reader:
    """A StoreReader that counts, and answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.title = "one"
        self.broken = False

    def account(self, account_id: str) -> Account | None:
        self.may_answer.wait(5)
        self.asked.append(account_id)
        if self.broken:
            raise StoreUnavailable("the server is gone")
        return Account(account_id, "free", title=self.title)

    def key(self, digest: bytes) -> None:
        return None

    def balances(self, account_id: str) -> list[Any]:
        return []

    entries = versions = balances

    def plans(self) -> list[Any]:
        return []

    def limit_states(self, now_us: int) -> Iterator[Any]:
        return iter(())

    def close(self) -> None:
        pass


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def store(reader: Reader) -> Iterator[AwaitedStore]:
    made = AwaitedStore(lambda: reader)  # type: ignore[arg-type, return-value]
    yield made
    reader.may_answer.set()
    made.close()


def ask(step: Callable[[], Any]) -> Any:
    """As the request path does it."""
    while True:
        try:
            return step()
        except NotLoaded as missing:
            missing.future.result(5)


def test_an_answer_is_waited_for_and_then_there(store: AwaitedStore, reader: Reader) -> None:
    with pytest.raises(NotLoaded):
        store.account("acme")
    assert ask(lambda: store.account("acme")) == Account("acme", "free", title="one")
    assert store.balances("acme") == [] and store.entries("acme") == []
    assert reader.asked == ["acme"]


def test_many_who_ask_the_same_wait_for_one_answer(store: AwaitedStore, reader: Reader) -> None:
    reader.may_answer.clear()
    futures = []
    for _ in range(100):
        with pytest.raises(NotLoaded) as caught:
            store.account("acme")
        futures.append(caught.value.future)
    assert len(set(futures)) == 1
    reader.may_answer.set()
    futures[0].result(5)
    assert store.account("acme") is not None
    assert reader.asked == ["acme"]


def test_what_was_asked_before_a_change_does_not_count(store: AwaitedStore, reader: Reader) -> None:
    reader.may_answer.clear()
    with pytest.raises(NotLoaded) as caught:
        store.account("acme")
    store.forget()
    reader.may_answer.set()
    caught.value.future.result(5)
    reader.title = "two"
    assert ask(lambda: store.account("acme")).title == "two"
    reader.title = "three"
    assert store.account("acme").title == "two"  # type: ignore[union-attr]
    store.forget()
    assert ask(lambda: store.account("acme")).title == "three"


def test_an_answer_does_not_live_long(
    store: AwaitedStore, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(lambda: store.account("acme"))
    monkeypatch.setattr(awaited, "FRESH_S", 0.0)
    with pytest.raises(NotLoaded):
        store.account("acme")


def test_a_failure_is_told_to_everybody_at_once(
    store: AwaitedStore, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.broken = True
    for account in ("acme", "other", "third"):
        with pytest.raises(StoreUnavailable, match="the server is gone"):
            ask(lambda account=account: store.account(account))  # type: ignore[misc]
    assert reader.asked == ["acme"]
    monkeypatch.setattr(awaited, "BACKOFF_S", 0.0)
    reader.broken = False
    assert ask(lambda: store.account("other")) is not None


def test_a_flood_does_not_queue_without_end(store: AwaitedStore, reader: Reader) -> None:
    reader.may_answer.clear()
    for n in range(awaited.WAITING_MAX):
        with pytest.raises(NotLoaded):
            store.account(f"a{n}")
    with pytest.raises(StoreUnavailable, match="too many"):
        store.account("one-more")
