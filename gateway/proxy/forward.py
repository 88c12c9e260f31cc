"""Forward: the request to the backend, the answer to the client, both as streams.

Question: what came of the exchange with the backend? Invariants: the event is
in the journal before the last byte goes to the client; an answer that broke
off is never ended cleanly; a request is sent twice only when it is safe to.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.outcomes import (
    BODY_ERROR,
    CHARGED,
    CLIENT_GONE,
    UPLOAD_ABORTED,
    UPSTREAM_ERROR,
    UPSTREAM_TIMEOUT,
)
from gateway.core.refusals import Refusal
from gateway.proxy.answer import connection_line, date_line, status_line
from gateway.proxy.answer_memo import AnswerMemo
from gateway.proxy.exchange import NO_BODY, Exchange
from gateway.proxy.limit_set import admitted_head
from gateway.proxy.outcome import Failure, Settle
from gateway.proxy.pool import Pool, Unreachable
from gateway.proxy.request_head import request_head
from gateway.proxy.ticker import ticks
from gateway.proxy.upload import NO_UPLOAD, NoUpload, Upload
from gateway.proxy.upstream import UpstreamConnection
from gateway.proxy.websocket import tunnel

# Sending these again does what sending them once did (RFC 9110 9.2.2).
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
# How the backend's failures are told to the client, and what the event says.
FAILURES = {
    "timeout": UPSTREAM_TIMEOUT,
    "closed": UPSTREAM_ERROR,
    "bad_answer": UPSTREAM_ERROR,
}


async def forward(x: Exchange, pool: Pool, settle: Settle) -> Failure | None:
    """Carry one admitted request through; None when an answer was begun.

    `settle(x, outcome)` is called once, before the last byte; not for a Failure.
    """
    upload = NO_UPLOAD if x.body_length == NO_BODY else Upload(x)
    data = request_head(x) + upload.take_whole()
    if x.body_error is not None:
        return Failure(BODY_ERROR, Refusal(x.body_error))
    upstream = pool.take_idle()
    x.sent_us = x.time_us
    is_first = True
    try:
        while True:
            if upstream is None:
                # A task of its own, for its timeout (docs/decisions/0002).
                upstream = await pool.loop.create_task(pool.connect())
                x.sent_us = x.connection.server.now_us()
            if x.connection.transport is None:
                return Failure(UPLOAD_ABORTED, None)
            _begin(x, pool, upstream, data)
            upload.start(upstream)
            await upstream.wait()
            if not (upstream.error and is_first and _may_repeat(x, upstream, upload)):
                break
            upstream, is_first = None, False
        if upstream.complete and not upstream.interims and upstream.status != 101:
            await _answer(x, upstream, upload, settle)
            return None
        return await _relay(x, upstream, upload, settle)
    except Unreachable as exc:
        x.connection.server.proxy.tally.trouble(exc.code, exc)
        return Failure(exc.code, Refusal(exc.code))
    finally:
        x.connection.upstream = None
        if upload.task is not None:
            await upload.stop()
        if upstream is not None:
            _give_back(pool, upstream, upload)


def _begin(x: Exchange, pool: Pool, upstream: UpstreamConnection, data: bytes) -> None:
    """Send the head and what there is of the body at the end of this turn."""
    upstream.begin(x.method)
    upstream.resume = x.connection.resume
    upstream.deadline = pool.read_deadline()
    if pool.upstream.total_timeout_s is not None:
        upstream.total_deadline = pool.ticker.now + ticks(pool.upstream.total_timeout_s)
    if x.measure is not None and x.measure.price.reads_answer:
        upstream.drain_s = x.route.drain_timeout_s
    x.connection.upstream = upstream
    assert upstream.transport is not None
    x.connection.server.outbox.put(upstream.transport, data)


def _may_repeat(x: Exchange, upstream: UpstreamConnection, upload: Upload | NoUpload) -> bool:
    """Whether a kept connection was just closed under a request that can be sent again."""
    return (
        upstream.error == "closed"
        and upstream.is_reused
        and not upstream.got_bytes
        and upload.is_done
        and upload.task is None
        and x.method in IDEMPOTENT
        and not x.is_websocket
    )


def _give_back(pool: Pool, upstream: UpstreamConnection, upload: Upload | NoUpload) -> None:
    if upload.is_done:
        pool.release(upstream)
    else:
        upstream.fail("abandoned")


async def _relay(
    x: Exchange, upstream: UpstreamConnection, upload: Upload | NoUpload, settle: Settle
) -> Failure | None:
    """An answer that is not whole yet: interim heads, the head, the first of the body."""
    while not (upstream.head_done or upstream.complete or upstream.error):
        _interims(x, upstream, upload)
        await upstream.wait()
    _interims(x, upstream, upload)
    failure = _failed(x, upstream, upload)
    # A head with a length waits for the body's first bytes: until then an error can be told.
    while failure is None and not (upstream.chunks or upstream.complete or upstream.length < 0):
        await upstream.wait()
        failure = _failed(x, upstream, upload)
    if failure is not None:
        return failure
    if upstream.status == 101:
        return await tunnel(x, upstream, settle)
    await _answer(x, upstream, upload, settle)
    return None


async def _answer(
    x: Exchange, upstream: UpstreamConnection, upload: Upload | NoUpload, settle: Settle
) -> None:
    """Settle and write: all at once when the backend has answered in full, or as a stream."""
    x.status = upstream.status
    if not upload.is_done:
        x.keep_alive = False  # the rest of the body is not worth waiting for
    if x.measure is not None:
        x.measure.watch(upstream)
    if upstream.memo is not None and x.is_http11 and x.keep_alive:
        answer = _known(x, upstream, upstream.memo)
    elif upstream.complete:
        answer = _whole(x, upstream, _choose_framing(x, upstream))
    else:
        x.answered_us = x.connection.server.now_us()
        await _stream(x, upstream, _choose_framing(x, upstream), settle)
        return
    on_disk = settle(x, CHARGED if x.connection.transport is not None else CLIENT_GONE)
    if on_disk is not None:
        await on_disk
    x.connection.write_soon(answer)


def _failed(x: Exchange, upstream: UpstreamConnection, upload: Upload | NoUpload) -> Failure | None:
    """What a failed exchange is, as long as the client has seen nothing of it."""
    if x.body_error is not None:
        return Failure(BODY_ERROR, Refusal(x.body_error))
    if not upstream.error:
        return None
    # Nobody was there to wait longer for an answer that was read on without the client.
    alone = upstream.error == "timeout" and x.connection.transport is None
    if upstream.error == "client_gone" or alone:
        return Failure(CLIENT_GONE if upload.is_done else UPLOAD_ABORTED, None)
    code = FAILURES.get(upstream.error, UPSTREAM_ERROR)
    return Failure(code, Refusal(code))


def _interims(x: Exchange, upstream: UpstreamConnection, upload: Upload | NoUpload) -> None:
    """Pass on 1xx answers; 100 opens the client's body and is never sent unasked."""
    for status, reason, lines in upstream.interims:
        if status == 100:
            upload.go_on()
        if x.is_http11 and (status != 100 or x.expects_continue):
            x.connection.write(b"".join((status_line(status, reason), *lines, b"\r\n")))
            if status == 100:
                x.expects_continue = False
    upstream.interims.clear()


