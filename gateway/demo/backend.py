"""The demo's backend: a small HTTP API that knows nothing of the gateway in front."""

from __future__ import annotations

from aiohttp import web

ITEMS = {
    "1": {"id": "1", "name": "Anvil", "price": "19.90"},
    "2": {"id": "2", "name": "Rope", "price": "7.50"},
    "3": {"id": "3", "name": "Lantern", "price": "12.00"},
}
IMPORT_BYTES_MAX = 64 * 1024 * 1024


async def list_items(request: web.Request) -> web.Response:
    """GET /items"""
    return web.json_response({"items": list(ITEMS.values())})


async def show_item(request: web.Request) -> web.Response:
    """GET /items/{id}"""
    item = ITEMS.get(request.match_info["id"])
    if item is None:
        return web.json_response({"error": "no such item"}, status=404)
    return web.json_response(item)


async def import_lines(request: web.Request) -> web.Response:
    """POST /import: counts lines and bytes, keeps nothing."""
    lines = size = 0
    async for chunk in request.content.iter_any():
        lines += chunk.count(b"\n")
        size += len(chunk)
    return web.json_response({"lines": lines, "bytes": size}, status=201)


async def status(request: web.Request) -> web.Response:
    """GET /status"""
    return web.json_response({"status": "ok", "items": len(ITEMS)})


def make_backend() -> web.Application:
    app = web.Application(client_max_size=IMPORT_BYTES_MAX)
    app.router.add_get("/items", list_items)
    app.router.add_get("/items/{id}", show_item)
    app.router.add_post("/import", import_lines)
    app.router.add_get("/status", status)
    return app


async def start_backend() -> tuple[web.AppRunner, int]:
    """Serve on a free loopback port; the runner's `cleanup` ends it."""
    runner = web.AppRunner(make_backend(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]
