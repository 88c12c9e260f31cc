"""Forwarding, as ordinary clients and backends see it: nothing changed, nothing lost."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.support import scripts
from tests.support.configs import Caller
from tests.support.raw import Answer, connected, head
from tests.support.recorder import Wire
from tests.support.scripts import OK
from tests.support.stage import Stage

METHODS = [
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "HEAD",
    "PROPFIND",
    "REPORT",
    "SEARCH",
]


def scripted(e2e: Stage, who: Caller, sent: bytes, *lines: str, method: str = "GET") -> Answer:
    """The answer to a request that the recorder answers with these bytes."""
    path = f"/scripted/{who.account}"
    e2e.recorder.scripts[path] = scripts.sends(sent)
    return e2e.ask(head(method, path, who.bearer, *lines), method)


@dataclass
class Reply:
    """What the standard library's client understood of an answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def httpbin(
    e2e: Stage, who: Caller, method: str, target: str, body: bytes = b"", **headers: str
) -> Reply:
    """One call by the standard library's client."""
    connection = http.client.HTTPConnection("127.0.0.1", e2e.port, timeout=20)
    sent = {"Host": "httpbin.test", "Authorization": f"Bearer {who.key}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(connection):
        connection.request(method, target, body or None, sent)
        answer = connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes(e2e: Stage, who: Caller, method: str) -> None:
    _, request = e2e.assert_forwarded(head(method, "/any", who.bearer), who, method)
    assert (request.method, request.target) == (method, "/any")
    event = e2e.gateway.wait_event(account=who.account)
    assert (event.method, event.status, event.outcome) == (method, 200, "charged")
    assert event.charges == {"coins": 1}


def test_httpbin_sees_the_request_as_it_was_sent(e2e: Stage, who: Caller) -> None:
    answer = httpbin(e2e, who, "POST", "/anything/a%20b?x=1&x=2&y=%2F", b'{"a": 1}',
                     Content_Type="application/json", X_Custom="v")  # fmt: skip
    seen = json.loads(answer.body)
    assert answer.status == 200
    assert (seen["method"], seen["json"]) == ("POST", {"a": 1})
    assert seen["args"] == {"x": ["1", "2"], "y": "/"}
    assert seen["headers"]["X-Custom"] == "v"
    assert "Authorization" not in seen["headers"]
    assert seen["headers"]["X-Account"] == who.account


@pytest.mark.parametrize("status", [200, 201, 301, 302, 400, 401, 403, 404, 418, 429, 500, 503])
def test_statuses_of_the_backend_pass(e2e: Stage, who: Caller, status: int) -> None:
    answer = httpbin(e2e, who, "GET", f"/status/{status}")
    assert answer.status == status
    event = e2e.gateway.wait_event(account=who.account)
    assert (event.status, event.service) == (status, "httpbin")


def test_httpbin_redirects_are_not_followed(e2e: Stage, who: Caller) -> None:
    answer = httpbin(e2e, who, "GET", "/redirect-to?url=http%3A%2F%2F169.254.169.254%2F")
    assert answer.status == 302
    assert answer.headers.get("Location") == "http://169.254.169.254/"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "brotli"])
def test_httpbin_compressed_bodies_pass_untouched(e2e: Stage, who: Caller, coding: str) -> None:
    answer = httpbin(e2e, who, "GET", f"/{coding}", Accept_Encoding="gzip, deflate, br")
    body = answer.body
    assert answer.headers.get("Content-Encoding") == {"brotli": "br"}.get(coding, coding)
    assert len(body) == int(answer.headers.get("Content-Length") or -1)
    if coding == "gzip":
        assert json.loads(gzip.decompress(body))["gzipped"] is True


def test_httpbin_ranges_pass(e2e: Stage, who: Caller) -> None:
    answer = httpbin(e2e, who, "GET", "/range/1024", Range="bytes=10-19")
    assert (answer.status, answer.body) == (206, b"klmnopqrst")
    assert answer.headers.get("Content-Range") == "bytes 10-19/1024"


def test_httpbin_streams_chunks_both_ways(e2e: Stage, who: Caller) -> None:
    answer = httpbin(e2e, who, "GET", "/stream/20")
    assert len(answer.body.splitlines()) == 20
    body = b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"
    data = head("POST", "/post", who.bearer, "Transfer-Encoding: chunked", "Connection: close",
                "Content-Type: text/plain", host="httpbin.test")  # fmt: skip
    assert e2e.ask(data + body, "POST").json()["data"] == "hello world"


def test_httpbin_bytes_arrive_whole(e2e: Stage, who: Caller) -> None:
    answers = [httpbin(e2e, who, "GET", "/bytes/100000?seed=7").body for _ in range(2)]
    assert len(answers[0]) == 100_000
    assert hashlib.sha256(answers[0]).digest() == hashlib.sha256(answers[1]).digest()


