"""What an operator can do: the one set of operations behind admin API and command line.

`ENDPOINTS` (gateway/api/endpoints.py) lists them as method, path and function;
each function takes these Operations and a Call and gives a Reply. Everything here
blocks: a running gateway calls it in a thread, the command line directly.
Invariant: a change, its audit entry and nothing else are one transaction of the
store's writer, and the running gateway is told before the operation is answered.
Must not know HTTP or click.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from gateway.api.problem import ApiProblem, unknown_name
from gateway.core.book import Account, Book, Plan

T = TypeVar("T")

PAGE_DEFAULT = 100
PAGE_MAX = 1_000  # rows of one answer: about half a megabyte


class Operator(NamedTuple):
    """Who asks, for the audit log."""

    name: str
    address: str  # "local" for the command line without a gateway


@dataclass(frozen=True, slots=True)
class Call:
    """One operation's input. `query` has texts, `body` what JSON has."""

    operator: Operator
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str = ""


class Reply(NamedTuple):
    """What an operation gives: a status and a JSON document."""

    status: int
    document: dict[str, Any]


class Audited(NamedTuple):
    """What the audit log keeps of a change."""

    action: str  # "key.create"
    subject: str  # "key_..." or an account
    before: object
    after: object


class Place(Protocol):
    """Where the operations work: inside a gateway, or alone on the store.

    Everything is called from a thread that may wait.
    """

    def book(self) -> Book: ...

    def now_us(self) -> int: ...

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work as one durable transaction; raises what it raises."""
        ...

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on a read connection that is its own meanwhile."""
        ...

    def key_changed(self, digest: bytes) -> None: ...

    def accounts_changed(self) -> None: ...

    def topped_up(self, account_id: str, meter: str) -> None: ...

    def settle_store(self) -> None:
        """Wait until everything that is closed now is in the store."""
        ...

    def audit(self) -> dict[str, Any]:
        """Recompute balances and rollups from the events, and compare."""
        ...
