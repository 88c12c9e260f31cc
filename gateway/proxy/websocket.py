"""WebSocket: the opening handshake, then bytes to and fro.

The tunnel opens only after the backend's 101 with the right
Sec-WebSocket-Accept; any other answer is relayed as an ordinary one. With a
fixed price a connection is one event, charged when it opens and written when
it ends. With a measured one it is charged for what passed every
`route.interval_s` while it is open, each time as an event of its own
(outcome `continued` after the first), and ends when a limit refuses to go on.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

from gateway.core.outcomes import CHARGED, CONTINUED, UPSTREAM_ERROR
from gateway.core.refusals import Refusal
from gateway.proxy.exchange import Exchange
from gateway.proxy.frames import FrameCounter
from gateway.proxy.limit_set import admitted_head
from gateway.proxy.outcome import Failure, Settle
from gateway.proxy.upstream import UpstreamConnection

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_POLICY_VIOLATION = 1008  # RFC 6455 7.4.1


async def tunnel(x: Exchange, upstream: UpstreamConnection, settle: Settle) -> Failure | None:
    """Serve an upgraded connection until either side closes it."""
    if not x.is_websocket or not _is_accepted(x, upstream):
        upstream.fail("bad_answer")
        return Failure(UPSTREAM_ERROR, Refusal("upstream_error"))
    _open(x, upstream)
    if x.measure is not None:
        refusal = await _measured(x, upstream)
        if refusal is not None:
            _refuse(x, upstream, refusal)
            return None
    while not (upstream.error or upstream.complete):
        await upstream.wait()
    _count(x, upstream)
    on_disk = settle(x, CHARGED if x.measure is None or not x.measure.is_further else CONTINUED)
    if on_disk is not None:
        await on_disk
    if x.connection.transport is not None:
        x.connection.transport.close()
    return None


def _open(x: Exchange, upstream: UpstreamConnection) -> None:
    """Tell the client, and connect the two sides."""
    client = x.connection
    upstream.complete = False  # the handshake is; the exchange has only begun
    x.status = 101
    x.answered_us = client.server.now_us()
    x.keep_alive = False
    head = b"".join(
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            *upstream.lines,
            admitted_head(x),
            b"\r\n",
        )
    )
    x.head_sent = True
    client.write(head + upstream.tunnel_data)
    upstream.received = len(upstream.tunnel_data)
    tail = client.take_tail()
    client.tunnel_in = len(tail)
    if x.measure is not None:
        x.measure.watch(upstream)
        client.frames, upstream.frames = FrameCounter(), FrameCounter()
        client.frames.feed(tail)
        upstream.frames.feed(upstream.tunnel_data)
    client.open_tunnel(upstream)
    if tail and upstream.transport is not None:
        upstream.transport.write(tail)


async def _measured(x: Exchange, upstream: UpstreamConnection) -> Refusal | None:
    """Charge every interval while both sides are there; why it may not go on."""
    proxy = x.connection.server.proxy
    while not (upstream.error or upstream.complete):
        await _pass(x, upstream)
        if not (upstream.error or upstream.complete):
            _count(x, upstream)
            refusal = await proxy.renew(x)
            if refusal is not None:
                return refusal
    return None


async def _pass(x: Exchange, upstream: UpstreamConnection) -> None:
    """An interval, or less when a side has gone. A timer's word counts, not the clock's:
    the loop may call it a little early.
    """
    is_over = False

    def ring() -> None:
        nonlocal is_over
        is_over = True
        upstream.nudge()

    timer = upstream.pool.loop.call_later(x.route.interval_s, ring)
    try:
        while not (is_over or upstream.error or upstream.complete):
            await upstream.wait()
    finally:
        timer.cancel()


def _count(x: Exchange, upstream: UpstreamConnection) -> None:
    """What has passed since the last event."""
    client = x.connection
    x.bytes_in, client.tunnel_in = client.tunnel_in, 0
    x.bytes_out, upstream.received = upstream.received, 0
    if x.measure is not None and client.frames is not None and upstream.frames is not None:
        x.measure.socket_bytes = x.bytes_in + x.bytes_out
        x.measure.socket_messages = client.frames.take() + upstream.frames.take()


def _refuse(x: Exchange, upstream: UpstreamConnection, refusal: Refusal) -> None:
    """End both sides; the client is told why where a frame may be put in."""
    between = upstream.frames is not None and upstream.frames.is_between_frames
    reason = refusal.code.encode()
    if between:
        frame = bytes((0x88, 2 + len(reason))) + _POLICY_VIOLATION.to_bytes(2, "big") + reason
        x.connection.write(frame)
    upstream.fail("refused")
    if x.connection.transport is not None:
        x.connection.transport.close()


def _is_accepted(x: Exchange, upstream: UpstreamConnection) -> bool:
    key = x.headers["Sec-WebSocket-Key"].encode()
    wanted = b64encode(sha1(key + _GUID).digest())
    prefix = b"sec-websocket-accept: "
    given = [
        line[len(prefix) :].strip() for line in upstream.lines if line.lower().startswith(prefix)
    ]
    return given == [wanted]