class Framing(NamedTuple):
    """How the answer's body is delimited for this client."""

    lines: bytes
    is_chunked: bool
    has_body: bool


def _choose_framing(x: Exchange, upstream: UpstreamConnection) -> Framing:
    status = upstream.status
    bodyless = x.method == "HEAD" or status in (204, 304)
    if upstream.length >= 0:
        # 204 has no Content-Length (RFC 9110 8.6); HEAD and 304 tell what GET would.
        line = b"" if status == 204 else b"Content-Length: %d\r\n" % upstream.length
        return Framing(line, False, not bodyless)
    if bodyless:
        if upstream.is_chunked and x.method == "HEAD" and x.is_http11:
            return Framing(b"Transfer-Encoding: chunked\r\n", False, False)
        return Framing(b"", False, False)
    if x.is_http11:
        return Framing(b"Transfer-Encoding: chunked\r\n", True, True)
    x.keep_alive = False
    return Framing(b"", False, True)


def _head(x: Exchange, upstream: UpstreamConnection, framing: Framing) -> bytes:
    x.head_sent = True
    head = _static_head(x, upstream, framing) + admitted_head(x)
    if not upstream.has_date:
        head += date_line()
    return b"%b%b\r\n" % (head, connection_line(x.is_http11, x.keep_alive))


