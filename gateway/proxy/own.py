"""The gateway's own answers on the proxy's listener: which path is ours?

Exact paths belong to us with every method; views, whose paths may have
{parameters}, with GET and HEAD only, so that the backend may have the others.
Must not know what is answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from gateway.core.routes import Miss, Pattern, RouteTable
from gateway.proxy.exchange import Exchange

# A whole answer, or its pieces as they come, head first.
OwnAnswer = Callable[[Exchange], Coroutine[Any, Any, bytes | AsyncGenerator[bytes, None]]]
_READS = frozenset(("GET", "HEAD"))


class Found(NamedTuple):
    answer: OwnAnswer
    parameters: dict[str, str]


class OwnPaths:
    """Made once for each book. `views` are by path template."""

    def __init__(self, exact: Mapping[str, OwnAnswer], views: Mapping[str, OwnAnswer]) -> None:
        self._exact = {path: Found(answer, {}) for path, answer in exact.items()}
        self._views = RouteTable.compile(
            (Pattern(_READS, template=path), answer) for path, answer in views.items()
        )
        self._has_views = bool(views)

    def find(self, x: Exchange) -> Found | None:
        """The answer to a request that is ours; None for the backends'."""
        found = self._exact.get(x.target.canonical)
        if found is not None or not self._has_views:
            return found
        match = self._views.match(x.method, "", x.target.canonical, {})
        return None if isinstance(match, Miss) else Found(match.entry, match.parameters)


async def send(x: Exchange, own: Found) -> bool:
    """Answer a request that is ours; whether the connection may be used again."""
    x.parameters = own.parameters
    answer = await own.answer(x)
    if isinstance(answer, bytes):
        return x.connection.write_soon(answer) and x.keep_alive
    async with aclosing(answer) as pieces:
        async for piece in pieces:
            x.head_sent = True  # what goes wrong from now on breaks the answer off
            if not x.connection.write(piece) or not await x.connection.drain():
                return False
    return x.keep_alive
