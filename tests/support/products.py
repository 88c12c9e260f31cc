"""Backends of the reference systems, as small aiohttp applications.

They know nothing of gateways, prices or accounts: a language model that reports
its usage, a lock service that says what was acquired, and a market data service
with rates, files and a WebSocket that sends back what it gets.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import WSMsgType, web

_WAIT_S = 10.0


class ThreadedApp:
    """An application on a free port, in a thread of its own."""

    def __init__(self, make: Callable[[], web.Application]) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.app = make()
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.1)
        self.port: int = self._run(self._listen())

    async def _listen(self) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._run(self._runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_WAIT_S)
        self.loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_WAIT_S)


# -- a language model ------------------------------------------------------


SEEN: web.AppKey[list[dict[str, str]]] = web.AppKey("seen", list)


def language_model() -> web.Application:
    """POST {"model", "prompt", "stream"}: a token for each word of the prompt.

    What has no prompt is taken as it is.
    A prompt that begins with `cut` breaks off before its usage is said, one
    that begins with `late` is answered slowly, `silent` says no usage.
    """
    app = web.Application(client_max_size=64_000_000)
    app[SEEN] = []
    app.router.add_post("/{path:.*}", _complete)
    app.router.add_get("/{path:.*}", _hello)
    return app


async def _hello(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _complete(request: web.Request) -> web.StreamResponse:
    request.app[SEEN].append({name.lower(): value for name, value in request.headers.items()})
    asked = await request.json() if request.content_type == "application/json" else {}
    if not isinstance(asked, dict) or "prompt" not in asked:
        return web.json_response({"ok": True})
    words = str(asked.get("prompt", "")).split()
    kind = words[0] if words else ""
    usage = {"total_tokens": len(words)}
    if kind == "broken":
        return web.json_response({"error": "overloaded"}, status=500)
    if asked.get("stream"):
        return await _stream(request, words, usage)
    answer: dict[str, Any] = {"model": asked.get("model"), "choices": [{"text": "done"}]}
    if kind != "silent":
        answer["usage"] = usage
    return web.json_response(answer)


async def _stream(
    request: web.Request, words: list[str], usage: dict[str, int]
) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for word in words[:5]:
        await answer.write(f'data: {{"delta": "{word}"}}\n\n'.encode())
    if words[0] == "late":
        await asyncio.sleep(0.3)
    if words[0] == "cut":
        assert request.transport is not None
        request.transport.abort()
        return answer
    await answer.write(f"data: {json.dumps({'delta': '', 'usage': usage})}\n\n".encode())
    if words[0] == "torn":
        assert request.transport is not None
        await asyncio.sleep(0.05)
        request.transport.abort()
        return answer
    await answer.write(b"data: [DONE]\n\n")
    return answer


# -- a lock service --------------------------------------------------------


def locks() -> web.Application:
    """Locks and runs by key: the first caller acquires, those who follow attach to it."""
    app = web.Application()
    taken: set[str] = set()

    async def check_lock(request: web.Request) -> web.Response:
        key = (await request.json())["key"]
        if key in taken:
            return web.json_response({"status": "duplicate"}, status=409)
        taken.add(key)
        return web.json_response({"status": "locked"})

    async def acquire(request: web.Request) -> web.Response:
        key = (await request.json())["key"]
        if key == "failing":
            return web.json_response({"status": "failed"}, status=503)
        if key == "known":
            return web.json_response({"status": "completed", "run": key})
        status = "polling" if key in taken else "acquired"
        taken.add(key)
        return web.json_response({"status": status, "run": key})

    app.router.add_post("/v1/check-lock", check_lock)
    app.router.add_post("/v1/ai/lease", acquire)
    app.router.add_post("/v1/ai/run", acquire)
    return app


# -- market data -----------------------------------------------------------


def market_data() -> web.Application:
    """Rates as a list, bytes by the thousand, an echoing WebSocket, and anything else."""
    app = web.Application()

    async def rates(request: web.Request) -> web.Response:
        count = int(request.match_info["count"])
        return web.json_response({"base": "USD", "rates": [1.5] * count})

    async def data(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * int(request.match_info["count"]))

    async def anything(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app.router.add_get("/exchange-rates/{count}", rates)
    app.router.add_get("/filings/{count}", data)
    app.router.add_get("/flat-files/{bucket}/{count}", data)
    app.router.add_get("/market-data/ws", _echo)
    app.router.add_route("*", "/{path:.*}", anything)
    return app


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


# -- a test management service ---------------------------------------------


def uploads() -> web.Application:
    """Takes anything with any method, and says how many bytes it got."""
    app = web.Application(client_max_size=64_000_000)

    async def take(request: web.Request) -> web.Response:
        return web.json_response({"received": len(await request.read())}, status=201)

    app.router.add_route("*", "/{path:.*}", take)
    return app
