"""Reading operations: usage of an account, events, the audit and its log.

Events of one account come newest first by time; events of all accounts in the
order in which they were settled, which is also the order that `after` follows.
Must not know HTTP.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.api.fields import Fields, count_parser, parse_any_text
from gateway.api.figures import Asker, usage_document
from gateway.api.ledger import state_of
from gateway.api.operations import (
    PAGE_FIELDS,
    SHIP_WAIT_S,
    Call,
    OpenHold,
    Operations,
    Paging,
    Reply,
)
from gateway.api.pages import audit_log_before
from gateway.api.problem import ApiProblem, refuse_unknown
from gateway.api.statements import (
    breakdown_document,
    history_document,
    invoice_document,
    overage_document,
)
from gateway.core.book import Book
from gateway.core.events import Event
from gateway.core.instants import iso
from gateway.core.rows import is_cap_lot
from gateway.core.units import json_amount
from gateway.store.database import Database
from gateway.store.removal import removed_until_us
from gateway.store.reports import ActivityFilter, Page, read_activity
from gateway.store.settled import Places, last_places, read_newer, read_older
from gateway.usage.activity import Query, encode_cursor, parse_query

FILTERS = (
    "from", "to", "user", "project", "key", "operation", "route", "outcome", "meter",
    "status_min", "status_max",
)  # fmt: skip
EVENT_FIELDS = (*FILTERS, *PAGE_FIELDS, "account", "after", "wait")
# Events of all accounts that one answer may look through for a filter: 40,000, some 400 ms.
WINDOW = 1_000
WINDOWS_MAX = 40
WAIT_MAX_S = 30
CHANGE_FILTERS = ("subject", "action", "actor")


def show_usage(ops: Operations, call: Call) -> Reply:
    """What an account has used and has left in its current periods."""
    Fields(call.query, (), "parameter")
    account_id = call.params["account"]
    ops.account(account_id)
    now_us = ops.place.now_us()
    state = ops.place.hot(lambda hot: state_of(hot, account_id))
    asker = Asker(state, "", "", "", "", frozenset({"account"}), now_us)
    return Reply(200, usage_document(ops.place, asker))


STATEMENT_FIELDS = {
    "history": ("meter", "periods"),
    "breakdown": ("by", "meter", "from", "to"),
    "invoice": ("month",),
    "overage": ("month",),
}
STATEMENTS = {
    "history": history_document,
    "breakdown": breakdown_document,
    "invoice": invoice_document,
    "overage": overage_document,
}


def _statement(name: str, ops: Operations, call: Call) -> Reply:
    fields = Fields(call.query, STATEMENT_FIELDS[name], "parameter")
    account_id = call.params["account"]
    ops.account(account_id)
    state = ops.place.hot(lambda hot: state_of(hot, account_id))
    return Reply(200, STATEMENTS[name](ops.place, state, ops.book, fields, ops.place.now_us()))


def show_history(ops: Operations, call: Call) -> Reply:
    """Periods of a meter, newest first: granted, consumed, expired, utilization."""
    return _statement("history", ops, call)


def show_breakdown(ops: Operations, call: Call) -> Reply:
    """What each operation, project, user or key used of a meter."""
    return _statement("breakdown", ops, call)


def show_invoice(ops: Operations, call: Call) -> Reply:
    """The preview of a calendar month's invoice."""
    return _statement("invoice", ops, call)


def show_overage(ops: Operations, call: Call) -> Reply:
    """Billable overage by meter and day, with ids that stay the same."""
    return _statement("overage", ops, call)


def list_holds(ops: Operations, call: Call) -> Reply:
    """What requests in flight have reserved, of one account or of all; the oldest first.

    `scope`: gateway, where others that share its state may hold more; else all.
    """
    fields = Fields(call.query, ("account", *PAGE_FIELDS), "parameter")
    paging = Paging.of(fields)
    account = fields.get("account", parse_any_text, None)
    if account is not None:
        ops.account(account)
    book = ops.book
    rows = [
        hold
        for hold in ops.place.holds()
        if account in (None, hold.account) and hold.id > paging.after
    ]
    reply = paging.page(rows[: paging.limit + 1], lambda hold: hold_document(hold, book))
    # Gateways that share a state know of each other's plain requests only what they hold in sum.
    reply.document["scope"] = "gateway" if book.state.url else "all"
    return reply


