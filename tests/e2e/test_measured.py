"""Measured prices when something breaks: clients that hang up, kills, ends of budgets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.configs import caller, config, route
from tests.support.gateway import Gateway
from tests.support.products import ThreadedApp
from tests.support.until import until

WHO = caller("measured")
Start = Callable[..., Gateway]
TOKENS = ["stream.json:usage.total_tokens", "answer.json:usage.total_tokens"]


def backend() -> web.Application:
    """Answers after `wait` seconds, with `tokens` of usage; echoes on /ws."""

    async def chat(request: web.Request) -> web.Response:
        asked = await request.json()
        await asyncio.sleep(asked.get("wait", 0))
        return web.json_response({"usage": {"total_tokens": asked["tokens"]}})

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(message.data)
        return socket_

    app = web.Application()
    app.router.add_post("/chat", chat)
    app.router.add_get("/ws", echo)
    app.router.add_get("/mark/{number}", _answer)
    return app


async def _answer(_: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
def product() -> Iterator[ThreadedApp]:
    made = ThreadedApp(backend)
    yield made
    made.stop()


@pytest.fixture
def start(product: ThreadedApp, tmp_path: Path) -> Iterator[Start]:
    """Starts gateways in front of the product, and ends what a failed test leaves."""
    made: list[Gateway] = []

    def begin(budget: int, drain: str = "30s") -> Gateway:
        made.append(gateway_of(product, tmp_path, budget, drain))
        return made[-1]

    yield begin
    for gateway in made:
        gateway.kill()


def gateway_of(product: ThreadedApp, directory: Path, budget: int, drain: str) -> Gateway:
    price = {"coins": {"of": TOKENS, "reserve": {"of": "request.json:max", "otherwise": 7}}}
    chat = route("POST /chat", price, drain_timeout=drain)
    messages = {"coins": {"of": "socket.messages"}}
    ws = route("GET /ws", messages, interval="200ms")
    plans = {"p": {"allowances": {"coins": {"amount": budget, "per": "week"}}}}
    port = int(product.url.rsplit(":", 1)[1])
    built = config(port, routes=[chat, ws], callers={"p": [WHO]}, plans=plans)
    return Gateway(built, directory).start()


def hang_up(gateway: Gateway, **asked: Any) -> None:
    """Send a whole request, then reset the connection without reading."""
    body = json.dumps(asked).encode()
    head = (
        f"POST /chat HTTP/1.1\r\nHost: x\r\n{WHO.bearer}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(head.encode() + body)
        time.sleep(0.15)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def figures(gateway: Gateway) -> tuple[int, int]:
    shown = gateway.usage(WHO)
    return shown["used"], shown["in_flight"]


def test_who_hangs_up_pays_what_the_answer_says(start: Start) -> None:
    gateway = start(1000)
    hang_up(gateway, tokens=123, max=9, wait=0.4)
    assert figures(gateway) == (0, 9)
    until(lambda: figures(gateway), lambda found: found == (123, 0), what="the answer's end")
    assert [e.outcome for e in gateway.wait_events(1, account=WHO.account)] == ["client_gone"]
    gateway.stop()


def test_an_answer_that_does_not_end_in_time_costs_the_reserve(start: Start) -> None:
    gateway = start(1000, drain="300ms")
    hang_up(gateway, tokens=123, max=9, wait=20)
    until(lambda: figures(gateway), lambda found: found == (9, 0), what="the drain's end")
    gateway.stop()


def test_sigterm_settles_what_is_read_on_alone(start: Start) -> None:
    gateway = start(1000)
    gateway.config["server"] = {"drain_timeout": "300ms"}
    gateway.stop()
    gateway.start()
    hang_up(gateway, tokens=123, max=9, wait=20)
    gateway.stop()
    gateway.start()
    assert figures(gateway) == (9, 0)
    assert "clean" in gateway.cli("audit").out
    gateway.stop()


def test_kill_leaves_neither_hold_nor_charge(start: Start) -> None:
    gateway = start(10)
    hang_up(gateway, tokens=3, max=10, wait=20)
    refused = gateway.call(
        "POST", "/chat", WHO, "Content-Type: application/json", body=b'{"tokens":1}'
    )
    assert refused.status == 429
    gateway.kill()
    gateway.start()
    assert figures(gateway) == (0, 0)
    allowed = gateway.call(
        "POST", "/chat", WHO, "Content-Type: application/json", body=b'{"tokens":1}'
    )
    assert allowed.status == 200
    assert figures(gateway) == (1, 0)
    assert "clean" in gateway.cli("audit").out
    gateway.stop()


async def talk(gateway: Gateway, messages: int) -> tuple[int, int | None, str]:
    """Exchange messages until the other side closes; how many came back, and why it ended."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {WHO.key}"}) as session,
        session.ws_connect(f"http://127.0.0.1:{gateway.port}/ws") as ws,
    ):
        echoed = 0
        for _ in range(messages):
            with suppress(ConnectionError):  # the other side may have closed already
                await ws.send_str("hello")
            message = await ws.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return echoed, message.data, str(message.extra or "")
            echoed += 1
            await asyncio.sleep(0.05)
        return echoed, None, ""


def test_a_socket_ends_when_the_budget_does(start: Start) -> None:
    gateway = start(12)
    echoed, code, reason = asyncio.run(talk(gateway, 200))
    assert (code, reason) == (1008, "budget_exhausted")
    used, in_flight = figures(gateway)
    assert in_flight == 0
    # Each message came and went; what passed in the last interval is overdraft, not lost.
    assert 2 * echoed <= used <= 2 * echoed + 2
    assert 12 <= used < 40
    outcomes = [e.outcome for e in gateway.events(account=WHO.account)]
    assert outcomes[0] == "charged" and set(outcomes[1:]) <= {"continued"}
    gateway.stop()


def test_a_socket_is_charged_while_it_is_open_even_if_we_are_killed(start: Start) -> None:
    gateway = start(1000)

    charged: list[Any] = []

    async def cut() -> None:
        talking = asyncio.create_task(talk(gateway, 1000))
        deadline = asyncio.get_running_loop().time() + 30
        while len(charged) < 3:
            assert asyncio.get_running_loop().time() < deadline, "no interval was charged"
            await asyncio.sleep(0.05)
            charged[:] = await asyncio.to_thread(gateway.events, account=WHO.account)
        gateway.kill()
        await asyncio.wait((talking,), timeout=5)
        talking.cancel()

    asyncio.run(cut())
    gateway.start()
    used, in_flight = figures(gateway)
    assert used > 0 and in_flight == 0
    assert len(gateway.events(account=WHO.account)) >= len(charged)
    assert "clean" in gateway.cli("audit").out
    gateway.stop()


def test_a_reload_takes_new_prices_and_keeps_what_is_fixed(start: Start) -> None:
    gateway = start(1000)
    send = ("POST", "/chat", WHO, "Content-Type: application/json")
    assert gateway.call(*send, body=b'{"tokens":1}').status == 200
    chat = next(r for r in gateway.config["routes"] if r["match"] == "POST /chat")
    chat["price"] = {"coins": 5}
    gateway.config["journal"] = {"sync": "always"}
    gateway.reload()
    until(lambda: gateway.log, lambda log: '"reloaded"' in log, what="the reload")
    assert gateway.call(*send, body=b'{"tokens":1}').status == 200
    assert figures(gateway) == (6, 0)
    assert "needs_restart" in gateway.log
    gateway.stop()
