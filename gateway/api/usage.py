"""The callers' own usage, on the proxy's listener: never charged, never another's.

`summary` and `activity` answer GET and HEAD at the paths of the configuration's
usage_api. A caller is an account with a key, or with a session; who has no
account is told 401. Reading happens in a thread, so that no other request waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl

from gateway.api.figures import SHIP_WAIT_S, Asker, usage_document
from gateway.api.place import Gateway, LivePlace
from gateway.api.reports import event_document
from gateway.core.refusals import Refusal
from gateway.proxy.answer import json_answer, refusal_answer
from gateway.proxy.exchange import Exchange
from gateway.proxy.identify import UNAUTHORIZED
from gateway.proxy.tally import Tally
from gateway.store.reports import read_activity
from gateway.usage.activity import Query, encode_cursor, parse_query

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

    async def _answer(self, x: Exchange, read: Callable[[], Any]) -> bytes:
        """The document as HTTP, or why there is none."""
        if x.method not in ("GET", "HEAD"):
            return self._refuse(x, WRONG_METHOD)
        if x.caller.kind == "anonymous" or not x.caller.account.account.id:
            return self._refuse(x, UNAUTHORIZED)
        if not x.payload.is_eof():
            x.keep_alive = False  # nobody reads the body of such a request
        async with self._reads:
            return json_answer(x, 200, await asyncio.to_thread(read))

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
        self._place.wait_shipped(SHIP_WAIT_S, state.last_seq)
        page = self._place.read(
            lambda connection: read_activity(
                connection, state.account.id, query.wanted, query.limit, query.after
            )
        )
        return {
            "items": [event_document(event, x.book) for event in page.events],
            "next": encode_cursor(page.next) if page.next else None,
        }


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