def hold_document(hold: OpenHold, book: Book) -> dict[str, Any]:
    """A hold; its id is a UUIDv7, so that the order of ids is that of time."""
    return {
        "id": hold.id,
        "request_id": hold.request_id,
        "account": hold.account,
        "user": hold.user,
        "project": hold.project,
        "key": hold.key_id,
        "route": hold.route,
        "operation": hold.operation,
        "owner": hold.owner,
        "since": iso(hold.time_us),
        "expires": iso(hold.expires_us),
        "amounts": {meter: _amount(meter, n, book) for meter, n in hold.amounts},
    }


def list_events(ops: Operations, call: Call) -> Reply:
    """Events by filters; `after` (from an earlier answer's `follow`) gives only newer ones."""
    refuse_unknown(call.query, EVENT_FIELDS, "parameter")
    query = _event_query(call)
    account = call.query.get("account")
    if account is not None:
        ops.account(account)
    ops.place.wait_shipped(SHIP_WAIT_S)
    if "after" in call.query:
        found = _newer(ops, call, query, account)
    elif account is not None:
        found = _of_account(ops, query, account)
    else:
        found = _of_all(ops, call, query)
    book = ops.book
    document = {
        "items": [event_document(event, book) for event in found.events],
        "next": found.next,
        "follow": _places_text(found.follow),
        "removed_until": instant_or_none(found.removed_until_us),
    }
    return Reply(200, document)


def instant_or_none(time_us: int | None) -> str | None:
    return None if time_us is None else iso(time_us)


class _Found(NamedTuple):
    events: list[Event]
    next: str | None  # cursor of older ones
    follow: Places  # where newer ones begin
    removed_until_us: int | None = None  # those before have left the store


def _event_query(call: Call) -> Query:
    """The filters; the cursor is judged by whoever made it."""
    names = [*FILTERS, "limit", *(["cursor"] if "account" in call.query else [])]
    try:
        return parse_query({name: call.query[name] for name in names if name in call.query})
    except ValueError as exc:
        parameter = str(exc).partition(":")[0]
        raise ApiProblem("invalid_parameter", str(exc), parameter=parameter) from None


def _of_account(ops: Operations, query: Query, account: str) -> _Found:
    """Newest first, by the index on account and time."""

    def read(connection: Database) -> tuple[Places, Page, int | None]:
        follow = last_places(connection)
        page = read_activity(connection, account, query.wanted, query.limit, query.after)
        return follow, page, removed_until_us(connection)

    follow, page, until_us = ops.place.read(read)
    return _Found(page.events, encode_cursor(page.next) if page.next else None, follow, until_us)


def _of_all(ops: Operations, call: Call, query: Query) -> _Found:
    """Newest first in the order of settlement, window by window."""
    cursor = Fields(call.query, EVENT_FIELDS, "parameter").get("cursor", _parse_places, None)
    window = query.limit if query.wanted == ActivityFilter() else WINDOW

    def read(connection: Database) -> _Found:
        follow = last_places(connection)
        found = read_older(
            connection,
            cursor,
            query.limit,
            lambda event: matches(event, query.wanted),
            window,
            WINDOW * WINDOWS_MAX,
        )
        following = _places_text(found.next) if found.next else None
        return _Found(found.events, following, follow, removed_until_us(connection))

    return ops.place.read(read)


def _newer(ops: Operations, call: Call, query: Query, account: str | None) -> _Found:
    """Oldest first: what was settled after the given place."""
    after = Fields(call.query, EVENT_FIELDS, "parameter").need("after", _parse_places)
    events, follow = ops.place.read(
        lambda connection: read_newer(connection, after, query.limit, account)
    )
    return _Found([event for event in events if matches(event, query.wanted)], None, follow)


