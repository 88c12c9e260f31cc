"""The callers' own usage, on the proxy's listener: never charged, never another's.

Answers GET and HEAD at the paths of the configuration's usage_api and views. A
caller is an account with a key, or with a session; who has no account is told
401. Reading happens in a thread, so that no other request waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, closing
from typing import Any, Protocol
from urllib.parse import parse_qsl

from gateway.api.fields import Fields
from gateway.api.figures import SUMMARY_WAIT_S, Asker, usage_document
from gateway.api.place import Gateway, LivePlace
from gateway.api.problem import ApiProblem, expected
from gateway.api.reports import (
    STATEMENT_FIELDS,
    STATEMENTS,
    event_document,
    instant_or_none,
)
from gateway.api.views import Names, chosen_parameters, render
from gateway.core.book import Book, View
from gateway.core.instants import iso
from gateway.core.periods import MONTH
from gateway.core.refusals import Refusal
from gateway.proxy.answer import csv_head, json_answer, refusal_answer
from gateway.proxy.exchange import Exchange
from gateway.proxy.identify import UNAUTHORIZED
from gateway.proxy.own import OwnAnswer
from gateway.proxy.tally import Tally
from gateway.store.base import StoreError
from gateway.store.database import ERRORS, Database
from gateway.store.removal import removed_until_us
from gateway.store.reports import read_activity
from gateway.store.stream import stream_events
from gateway.store.sums import read_requests
from gateway.usage.activity import Query, encode_cursor, parse_query
from gateway.usage.export import ExportQuery, csv_pieces, parse_export

# Reads at once: each takes a thread and a connection to the store. More wait.
READS_MAX = 8
# What a caller can be shown of, by kind; a route's limit needs a route.
SUBJECTS = frozenset({"key", "account", "user", "project", "source"})

WRONG_METHOD = Refusal("method_not_allowed", headers=(("Allow", "GET, HEAD"),))


class ServingGateway(Gateway, Protocol):
    """What is asked of a running gateway, beside what operations ask."""

    tally: Tally


class UsageApi:
    """The answers of one gateway. Its parts are taken when a request comes, not before."""

    def __init__(self, gateway: ServingGateway) -> None:
        self._gateway = gateway
        self._place = LivePlace(gateway)
        self._reads = asyncio.Semaphore(READS_MAX)

    def paths(self, book: Book) -> dict[str, OwnAnswer]:
        """Our paths of a book."""
        api = book.usage_api
        if not api.enabled:
            return {}
        base = api.summary_path
        return {
            base: self.summary,
            api.activity_path: self.activity,
            api.export_path: self.export,
            f"{base}/history": self._statement("history"),
            f"{base}/breakdown": self._statement("breakdown"),
            f"{base}/invoice": self._statement("invoice"),
        }

    def views(self, book: Book) -> dict[str, OwnAnswer]:
        """The operator's own shapes, by path template."""
        return {view.path: self._view(view) for view in book.views}

    async def summary(self, x: Exchange) -> bytes:
        """GET /v1/usage: balances, breakdown and rate limits of the current periods."""
        return await self._answer(x, lambda: self._read_summary(x))

    async def activity(self, x: Exchange) -> bytes:
        """GET /v1/usage/activity: the account's events, newest first."""
        try:
            query = parse_query(_parameters(x.query))
        except ValueError as exc:
            return self._refuse(x, Refusal("bad_request", detail=str(exc)))
        return await self._answer(x, lambda: self._read_activity(x, query))

    async def export(self, x: Exchange) -> bytes | AsyncGenerator[bytes, None]:
        """GET /v1/usage/export: the account's events as CSV, oldest first, as a stream."""
        refused = self._stranger(x)
        if refused is not None:
            return refused
        try:
            query = parse_export(_parameters(x.query), x.book.meters)
        except ValueError as exc:
            return self._refuse(x, Refusal("bad_request", detail=str(exc)))
        pieces = self._csv(x, query)
        try:
            first = await anext(pieces)  # what goes wrong here can still be said
        except (ApiProblem, StoreError, *ERRORS) as exc:
            return self._why_not(x, exc)
        return self._framed(x, first, pieces)

    async def _csv(self, x: Exchange, query: ExportQuery) -> AsyncGenerator[bytes, None]:
        """The file. A thread is taken for each piece only, for a client may read slowly."""
        state = x.caller.account
        async with self._reads:
            await asyncio.to_thread(self._place.wait_shipped, SUMMARY_WAIT_S, state.last_seq)
            connection = await asyncio.to_thread(self._place.reader)
        with closing(connection):
            await asyncio.to_thread(_refuse_removed, connection, query)
            events = stream_events(connection, state.account.id, query.wanted)
            pieces = csv_pieces(events, query)
            while True:
                async with self._reads:
                    piece = await asyncio.to_thread(next, pieces, b"")
                if not piece:
                    return
                yield piece

    async def _framed(
        self, x: Exchange, first: bytes, pieces: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Head and body. The body ends with the connection for HTTP/1.0, with a chunk for 1.1."""
        is_chunked = x.is_http11
        x.keep_alive = x.keep_alive and is_chunked
        async with aclosing(pieces):
            yield csv_head(x, is_chunked)
            if x.method == "HEAD":
                return
            piece = first
            while piece:
                yield b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
                piece = await anext(pieces, b"")
        if is_chunked:
            yield b"0\r\n\r\n"

    def _statement(self, name: str) -> OwnAnswer:
        """History, breakdown or invoice of the caller's own account."""

        async def answer(x: Exchange) -> bytes:
            try:
                fields = Fields(_parameters(x.query), STATEMENT_FIELDS[name], "parameter")
            except (ValueError, ApiProblem) as exc:
                return self._refuse(x, Refusal("bad_request", detail=str(exc)))
            make = STATEMENTS[name]
            return await self._answer(
                x, lambda: make(self._place, x.caller.account, x.book, fields, x.time_us)
            )

        return answer

    def _view(self, view: View) -> OwnAnswer:
        async def answer(x: Exchange) -> bytes:
            try:
                chosen = chosen_parameters(view, _parameters(x.query))
            except ValueError as exc:
                return self._refuse(x, Refusal("bad_request", detail=str(exc)))
            headers: dict[str, str] = {}

            def read() -> object:
                body, more = render(view, self._names(x, {**x.parameters, **chosen}))
                headers.update(more)
                return body

            return await self._answer(x, read, headers)

        return answer

    def _names(self, x: Exchange, given: Mapping[str, str]) -> Names:
        """What a view's names stand for now."""
        usage = self._read_summary(x)
        account = x.caller.account.account
        month = MONTH.span(x.time_us, 0)
        rows = self._place.read(
            lambda c: read_requests(c, account.id, month.start_us, month.end_us)
        )
        return Names(usage, x.book, rows, x.time_us, given)

    async def _answer(
        self, x: Exchange, read: Callable[[], Any], headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The document as HTTP, or why there is none."""
        refused = self._stranger(x)
        if refused is not None:
            return refused
        try:
            async with self._reads:
                document = await asyncio.to_thread(read)
        except (ApiProblem, StoreError, *ERRORS) as exc:
            return self._why_not(x, exc)
        lines = [f"{name}: {value}\r\n".encode() for name, value in (headers or {}).items()]
        return json_answer(x, 200, document, b"".join(lines))

    def _why_not(self, x: Exchange, exc: Exception) -> bytes:
        if isinstance(exc, ApiProblem) and exc.status < 500:
            return self._refuse(x, Refusal("bad_request", detail=exc.detail))
        self._gateway.tally.trouble("store_unavailable", exc)
        return self._refuse(x, Refusal("store_unavailable", retry_after_s=1))

    def _stranger(self, x: Exchange) -> bytes | None:
        """Why a request gets no figures; None when it does."""
        if x.method not in ("GET", "HEAD"):
            return self._refuse(x, WRONG_METHOD)
        if x.caller.kind == "anonymous" or not x.caller.account.account.id:
            return self._refuse(x, UNAUTHORIZED)
        if x.caller.account.account.disabled:
            return self._refuse(x, Refusal("account_disabled"))
        if not x.payload.is_eof():
            x.keep_alive = False  # nobody reads the body of such a request
        return None

    def _refuse(self, x: Exchange, refusal: Refusal) -> bytes:
        if not x.payload.is_eof():
            x.keep_alive = False
        self._gateway.tally.refused(x, refusal)
        return refusal_answer(
            refusal,
            book=x.book,
            request_id=x.request_id,
            method=x.method,
            is_http11=x.is_http11,
            keep_alive=x.keep_alive,
        )

    def _read_summary(self, x: Exchange) -> dict[str, Any]:
        asker = Asker(
            account=x.caller.account,
            key_id=x.caller.key_id,
            user=x.caller.user,
            project=x.caller.project,
            source=x.source,
            subjects=SUBJECTS,
            time_us=x.time_us,
        )
        return usage_document(self._place, asker)

    def _read_activity(self, x: Exchange, query: Query) -> dict[str, Any]:
        state = x.caller.account
        self._place.wait_shipped(SUMMARY_WAIT_S, state.last_seq)
        page, until_us = self._place.read(
            lambda connection: (
                read_activity(connection, state.account.id, query.wanted, query.limit, query.after),
                removed_until_us(connection),
            )
        )
        return {
            "items": [event_document(event, x.book) for event in page.events],
            "next": encode_cursor(page.next) if page.next else None,
            "removed_until": instant_or_none(until_us),
        }


def _refuse_removed(connection: Database, query: ExportQuery) -> None:
    """A file with a part of what was asked for would be taken for all of it."""
    until_us, from_us = removed_until_us(connection), query.wanted.from_us
    if until_us is not None and from_us is not None and from_us < until_us:
        wanted = f"{iso(until_us)} or later, for what was before is no longer kept one by one"
        raise expected("from", wanted, iso(from_us))


def _parameters(query: str | None) -> dict[str, str]:
    """Decoded query parameters. Raises ValueError for a repeated or undecodable one."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise ValueError("the query has too many parameters, or is not UTF-8") from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters:
            raise ValueError(f"{name[:64]}: expected once, found twice")
        parameters[name] = value
    return parameters
