"""Answers as bytes: the gateway's own headers, refusals, and framing.

The one place that turns a refusal into HTTP. Built by hand because these bytes
are written once per request: a response object would cost more than the rest
of the answer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson

from gateway.core.book import Book, ErrorBody
from gateway.core.instants import iso
from gateway.core.refusals import KINDS, TYPE_BASE, Evaluated, Refusal
from gateway.core.units import format_amount
from gateway.proxy.exchange import Exchange

STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, reason.encode())
    for status, reason in [(s.value, s.phrase) for s in HTTPStatus]
}


def status_line(status: int, reason: bytes) -> bytes:
    """The status line; the backend's own reason where it gave one."""
    if reason or status not in STATUS_LINES:
        return b"HTTP/1.1 %d %b\r\n" % (status, reason)
    return STATUS_LINES[status]


def own_header_names(book: Book) -> frozenset[bytes]:
    """Names (lower case) that the backend may not send, because we do."""
    wanted = book.response_headers
    names: set[bytes] = set()
    if wanted.ratelimit:
        names |= {b"ratelimit", b"ratelimit-policy"}
    if wanted.x_ratelimit:
        names |= {b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"}
    if wanted.budget:
        names.add(b"x-budget-remaining")
    if wanted.request_id:
        names.add(b"x-request-id")
    return frozenset(names)


def connection_line(is_http11: bool, keep_alive: bool) -> bytes:
    """What HTTP/1.1 and 1.0 clients must be told about the connection."""
    if not keep_alive:
        return b"Connection: close\r\n"
    return b"" if is_http11 else b"Connection: keep-alive\r\n"


def json_answer(x: Exchange, status: int, document: Any, extra: bytes = b"") -> bytes:
    """An answer of our own API, whole."""
    body = b"" if x.method == "HEAD" else orjson.dumps(document)
    length = len(orjson.dumps(document))
    return b"".join(
        (
            status_line(status, b""),
            b"Content-Type: application/json\r\nContent-Length: %d\r\n" % length,
            b"Cache-Control: no-store\r\n",
            date_line(),
            extra,
            b"X-Request-Id: %b\r\n" % x.request_id.encode(),
            connection_line(x.is_http11, x.keep_alive),
            b"\r\n",
            body,
        )
    )


def csv_head(x: Exchange, is_chunked: bool) -> bytes:
    """The head of an export that follows in pieces."""
    framing = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    return b"".join(
        (
            status_line(200, b""),
            b"Content-Type: text/csv; charset=utf-8; header=present\r\n",
            b'Content-Disposition: attachment; filename="activity.csv"\r\n',
            b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n",
            framing,
            date_line(),
            b"X-Request-Id: %b\r\n" % x.request_id.encode(),
            connection_line(x.is_http11, x.keep_alive),
            b"\r\n",
        )
    )


def refusal_answer(
    refusal: Refusal,
    *,
    book: Book,
    request_id: str,
    method: str = "GET",
    is_http11: bool = True,
    keep_alive: bool = False,
) -> bytes:
    """A refusal as HTTP: RFC 9457 problem+json, or the operator's own body."""
    kind = KINDS[refusal.code]
    document = problem(refusal, book, request_id)
    override = book.errors.get(refusal.code)
    status = refusal.status or kind.status
    content_type, body = "application/problem+json", orjson.dumps(document)
    if override is not None:
        status = override.status or status
        content_type, body = override.content_type, _fill(override, document)
    lines = [status_line(status, b"")]
    for name, value in refusal.headers:
        lines.append(f"{name}: {value}\r\n".encode())
    if refusal.retry_after_s is not None:
        lines.append(b"Retry-After: %d\r\n" % refusal.retry_after_s)
    lines.append(_refused_ratelimit(refusal, book))
    lines.append(
        b"Content-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        % (content_type.encode(), len(body))
    )
    lines.append(date_line())
    lines.append(b"X-Request-Id: %b\r\n" % request_id.encode())
    lines.append(connection_line(is_http11, keep_alive))
    lines.append(b"\r\n")
    if method != "HEAD":
        lines.append(body)
    return b"".join(lines)


def refusal_status(refusal: Refusal, book: Book) -> int:
    """The status that `refusal_answer` gives."""
    override = book.errors.get(refusal.code)
    if override is not None and override.status is not None:
        return override.status
    return refusal.status or KINDS[refusal.code].status


def problem(refusal: Refusal, book: Book, request_id: str) -> dict[str, Any]:
    """The problem+json document (RFC 9457) of a refusal."""
    kind = KINDS[refusal.code]
    refusing = next((limit for limit in refusal.limits if limit.refused), None)
    document: dict[str, Any] = {
        "type": TYPE_BASE + refusal.code,
        "title": kind.title,
        "status": refusal_status(refusal, book),
        "detail": refusal.detail or _detail(refusing, kind.title),
        "code": refusal.code,
        "request_id": request_id,
        "remedy": kind.remedy,
    }
    if refusal.retry_after_s is not None:
        document["retry_after_s"] = refusal.retry_after_s
    if refusal.limits:
        document["limits"] = [_limit_row(limit, book) for limit in refusal.limits]
    if refusing is not None:
        document["refused_by"] = refusing.name
        document["resets_at"] = iso(refusing.reset_us)
    return document


def _detail(refusing: Evaluated | None, title: str) -> str:
    if refusing is None:
        return f"{title}."
    return f"{title}: {refusing.name} refuses until {iso(refusing.reset_us)}."


def _limit_row(limit: Evaluated, book: Book) -> dict[str, Any]:
    decimals = 0
    if limit.kind == "budget":
        decimals = book.meters[limit.meter].decimals

    def figure(value: int | str | None) -> int | str | None:
        if decimals == 0 or not isinstance(value, int):
            return value
        return format_amount(value, decimals)

    return {
        "name": limit.name,
        "kind": limit.kind,
        "limit": figure(limit.limit),
        "used": figure(limit.used),
        "remaining": figure(limit.remaining),
        "resets_at": iso(limit.reset_us),
        "refused": limit.refused,
    }


def _refused_ratelimit(refusal: Refusal, book: Book) -> bytes:
    """RateLimit of the limit that refused: what is left, and until when."""
    refusing = next((limit for limit in refusal.limits if limit.refused), None)
    if refusing is None or not book.response_headers.ratelimit:
        return b""
    left = 0
    if refusing.kind == "budget":
        whole = 10 ** book.meters[refusing.meter].decimals
        left = refusing.remaining // whole if isinstance(refusing.remaining, int) else 0
    wait_s = refusal.retry_after_s or 1
    return b'RateLimit: "%b";r=%d;t=%d\r\n' % (refusing.name.encode(), left, wait_s)


def _fill(override: ErrorBody, document: dict[str, Any]) -> bytes:
    """The operator's body with {fields} of the problem filled in, JSON-escaped."""
    body = override.body
    for name, value in document.items():
        if "{" + name + "}" in body:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            body = body.replace("{" + name + "}", orjson.dumps(text).decode()[1:-1])
    return body.encode()


class _DateLine:
    """The Date header of the current second."""

    second = 0
    line = b""


def date_line() -> bytes:
    """`Date: ...`, made once a second."""
    second = int(time.time())
    if second != _DateLine.second:
        _DateLine.line = (
            datetime.fromtimestamp(second, UTC)
            .strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n")
            .encode()
        )
        _DateLine.second = second
    return _DateLine.line
