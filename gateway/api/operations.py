"""What an operator's operation works with: the one desk behind admin API and command line.

`ENDPOINTS` (gateway/api/endpoints.py) lists the operations as method, path and
function; each takes these Operations and a Call and gives a Reply. All of it
blocks: a running gateway calls it in a thread, the command line directly.
Invariant: a change and its entry in the audit log are one transaction of the
store's writer, and the hot state is told before the operation is answered. Must
not know HTTP or click.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from gateway.api.fields import Fields, count_parser, parse_any_text
from gateway.api.problem import ApiProblem
from gateway.core.book import Account, Book, OperatorRole
from gateway.proxy.directory import Directory
from gateway.state.memory import MemoryState
from gateway.store.base import Store
from gateway.store.database import Database
from gateway.store.mutations import log_audit
from gateway.usage.audit import AuditReport

T = TypeVar("T")

SHIP_WAIT_S = 2.0  # for what has just ended to be in the store, before a report is made

PAGE_DEFAULT = 100
PAGE_MAX = 1_000  # rows of one answer: about half a megabyte
PAGE_FIELDS = ("limit", "cursor")


class Operator(NamedTuple):
    """Who asks: what they may do, and how the audit log names them."""

    name: str
    address: str  # "local" for the command line without a gateway
    role: OperatorRole


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


class Change(NamedTuple):
    """What the audit log keeps of a change; before and after are JSON documents or None."""

    action: str  # "key.create"
    subject: str  # the id of what was changed
    before: object
    after: object
    member: str = ""  # in whose name an operator's program made it
    member_address: str = ""  # where that member's own request came from


class Hot(NamedTuple):
    """The live side, touched only where requests are decided."""

    book: Book
    directory: Directory
    state: MemoryState
    store: Store


class OpenHold(NamedTuple):
    """A hold of a request in flight. `owner` is the process that settles or releases it."""

    id: str  # of the event that it will be
    request_id: str
    account: str
    user: str
    project: str
    key_id: str
    route: str
    operation: str
    owner: str
    time_us: int
    expires_us: int  # of the lease, which the owner renews while the request is alive
    amounts: tuple[tuple[str, int], ...]


class Place(Protocol):
    """Where operations work: in a running gateway, or alone on the store."""

    def now_us(self) -> int: ...

    def hot(self, work: Callable[[Hot], T]) -> T:
        """Run quick work where the hot state lives; gives what it returns."""
        ...

    def change(self, work: Callable[[Database], T]) -> T:
        """Run work as one durable transaction; raises what it raises."""
        ...

    def read(self, work: Callable[[Database], T]) -> T:
        """Run work on a read connection."""
        ...

    def wait_shipped(self, timeout_s: float, seq: int | None = None) -> bool:
        """Whether the journal up to `seq` (None: all there is now) has reached the store."""
        ...

    def exclusive(self) -> AbstractContextManager[Any]:
        """Held while store and hot state are brought to the same figure, or compared."""
        ...

    def holds(self) -> list[OpenHold]:
        """What requests in flight have reserved."""
        ...

    def audit(self) -> AuditReport:
        """Recompute balances and rollups from the events, and compare."""
        ...


class Operations:
    """The desk: looks things up, makes changes, keeps the audit log."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def book(self) -> Book:
        return self.place.hot(lambda hot: hot.book)

    def account(self, account_id: str) -> Account:
        """A declared or stored account. Raises ApiProblem when there is none."""
        found = self.find_account(account_id)
        if found is None:
            raise ApiProblem("not_found", f"there is no account {account_id!r}")
        return found

    def find_account(self, account_id: str) -> Account | None:
        return self.place.hot(
            lambda hot: hot.book.accounts.get(account_id) or hot.store.account(account_id)
        )

    def change(self, call: Call, work: Callable[[Database], tuple[T, Change | None]]) -> T:
        """Run work in a transaction and log what it says it changed; None changed nothing."""
        now_us = self.place.now_us()

        def logged(connection: Database) -> T:
            result, change = work(connection)
            if change is not None:
                _log(connection, call.operator, change, now_us)
            return result

        return self.place.change(logged)


def _log(connection: Database, operator: Operator, change: Change, now_us: int) -> None:
    detail: dict[str, object] = {"address": operator.address}
    if change.member:
        detail.update(member=change.member, member_address=change.member_address or None)
    detail.update(before=change.before, after=change.after)
    log_audit(
        connection,
        time_us=now_us,
        actor=operator.name,
        action=change.action,
        subject=change.subject,
        detail=json.dumps(detail, ensure_ascii=False),
    )


class Paging(NamedTuple):
    limit: int
    after: str  # "" from the beginning

    @classmethod
    def of(cls, fields: Fields) -> Paging:
        limit = fields.get("limit", count_parser(1, PAGE_MAX), PAGE_DEFAULT)
        return cls(limit, fields.get("cursor", parse_any_text, ""))

    def page(self, rows: Iterable[T], document: Callable[[T], Any], key: str = "id") -> Reply:
        """The first `limit` of the rows that were found after the cursor, in order."""
        documents = [document(row) for row in rows]
        shown = documents[: self.limit]
        more = len(documents) > self.limit
        return Reply(200, {"items": shown, "next": shown[-1][key] if more else None})
