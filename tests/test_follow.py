"""When another gateway has reloaded: the last one counts, and the store is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway import follow
from gateway.config import load
from gateway.core.book import Book
from gateway.core.reload import Heard
from gateway.follow import Follower
from gateway.store.database import DatabaseError

PATIENCE_S = 15.0


class OneGateway:
    """Implements gateway.follow.Gateway: what is used and logged is kept."""

    siblings = None

    def __init__(self, config: Path) -> None:
        self.config = config
        self.env: dict[str, str] = {}
        self.write("1")
        self.book = load(config, {}).book
        self.used: list[str] = []
        self.facts: list[tuple[str, Mapping[str, Any]]] = []
        self.failures: list[Exception] = []
        self.follower = Follower(self)

    def write(self, via: str) -> None:
        self.config.write_text(f"response_headers: {{via: v{via}}}\n")

    def log(self, fact: str, **figures: Any) -> None:
        if fact != "configuration_warning":  # there are no routes
            self.facts.append((fact, figures))

    def names(self) -> list[str]:
        return [fact for fact, _ in self.facts]

    def use(self, book: Book) -> list[str]:
        if self.failures:
            raise self.failures.pop()
        self.book = book
        self.used.append(book.response_headers.via)
        return []

    def heard(self, row_id: int) -> Heard:
        """What one says that has loaded the file as it is now."""
        book = load(self.config, {}).book
        return Heard(row_id, book.version, book.rules_version)

    async def follow(self, *heard: Heard, until: Callable[[], object]) -> None:
        for one in heard:
            self.follower.hear(one)
        self.follower.begin()
        async with asyncio.timeout(PATIENCE_S):
            while not until():
                await asyncio.sleep(0.01)
        self.follower.stop()


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneGateway:
    monkeypatch.setattr(follow, "AGAIN_S", 0.01)
    return OneGateway(tmp_path / "c.yaml")


async def test_of_several_that_were_heard_the_last_counts(gateway: OneGateway) -> None:
    gateway.write("2")
    second = gateway.heard(2)
    gateway.write("3")
    await gateway.follow(second, gateway.heard(3), until=lambda: gateway.used)
    assert gateway.used == ["v3"]
    assert gateway.names() == []


async def test_what_could_not_be_noted_in_the_store_is_tried_again(gateway: OneGateway) -> None:
    gateway.write("2")
    gateway.failures = [TimeoutError(), DatabaseError("away")]
    await gateway.follow(gateway.heard(2), until=lambda: gateway.used)
    assert gateway.used == ["v2"]
    assert gateway.names() == ["reload_delayed", "reload_delayed"]
    assert gateway.facts[0][1]["error"] == "DatabaseError: away"


async def test_a_file_that_has_not_changed_is_said_to_differ(gateway: OneGateway) -> None:
    found = gateway.book.version
    await gateway.follow(Heard(2, "other", "other"), until=lambda: gateway.facts)
    assert gateway.facts == [
        ("configuration_differs", {"level": "warning", "expected": "other", "found": found})
    ]


async def test_a_file_that_changed_while_it_started_is_used(gateway: OneGateway) -> None:
    gateway.write("2")
    old = Heard(1, "other", "other", at_start=True)
    await gateway.follow(old, until=lambda: gateway.facts)
    assert gateway.used == ["v2"]
    # Neither is what the fleet has reloaded last.
    assert gateway.names() == ["configuration_differs"]


async def test_one_that_starts_with_other_rules_says_so_and_keeps_them(gateway: OneGateway) -> None:
    found = gateway.book.version
    old = Heard(1, "other", "other", at_start=True)
    await gateway.follow(old, until=lambda: gateway.facts)
    assert gateway.facts == [
        ("configuration_differs", {"level": "warning", "expected": "other", "found": found})
    ]
    assert gateway.used == []


async def test_a_wrong_file_is_refused_and_said_to_differ(gateway: OneGateway) -> None:
    gateway.write("2")
    heard = gateway.heard(2)
    gateway.config.write_text("response_headers: 7\n")
    await gateway.follow(heard, until=lambda: len(gateway.facts) == 2)
    assert gateway.names() == ["reload_refused", "configuration_differs"]
    assert gateway.used == []
