"""Taking in a request body that a price looks into.

Question: is the body here, whole and within limits, and can it be read? The
exchange keeps it as it came, to be forwarded. Must not know what is priced by
it.
"""

from __future__ import annotations

import asyncio

from gateway.core.pricing import Unpriceable
from gateway.core.refusals import Refusal
from gateway.proxy.bodies import RequestBody
from gateway.proxy.exchange import NO_BODY, NO_LENGTH, Exchange
from gateway.proxy.measure import Measure

# Larger bodies are parsed in a thread: 256 KiB of JSON takes about a millisecond.
THREAD_BYTES_MIN = 262_144


async def read_body(measure: Measure) -> Refusal | None:
    """Take the whole body in and parse what the price asks for.

    The exchange keeps it as `body`, to be forwarded as it came. In a task: it
    may take long, and has the body's own deadlines.
    """
    x = measure.x
    if x.body_length == NO_BODY:
        return None
    most = x.route.inspect_max_bytes
    if x.route.max_body_bytes is not None:
        most = min(most, x.route.max_body_bytes)
    if x.body_length > most:
        return _too_large(most)
    try:
        data = await _whole_body(x, most)
    except TimeoutError:
        return Refusal("request_timeout")
    except Exception:  # whatever the payload raises means: it will not be whole
        return Refusal("bad_request", detail="The body broke off or cannot be parsed.")
    if data is None:
        return _too_large(most)
    x.body = data
    types = x.headers.getall("Content-Type", [])
    if len(types) > 1:
        return Refusal("unpriceable", detail="Content-Type: expected one, found several.")
    content_type = "".join(types)
    encoding = ", ".join(x.headers.getall("Content-Encoding", []))
    sources = frozenset(figure.source for figure in measure.price.figures())

    def parse() -> RequestBody:
        body = RequestBody(data, content_type, encoding, most)
        body.read(sources)
        return body

    try:
        if len(data) < THREAD_BYTES_MIN:
            measure.body = parse()
        else:
            measure.body = await asyncio.get_running_loop().run_in_executor(None, parse)
    except Unpriceable as exc:
        return Refusal("unpriceable", detail=_sentence(exc))
    return None


def unpriceable(exc: Unpriceable) -> Refusal:
    """Why a request has no price, said to the caller."""
    return Refusal("unpriceable", detail=_sentence(exc))


def _sentence(exc: Unpriceable) -> str:
    text = str(exc)
    return f"{text[:1].upper()}{text[1:300]}."


def _too_large(most: int) -> Refusal:
    return Refusal("body_too_large", detail=f"A body that is priced may have {most} bytes.")


async def _whole_body(x: Exchange, most: int) -> bytes | None:
    """All of the body; None when it is longer than `most`."""
    if x.expects_continue:
        x.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        x.expects_continue = False
    x.connection.expect_body()
    chunks: list[bytes] = []
    size = 0
    while not x.payload.at_eof():
        data = await x.payload.readany()
        size += len(data)
        if size > most:
            return None
        if x.body_length == NO_LENGTH and x.connection.is_wasteful(size):
            raise ValueError("a chunked body that is mostly framing")
        chunks.append(data)
    broken = x.payload.exception()
    if broken is not None:
        raise broken
    x.connection.expect_nothing()
    return b"".join(chunks)