def _static_head(x: Exchange, upstream: UpstreamConnection, framing: Framing) -> bytes:
    """What depends only on the backend's head and on the book."""
    parts = [status_line(upstream.status, upstream.reason), *upstream.lines]
    for pair in x.route.upstream.response_headers.set:
        parts.append(b"%b: %b\r\n" % pair)
    parts.append(x.book.response_headers.via_line)
    parts.append(framing.lines)
    return b"".join(parts)


def _known(x: Exchange, upstream: UpstreamConnection, memo: AnswerMemo) -> bytes:
    """The bytes of a complete answer whose head is the pool's last one."""
    via_line = x.book.response_headers.via_line
    if memo.via is not via_line:
        framing = Framing(b"Content-Length: %d\r\n" % memo.length, False, True)
        memo.block = _static_head(x, upstream, framing)
        memo.via = via_line
    x.head_sent = True
    body = _take_whole(x, upstream)
    return b"%b%b\r\n%b" % (memo.block, admitted_head(x), body)


def _whole(x: Exchange, upstream: UpstreamConnection, framing: Framing) -> bytes:
    """The bytes of an answer that is complete."""
    head = _head(x, upstream, framing)
    if not framing.has_body:
        return head
    body = _take_whole(x, upstream)
    if framing.is_chunked:
        body = _chunk(body) + _last_chunk(upstream)
    return head + body


def _take_whole(x: Exchange, upstream: UpstreamConnection) -> bytes:
    body = upstream.take()
    x.bytes_out = len(body)
    if x.measure is not None:
        x.measure.feed(body)
    return body


async def _stream(
    x: Exchange, upstream: UpstreamConnection, framing: Framing, settle: Settle
) -> None:
    """Pass the body on as it comes, no faster than the client reads."""
    client = x.connection
    client.write(_head(x, upstream, framing))
    while not upstream.complete and not upstream.error:
        data = upstream.take()
        if data:
            _count(x, data)
            client.write(_chunk(data) if framing.is_chunked else data)
            if client.writing_paused:
                await _wait_for_client(x, upstream)
        await upstream.wait()
    data = upstream.take()
    if x.measure is not None:
        x.measure.feed(data)
    if upstream.error or client.transport is None:
        settle(x, _broken(x, upstream))
        _abort(x)
        return
    x.bytes_out += len(data)
    if framing.is_chunked:
        data = _chunk(data) + _last_chunk(upstream)
    on_disk = settle(x, CHARGED)
    if on_disk is not None:
        await on_disk
    client.write(data)
    if not await client.drain():
        x.keep_alive = False


def _count(x: Exchange, data: bytes) -> None:
    """A piece of the body passes; what a client that has gone does not get is no traffic."""
    if x.connection.transport is not None:
        x.bytes_out += len(data)
    if x.measure is not None:
        x.measure.feed(data)


def _broken(x: Exchange, upstream: UpstreamConnection) -> str:
    # Who spoils the rest of its request has gone, as far as the answer is concerned.
    if x.connection.transport is None or upstream.error in ("", "client_gone", "body_error"):
        return CLIENT_GONE
    return FAILURES.get(upstream.error, UPSTREAM_ERROR)


def _abort(x: Exchange) -> None:
    """Break the client's connection, so that nobody takes the part for the whole."""
    x.keep_alive = False
    if x.connection.transport is not None:
        x.connection.transport.abort()


async def _wait_for_client(x: Exchange, upstream: UpstreamConnection) -> None:
    transport = upstream.transport
    if transport is not None and not transport.is_closing():
        transport.pause_reading()
        deadline, upstream.deadline = upstream.deadline, 1 << 62
        if not await x.connection.drain():
            upstream.client_gone()
            return
        upstream.deadline = deadline
        if not transport.is_closing():
            transport.resume_reading()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _last_chunk(upstream: UpstreamConnection) -> bytes:
    return b"0\r\n%b\r\n" % b"".join(upstream.trailers)