def test_httpbin_cookies_pass_both_ways(e2e: Stage, who: Caller) -> None:
    answer = httpbin(e2e, who, "GET", "/cookies/set?a=1&b=2")
    assert len(answer.headers.get_all("Set-Cookie") or []) == 2
    shown = httpbin(e2e, who, "GET", "/cookies", Cookie="a=1; b=2")
    assert json.loads(shown.body)["cookies"] == {"a": "1", "b": "2"}


def test_head_has_the_length_and_no_body(e2e: Stage, who: Caller) -> None:
    with connected(e2e.port) as connection:
        connection.send(head("HEAD", "/h", who.bearer) + head("GET", "/g", who.bearer))
        first, second = connection.answer("HEAD"), connection.answer("GET")
    assert (first.get("content-length"), first.body) == ("8", b"")
    assert second.body == b"recorded"
    assert [r.method for r in e2e.recorded(who)] == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_bodyless_statuses_keep_the_connection(e2e: Stage, who: Caller, status: bytes) -> None:
    path = f"/none/{who.account}"
    e2e.recorder.scripts[path] = scripts.sends(b'HTTP/1.1 %b\r\nETag: "x"\r\n\r\n' % status)
    with connected(e2e.port) as connection:
        connection.send(head("GET", path, who.bearer) + head("GET", "/next", who.bearer))
        first, second = connection.answer(), connection.answer()
    assert (first.status, first.body) == (int(status[:3]), b"")
    assert first.get("transfer-encoding") is None
    assert first.get("etag") == '"x"'
    assert second.body == b"recorded"


def test_keep_alive_serves_many_requests_on_one_connection(e2e: Stage, who: Caller) -> None:
    with connected(e2e.port) as connection:
        for number in range(50):
            connection.send(head("GET", f"/{number}", who.bearer))
            assert connection.answer().status == 200
    requests = e2e.recorded(who)
    assert [r.target for r in requests] == [f"/{n}" for n in range(50)]
    assert len({r.connection for r in requests}) < 50, "backend connections are not reused"


def test_connection_close_is_honoured(e2e: Stage, who: Caller) -> None:
    with connected(e2e.port) as connection:
        connection.send(head("GET", "/last", who.bearer, "Connection: close"))
        answer = connection.answer()
        assert (answer.get("connection") or "").lower() == "close"
        assert connection.is_closed()


@pytest.mark.parametrize("keep", [True, False])
def test_http_1_0_clients_are_served(e2e: Stage, who: Caller, keep: bool) -> None:
    line = "Connection: keep-alive\r\n" if keep else ""
    data = f"GET /old HTTP/1.0\r\nHost: a.test\r\n{who.bearer}\r\n{line}\r\n".encode()
    with connected(e2e.port) as connection:
        connection.send(data)
        assert connection.answer().body == b"recorded"
        if keep:
            connection.send(data)
            assert connection.answer().body == b"recorded"
        else:
            assert connection.is_closed()


def test_http_1_0_clients_never_get_chunks(e2e: Stage, who: Caller) -> None:
    path = f"/chunks/{who.account}"
    sent = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    e2e.recorder.scripts[path] = scripts.sends(sent)
    data = f"GET {path} HTTP/1.0\r\n{who.bearer}\r\nConnection: keep-alive\r\n\r\n".encode()
    with connected(e2e.port) as connection:
        connection.send(data)
        assert connection.is_closed()
        answer = connection.answer()
    assert (answer.body, answer.complete) == (b"hello world", True)
    assert answer.get("transfer-encoding") is None


def test_pipelined_answers_come_in_order(e2e: Stage, who: Caller) -> None:
    """The first answer is the slowest; the others wait for it."""
    path = f"/slow/{who.account}"
    gate = scripts.Gate()
    e2e.recorder.scripts[path] = gate
    with connected(e2e.port) as connection:
        requests = [head("GET", path, who.bearer)]
        requests += [
            head("GET", f"/status/{n}", who.bearer, host="httpbin.test") for n in (201, 418)
        ]
        connection.send(b"".join(requests))
        assert gate.reached.wait(10)
        assert connection.try_answer("GET", 0.05) is None
        gate.open()
        assert [connection.answer().status for _ in range(3)] == [200, 201, 418]
    events = e2e.gateway.wait_events(3, account=who.account)
    assert [e.status for e in events] == [200, 201, 418]


def test_early_hints_are_passed_on(e2e: Stage, who: Caller) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    answer = scripted(e2e, who, hints + hints + OK + b"Content-Length: 2\r\n\r\nok")
    assert [status for status, _ in answer.informational] == [103, 103]
    assert (b"Link", b"</a.css>; rel=preload") in answer.informational[0][1]
    assert answer.body == b"ok"