def matches(event: Event, wanted: ActivityFilter) -> bool:
    """Whether an event is one of those that the filter lets through."""
    given = (
        (wanted.user, event.user),
        (wanted.project, event.project),
        (wanted.key_id, event.key_id),
        (wanted.operation, event.operation),
        (wanted.route, event.route),
        (wanted.outcome, event.outcome),
    )
    return (
        all(value is None or value == found for value, found in given)
        and (wanted.from_us is None or event.time_us >= wanted.from_us)
        and (wanted.to_us is None or event.time_us < wanted.to_us)
        and (wanted.status_min is None or event.status >= wanted.status_min)
        and (wanted.status_max is None or event.status <= wanted.status_max)
        and (wanted.meter is None or any(c.meter == wanted.meter for c in event.charges))
    )


def event_document(event: Event, book: Book) -> dict[str, Any]:
    """An event for people and programs: instants as RFC 3339, amounts exact."""
    amounts: dict[str, int] = {}
    for charge in event.charges:
        if is_cap_lot(charge.lot):
            continue  # counted for a further allowance, not charged once more
        amounts[charge.meter] = amounts.get(charge.meter, 0) + charge.amount
    return {
        "id": event.id,
        "time": iso(event.time_us),
        "account": event.account,
        "user": event.user,
        "project": event.project,
        "key": event.key_id,
        "caller": event.caller,
        "source": event.source,
        "service": event.service,
        "operation": event.operation,
        "route": event.route,
        "method": event.method,
        "path": event.path,
        "status": event.status,
        "outcome": event.outcome,
        "charges": {meter: _amount(meter, amount, book) for meter, amount in amounts.items()},
        "bytes_in": event.bytes_in,
        "bytes_out": event.bytes_out,
        "duration_ms": event.duration_us / 1000,
        "upstream_ms": event.upstream_us / 1000,
        "request_id": event.request_id,
        "price_book": event.book,
    }


def run_audit(ops: Operations, call: Call) -> Reply:
    """Recompute everything that is summed, and compare it with the live counters."""
    Fields(call.query, (), "parameter")
    report = ops.place.audit()
    document = {
        "clean": report.is_clean,
        "seq": report.seq,
        "events": report.events,
        "charges": report.charges,
        "rollups": report.rollups,
        "balances": report.balances,
        "counters": report.counters,
        "worker": report.worker,
        "workers": report.workers,
        "differences": [difference._asdict() for difference in report.differences],
        "duration_ms": report.duration_us / 1000,
    }
    return Reply(200, document)


def list_audit_log(ops: Operations, call: Call) -> Reply:
    """Who changed what, newest first; `subject` is an account with its members, or a key."""
    fields = Fields(call.query, (*CHANGE_FILTERS, *PAGE_FIELDS), "parameter")
    paging = Paging.of(fields)
    before = fields.get("cursor", _parse_seq, None)
    wanted = {name: fields.get(name, parse_any_text, None) for name in CHANGE_FILTERS}
    rows = ops.place.read(lambda c: audit_log_before(c, before, paging.limit + 1, wanted))
    return paging.page(rows, _change_document)


def _change_document(row: dict[str, Any]) -> dict[str, Any]:
    names = ("actor", "address", "member", "member_address", "action", "subject")
    named = {name: row.get(name) for name in names}
    change = {"before": row.get("before"), "after": row.get("after")}
    return {"id": str(row["id"]), "time": iso(row["time_us"]), **named, **change}


def _places_text(places: Places) -> str:
    """`0` before the first event."""
    return ".".join(map(str, places)) or "0"


def _parse_places(value: object) -> Places:
    """As `_places_text` wrote them. Raises ValueError."""
    return tuple(_parse_seq(part) for part in parse_any_text(value).split("."))


def _parse_seq(value: object) -> int:
    return count_parser(0, 2**62)(parse_any_text(value))


def _amount(meter: str, amount: int, book: Book) -> int | str:
    return json_amount(amount, book.decimals_of(meter))
