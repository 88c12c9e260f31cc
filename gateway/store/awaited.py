"""A store that answers from afar, behind look-ups that must not wait.

Question: what does the store know, without holding up the event loop? A look-up whose
answer is not here raises NotLoaded and is asked in a thread; who has waited for that
simply does its step again. So the steps of the request path stay plain functions.
Invariants: an answer is no older than FRESH_S, and never older than a change that this
process has made (`forget`); when the store fails, everybody hears it at once for
BACKOFF_S instead of queueing for it. Methods are called on the event loop only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from gateway.core.book import Account
from gateway.core.identity import KeyRecord
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry, LimitState, PlansVersion
from gateway.core.waiting import NotLoaded
from gateway.store.base import StoreUnavailable
from gateway.store.reader import StoreReader

FRESH_S = 2.0  # several steps of a request ask the same
BACKOFF_S = 0.5
THREADS = 2  # each has a connection of its own
WAITING_MAX = 1_000  # look-ups; a flood of unknown keys is refused behind them
ANSWERS_MAX = 20_000


class _Answer(NamedTuple):
    value: Any
    at_s: float


class _AccountRows(NamedTuple):
    """What is asked of an account is asked together: one wait instead of five."""

    account: Account | None
    balances: list[BalanceRow]
    entries: list[LedgerEntry]
    versions: list[AccountVersion]


class AwaitedStore:
    """Implements gateway.store.base.Store. `open_reader` is called in each thread."""

    def __init__(self, open_reader: Callable[[], StoreReader]) -> None:
        """Raises StoreError when there is no store."""
        self._open_reader = open_reader
        self._first: StoreReader | None = open_reader()  # so that a wrong store stops the start
        self._local = threading.local()
        self._readers: list[StoreReader] = []
        self._threads = ThreadPoolExecutor(THREADS, "store-reader")
        self._answers: dict[Hashable, _Answer] = {}
        self._asked: dict[Hashable, Future[Any]] = {}
        self._generation = 0
        self._lock = threading.Lock()
        self._failed_s = -BACKOFF_S
        self._failure = ""

    # -- questions ----------------------------------------------------------

    def key(self, digest: bytes) -> KeyRecord | None:
        found: KeyRecord | None = self._ask(("key", digest), lambda r: r.key(digest))
        return found

    def account(self, account_id: str) -> Account | None:
        return self._rows(account_id).account

    def balances(self, account_id: str, since_us: int = 0) -> list[BalanceRow]:
        return self._rows(account_id).balances

    def entries(self, account_id: str) -> list[LedgerEntry]:
        return self._rows(account_id).entries

    def versions(self, account_id: str) -> list[AccountVersion]:
        return self._rows(account_id).versions

    def plans(self) -> list[PlansVersion]:
        found: list[PlansVersion] = self._ask(("plans",), lambda r: r.plans())
        return found

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        question = (account_id, meter, period_us, tuple(bounds))
        found: list[int] = self._ask(("uses", *question), lambda r: r.uses(*question))
        return found

    def limit_states(self, now_us: int) -> Iterator[LimitState]:
        """At the start, when nothing else waits."""
        assert self._first is not None, "asked once, before anything else"
        yield from list(self._first.limit_states(now_us))
        self._first.close()
        self._first = None

    def forget(self) -> None:
        """Something was changed: what is known, and what is being asked, counts no more."""
        with self._lock:
            self._generation += 1
            self._answers.clear()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for reader in (*self._readers, *([self._first] if self._first else ())):
            reader.close()

    # -- answers ------------------------------------------------------------

    def _rows(self, account_id: str) -> _AccountRows:
        def read(reader: StoreReader) -> _AccountRows:
            return _AccountRows(
                reader.account(account_id),
                reader.balances(account_id),
                reader.entries(account_id),
                reader.versions(account_id),
            )

        found: _AccountRows = self._ask(("account", account_id), read)
        return found

    def _ask(self, question: Hashable, read: Callable[[StoreReader], Any]) -> Any:
        now_s = time.monotonic()
        answer = self._answers.get(question)
        if answer is not None and now_s - answer.at_s < FRESH_S:
            return answer.value
        if now_s - self._failed_s < BACKOFF_S:
            raise StoreUnavailable(self._failure)
        raise NotLoaded(self._asked.get(question) or self._submit(question, read))

    def _submit(self, question: Hashable, read: Callable[[StoreReader], Any]) -> Future[Any]:
        if len(self._asked) >= WAITING_MAX:
            raise StoreUnavailable("too many look-ups wait for the store")
        generation = self._generation

        def work() -> None:
            try:
                value = read(self._reader())
            except Exception as error:
                self._failure, self._failed_s = str(error), time.monotonic()
            else:
                self._keep(question, generation, value)

        future = self._asked[question] = self._threads.submit(work)
        future.add_done_callback(lambda _: self._asked.pop(question, None))
        return future

    def _keep(self, question: Hashable, generation: int, value: Any) -> None:
        with self._lock:
            if generation == self._generation:
                if len(self._answers) >= ANSWERS_MAX:
                    self._answers.clear()
                self._answers[question] = _Answer(value, time.monotonic())

    def _reader(self) -> StoreReader:
        reader: StoreReader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = self._open_reader()
            self._readers.append(reader)
        return reader