def test_http_1_0_clients_never_get_interim_answers(e2e: Stage, who: Caller) -> None:
    path = f"/hints/{who.account}"
    sent = b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok"
    e2e.recorder.scripts[path] = scripts.sends(sent)
    answer = e2e.ask(f"GET {path} HTTP/1.0\r\n{who.bearer}\r\n\r\n".encode())
    assert (answer.status, answer.informational, answer.body) == (200, [], b"ok")


def test_final_answer_to_an_expectation_spares_the_body(e2e: Stage, who: Caller) -> None:
    path = f"/no-body/{who.account}"

    def refuse(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 403 Forbidden\r\nX-Recorder: yes\r\nContent-Length: 0\r\n\r\n")
        wire.close()

    e2e.recorder.on_head[path] = refuse
    with connected(e2e.port) as connection:
        connection.send(
            head("POST", path, who.bearer, "Expect: 100-continue", "Content-Length: 1000000")
        )
        answer = connection.answer("POST")
    assert (answer.status, answer.informational) == (403, [])
    assert (answer.get("connection") or "").lower() == "close"


def test_response_trailers_are_passed_on(e2e: Stage, who: Caller) -> None:
    sent = (
        OK + b"Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n"
    )
    answer = scripted(e2e, who, sent, "TE: trailers", "Connection: TE")
    assert answer.body == b"hello"
    assert [(n.lower(), v) for n, v in answer.trailers] == [(b"x-checksum", b"abc")]


def test_hop_by_hop_headers_of_the_answer_are_removed(e2e: Stage, who: Caller) -> None:
    sent = (
        OK + b"Connection: X-Hop, keep-alive\r\nX-Hop: secret\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-End: kept\r\nContent-Length: 2\r\n\r\nok"
    )
    answer = scripted(e2e, who, sent)
    names = {n.lower() for n, _ in answer.headers}
    assert not names & {b"x-hop", b"keep-alive", b"upgrade"}
    assert answer.get("x-end") == "kept"


def test_via_and_request_id_on_both_sides(e2e: Stage, who: Caller) -> None:
    lines = ["Via: 1.0 fred", "X-Request-Id: my-id-7"]
    answer, request = e2e.assert_forwarded(head("GET", "/via", who.bearer, *lines), who)
    assert ", ".join(request.all("via")) == "1.0 fred, 1.1 tallygate"
    assert (answer.all("via") or [""])[-1].endswith("1.1 tallygate")
    assert request.all("x-request-id") == answer.all("x-request-id") == ["my-id-7"]
    assert e2e.gateway.wait_event(account=who.account).request_id == "my-id-7"


@pytest.mark.parametrize("given", [None, "has space", "x" * 500, 'quote"<', "d\xfc"])
def test_request_id_is_made_where_there_is_no_sane_one(
    e2e: Stage, who: Caller, given: str | None
) -> None:
    lines = [f"X-Request-Id: {given}"] if given else []
    answer, request = e2e.assert_forwarded(head("GET", "/id", who.bearer, *lines), who)
    (made,) = answer.all("x-request-id")
    assert request.all("x-request-id") == [made]
    assert made != given and len(made) == 36


def test_x_forwarded_names_the_hop(e2e: Stage, who: Caller) -> None:
    _, request = e2e.assert_forwarded(head("GET", "/x", who.bearer, host="a.test:8080"), who)
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-forwarded-host") == ["a.test:8080"]
    assert request.all("host") == [f"127.0.0.1:{e2e.recorder.port}"]


def test_traceparent_is_passed_on(e2e: Stage, who: Caller) -> None:
    line = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    _, request = e2e.assert_forwarded(head("GET", "/t", who.bearer, line), who)
    assert (request.get("traceparent") or "").startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")


def test_body_until_close_has_an_end_for_the_client(e2e: Stage, who: Caller) -> None:
    path = f"/until-close/{who.account}"
    e2e.recorder.scripts[path] = scripts.sends(OK + b"\r\nhello", close=True)
    answer = e2e.ask(head("GET", path, who.bearer))
    assert (answer.body, answer.complete) == (b"hello", True)
    assert e2e.gateway.wait_event(account=who.account).outcome == "charged"


def test_http_1_0_backends_are_understood(e2e: Stage, who: Caller) -> None:
    path = f"/old-backend/{who.account}"
    e2e.recorder.scripts[path] = scripts.sends(
        b"HTTP/1.0 200 OK\r\nX-Recorder: yes\r\n\r\nold", close=True
    )
    answer = e2e.ask(head("GET", path, who.bearer))
    assert (answer.body, answer.complete, answer.version) == (b"old", True, b"1.1")
