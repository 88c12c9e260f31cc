"""Two minimal applications for real servers: they read the body and say its size.

Every answer that an application gave has the header X-Echo; an answer without
it came from the server's own parser, so the gateway forwarded something odd.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Message = dict[str, Any]


def wsgi(environ: Message, start_response: Callable[..., object]) -> Iterable[bytes]:
    size = 0
    while data := environ["wsgi.input"].read(65_536):
        size += len(data)
    body = str(size).encode()
    headers = [("X-Echo", str(size)), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"x-echo", body), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
