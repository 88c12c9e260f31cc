"""The operator's API on the admin listener: /admin/v1/..., JSON in and out.

Mounts the table of gateway/api/endpoints.py on aiohttp. Invariant: nothing runs
without an operator's token; there is no default token, no cookie and no CORS, so
no web page can speak for an operator. Must not decide anything itself.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Protocol

import orjson
from aiohttp import web

from gateway.api.endpoints import ENDPOINTS, PREFIX, Endpoint, perform
from gateway.api.fields import count_parser, parse_value
from gateway.api.openapi import openapi_document
from gateway.api.operations import Call, Operations, Operator, Reply
from gateway.api.place import Gateway, LivePlace
from gateway.api.problem import ApiProblem
from gateway.api.reports import WAIT_MAX_S
from gateway.core.book import Book
from gateway.core.version import installed_version
from gateway.proxy.tally import Tally
from gateway.state.shared.link import StateUnavailable
from gateway.store.base import StoreError
from gateway.store.database import ERRORS

BODY_BYTES_MAX = 65_536  # a key with 1,000 routes has about 40 KB
# At once: each takes one of the threads that callers' own usage is read in, too.
CALLS_MAX = 4
POLL_S = 0.2  # while an answer is held back; the shipper's pause is as long
OPERATOR_HEADER = "X-Operator"  # the command line says which user of the machine it is

Log = Callable[..., object]


class AdminGateway(Gateway, Protocol):
    """What is asked of a running gateway, beside what operations ask."""

    is_draining: bool

    tally: Tally

    @property
    def log(self) -> Log: ...


class Tokens:
    """Who may come in: the command line of this machine by its control token, and operators."""

    def __init__(self, control_token: str) -> None:
        assert len(control_token) >= 32, "a guessable token"
        self._control = sha256(control_token.encode()).digest()

    def operator(self, request: web.Request, book: Book) -> Operator | None:
        """The operator of a request's token, None when it has no right one."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        if scheme.lower() != "bearer":
            return None
        for digest, found in book.operators.items():
            if hmac.compare_digest(given, digest):
                return Operator(found.name, request.remote or "", found.role)
        if not hmac.compare_digest(given, self._control):
            return None
        name = request.headers.get(OPERATOR_HEADER, "")
        shown = name if name.isascii() and name.isprintable() and len(name) <= 64 else ""
        return Operator(f"cli:{shown or 'unknown'}", request.remote or "", "admin")


def add_admin_routes(app: web.Application, gateway: AdminGateway, token: str) -> None:
    """Mount the operator's API for holders of the token."""
    api = _AdminApi(gateway, Tokens(token))
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, PREFIX + endpoint.path, api.handler(endpoint))
    for path in ("/openapi.json", PREFIX + "/openapi.json"):
        app.router.add_get(path, api.openapi)
    app.router.add_route("*", PREFIX, api.nowhere)
    app.router.add_route("*", PREFIX + "/{rest:.*}", api.nowhere)


