"""Contestant `aiohttp_naive`: the proxy most people would write with aiohttp.

    python aiohttp_naive.py PORT BACKEND_URL

One shared ClientSession, bodies streamed both ways, hop-by-hop headers removed.
Nobody is identified, nothing is counted.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web
from multidict import CIMultiDict

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
BACKEND = web.AppKey("backend", str)
SESSION = web.AppKey("session", ClientSession)


def end_to_end(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """The headers that are not meant for one connection only."""
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP_BY_HOP)


async def proxy(request: web.Request) -> web.StreamResponse:
    """Forward one request and stream its answer back."""
    headers = end_to_end(request.headers.copy())
    headers.pop("Host", None)
    async with request.app[SESSION].request(
        request.method,
        request.app[BACKEND] + request.path_qs,
        headers=headers,
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as upstream:
        response = web.StreamResponse(
            status=upstream.status, headers=end_to_end(upstream.headers.copy())
        )
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    """One ClientSession for the life of the application."""
    async with ClientSession() as shared:
        app[SESSION] = shared
        yield


def main(port: int, backend: str) -> None:
    """Serve until told to end."""
    app = web.Application()
    app[BACKEND] = backend
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", proxy)
    web.run_app(app, host="127.0.0.1", port=port, print=lambda *_: None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
