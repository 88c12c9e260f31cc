"""WebSocket: the opening handshake, then bytes to and fro.

The tunnel opens only after the backend's 101 with the right
Sec-WebSocket-Accept; any other answer is relayed as an ordinary one. A
connection is one event, charged when it opens and written when it ends.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

from gateway.core.refusals import Refusal
from gateway.proxy.exchange import Exchange
from gateway.proxy.limit_set import admitted_head
from gateway.proxy.outcome import Failure, Settle
from gateway.proxy.upstream import UpstreamConnection

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


async def tunnel(x: Exchange, upstream: UpstreamConnection, settle: Settle) -> Failure | None:
    """Serve an upgraded connection until either side closes it."""
    if not x.is_websocket or not _is_accepted(x, upstream):
        upstream.fail("bad_answer")
        return Failure("upstream_error", Refusal("upstream_error"))
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
    client.open_tunnel(upstream)
    if tail and upstream.transport is not None:
        upstream.transport.write(tail)
    while not (upstream.error or upstream.complete):
        await upstream.wait()
    x.bytes_in, x.bytes_out = client.tunnel_in, upstream.received
    on_disk = settle(x, "charged")
    if on_disk is not None:
        await on_disk
    if client.transport is not None:
        client.transport.close()
    return None


def _is_accepted(x: Exchange, upstream: UpstreamConnection) -> bool:
    key = x.headers["Sec-WebSocket-Key"].encode()
    wanted = b64encode(sha1(key + _GUID).digest())
    prefix = b"sec-websocket-accept: "
    given = [
        line[len(prefix) :].strip() for line in upstream.lines if line.lower().startswith(prefix)
    ]
    return given == [wanted]