class _AdminApi:
    def __init__(self, gateway: AdminGateway, tokens: Tokens) -> None:
        self._gateway = gateway
        self._tokens = tokens
        self._operations = Operations(LivePlace(gateway))
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._document = openapi_document(installed_version())

    def handler(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return await self._answer(request, lambda who: self._call(request, endpoint, who))

        return handle

    async def nowhere(self, request: web.Request) -> web.Response:
        """A path or method that is not in the table; strangers are not told which."""
        return await self._answer(request, lambda _: self._missed(request))

    async def openapi(self, request: web.Request) -> web.Response:
        """The description of this API; it holds no secret and needs no token."""
        return web.Response(body=orjson.dumps(self._document), content_type="application/json")

    async def _answer(
        self, request: web.Request, run: Callable[[Operator], Awaitable[Reply]]
    ) -> web.Response:
        """One place turns what happens into HTTP."""
        request_id = secrets.token_hex(8)
        headers = {"X-Request-Id": request_id, "Cache-Control": "no-store"}
        try:
            operator = self._tokens.operator(request, self._gateway.book)
            if operator is None:
                headers["WWW-Authenticate"] = "Bearer"
                raise ApiProblem("unauthorized", "expected 'Authorization: Bearer TOKEN'")
            reply = await run(operator)
            return web.Response(
                status=reply.status,
                body=orjson.dumps(reply.document),
                content_type="application/json",
                headers=headers,
            )
        except ApiProblem as exc:
            problem = exc
        except (StoreError, StateUnavailable) as exc:
            problem = ApiProblem("store_unavailable", str(exc))
        except ERRORS as exc:
            problem = ApiProblem("store_unavailable", f"the gateway cannot reach its store: {exc}")
        except Exception as exc:
            self._gateway.tally.internal_errors += 1
            self._gateway.log("admin_error", level="error", request_id=request_id, exc_info=exc)
            problem = ApiProblem("internal_error", "see the gateway's log for this request id")
        if problem.code == "store_unavailable":
            self._gateway.tally.trouble(problem.code, problem)
        if problem.allow:
            headers["Allow"] = ", ".join(problem.allow)
        return web.Response(
            status=problem.status,
            body=orjson.dumps(problem.document(request_id)),
            content_type="application/problem+json",
            headers=headers,
        )

    async def _call(self, request: web.Request, endpoint: Endpoint, operator: Operator) -> Reply:
        call = Call(
            operator=operator,
            params=request.match_info,
            query=_query(request),
            body=await _body(request) if request.method in ("POST", "PATCH", "PUT") else {},
            idempotency_key=_idempotency_key(request),
        )
        wait_s = _wait_s(call.query) if endpoint.may_wait else 0
        give_up_s = time.monotonic() + wait_s
        while True:
            async with self._calls:
                reply = await asyncio.to_thread(perform, endpoint, self._operations, call)
            late = time.monotonic() + POLL_S > give_up_s
            if reply.document.get("items") or late or self._gateway.is_draining:
                return reply
            await asyncio.sleep(POLL_S)

    async def _missed(self, request: web.Request) -> Reply:
        allowed = sorted(
            endpoint.method
            for endpoint in ENDPOINTS
            if _same_shape(PREFIX + endpoint.path, request.rel_url.raw_path)
        )
        if allowed:
            text = f"expected {' or '.join(allowed)}, found {request.method}"
            raise ApiProblem("method_not_allowed", text, allow=tuple(allowed))
        raise ApiProblem("not_found", f"there is nothing at {request.path}")


def _same_shape(template: str, path: str) -> bool:
    wanted, found = template.split("/"), path.split("/")
    return len(wanted) == len(found) and all(
        name == text or (name.startswith("{") and text)
        for name, text in zip(wanted, found, strict=True)
    )


def _query(request: web.Request) -> dict[str, str]:
    query = dict(request.query)
    if len(query) != len(request.query):
        raise ApiProblem("invalid_parameter", "a query parameter stands twice")
    return query


def _wait_s(query: Mapping[str, str]) -> int:
    if "wait" not in query:
        return 0
    if "after" not in query:
        raise ApiProblem(
            "invalid_parameter", "wait: expected together with after", parameter="wait"
        )
    return parse_value("wait", query["wait"], count_parser(0, WAIT_MAX_S))


def _idempotency_key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not 0 < len(key) <= 200 or not key.isascii() or not key.isprintable():
        text = "Idempotency-Key: expected 1 to 200 printable ASCII characters"
        raise ApiProblem("invalid_parameter", text, parameter="Idempotency-Key")
    return key


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object of a body; none at all is an empty one."""
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > BODY_BYTES_MAX:
            text = f"expected at most {BODY_BYTES_MAX:,} bytes"
            raise ApiProblem("body_too_large", text)
    if not data:
        return {}
    try:
        body = json.loads(data, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ApiProblem("invalid_body", f"expected a JSON object: {exc}") from None
    if not isinstance(body, dict):
        raise ApiProblem("invalid_body", "expected a JSON object")
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiProblem("invalid_body", "expected whole characters: found half of one") from None
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers disagree on which of two equal names counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
