"""Gateways of a fleet are restarted one after the other, as for an upgrade, and nobody notices."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.test_crash import assert_audit_is_clean
from tests.e2e.test_fleet import ROOMY, Pair
from tests.support.gateway import Gateway, running
from tests.support.recorder import Recorder
from tests.support.until import until
from tests.support.valkey import Valkey

pytestmark = pytest.mark.sqlite

CLIENTS = 4


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    recorder, valkey = Recorder(), Valkey().start()
    made = Pair(tmp_path, valkey, recorder)
    try:
        with running(made.gateways):
            yield made
    finally:
        valkey.stop()
        recorder.stop()


class Callers:
    """Behind a load balancer that tries the other gateway when one has hung up unheard."""

    def __init__(self, gateways: list[Gateway]) -> None:
        self._gateways = gateways
        self.answers: list[tuple[str, int]] = []
        self.turned_away = 0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _call(self, client: int) -> None:
        for number in itertools.count():
            if self._is_over.is_set():
                return
            path = f"/n/{client}-{number}"
            self.answers.append((path, self._ask(path, client + number)))

    def _ask(self, path: str, first: int) -> int:
        for attempt in range(first, first + 2):
            try:
                return self._gateways[attempt % 2].get(path, ROOMY).status
            except (EOFError, OSError):
                self.turned_away += 1
        return 0

    def wait(self, more: int) -> None:
        wanted = len(self.answers) + more
        until(lambda: len(self.answers) >= wanted, what="the answers")

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def test_a_rolling_restart_refuses_nobody_and_counts_each_once(pair: Pair) -> None:
    callers = Callers(pair.gateways)
    try:
        callers.wait(100)
        for gateway in pair.gateways:
            gateway.stop()
            callers.wait(100)
            gateway.start()
            callers.wait(100)
    finally:
        callers.end()
    assert callers.turned_away, "the load balancer has had something to do"
    assert Counter(status for _, status in callers.answers) == {200: len(callers.answers)}
    one, two = pair.gateways
    for gateway in (one, two):
        until(
            lambda g=gateway: g.usage(ROOMY)["used"],  # type: ignore[misc]
            lambda used: used == len(callers.answers),
            what="all of them",
        )
        assert_audit_is_clean(gateway)
    with psycopg.connect(pair.url) as connection:
        stored = Counter(row[0] for row in connection.execute("SELECT path FROM events"))
    assert stored == Counter(path for path, _ in callers.answers)
