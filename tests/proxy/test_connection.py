"""What gateway/proxy/connection.py relies on in aiohttp 3.14, beyond its public API.

A release that changes one of these must fail here and not in service.
"""

from __future__ import annotations

import asyncio
import inspect

import aiohttp
import pytest
from aiohttp import web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler

from gateway.proxy.connection import ClientConnection
from gateway.proxy.server import ParserMissing, require_c_parser

HANDLER_FIELDS = {
    "_messages", "_message_tail", "_read_bufsize", "_force_close", "_max_msg_queue_size",
    "_msg_queue_resume_size", "_keepalive_timeout", "_current_request", "_task_handler",
}  # fmt: skip
BASE_FIELDS = {"_loop", "_paused", "_parser", "_buffer_paused", "_upgraded", "transport"}


def test_the_release_line_is_the_one_we_know() -> None:
    assert aiohttp.__version__.startswith("3.14.")


def test_the_fields_are_there() -> None:
    assert set(RequestHandler.__slots__) >= HANDLER_FIELDS
    assert set(BaseProtocol.__slots__) >= BASE_FIELDS
    for name in ("_resume_reading_if_drained", "_pause_reading_for_buffer", "_drain_helper"):
        assert callable(getattr(RequestHandler, name))


def test_no_timer_runs_without_a_keepalive_timeout() -> None:
    source = inspect.getsource(RequestHandler.connection_made)
    assert "if self._keepalive_timeout > 0:" in source
    assert "self.start()" in source


def test_our_request_loop_does_nothing() -> None:
    """aiohttp starts `start` for every connection; ours must not take messages."""
    body = inspect.getsource(ClientConnection.start)
    assert "await" not in body and "_messages" not in body


def test_the_parser_is_the_c_one(monkeypatch: pytest.MonkeyPatch) -> None:
    require_c_parser()
    monkeypatch.setattr(aiohttp.http_parser, "HttpRequestParser", RequestHandler)
    with pytest.raises(ParserMissing, match=r"expected aiohttp\._http_parser"):
        require_c_parser()


async def test_what_the_parser_gives() -> None:
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 65_536, max_msg_queue_size=4)
    data = b"GET /%61?b HTTP/1.1\r\nHost: x\r\nX-A: 1 \r\n\r\n"
    messages, upgraded, tail = parser.feed_data(data * 2)
    assert (len(messages), upgraded, tail) == (2, False, b"")
    message, payload = messages[0]
    assert (message.method, message.path, message.version) == ("GET", "/%61?b", (1, 1))
    assert message.raw_headers == ((b"Host", b"x"), (b"X-A", b"1"))
    assert not message.should_close and not message.upgrade
    assert payload.is_eof()
    parser.message_consumed()
    with pytest.raises(HttpProcessingError):
        parser.feed_data(b"\x00\r\n\r\n")


def test_an_error_is_a_message() -> None:
    error = web_protocol._ErrInfo(status=400, exc=ValueError("x"), message="x")
    assert (error.status, error.message) == (400, "x")
