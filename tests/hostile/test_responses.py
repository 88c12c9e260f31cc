"""Attacks 6, 13-15 and 27-30: backends that answer wrongly, or too much.

What broke before the head is a 502 of ours; what broke after it is a broken
client connection; a backend connection that is not certain is never used again.
"""

from __future__ import annotations

import gzip
import time

import pytest

from tests.support import scripts
from tests.support.configs import Caller
from tests.support.raw import Answer, connected, head
from tests.support.scripts import OK
from tests.support.stage import Stage


def call(
    hostile: Stage, who: Caller, script: object, method: str = "GET", *lines: str
) -> tuple[Answer, bytes]:
    """Let the backend answer by the script; the answer, and what follows until the close."""
    path = f"/scripted/{who.account}"
    hostile.recorder.scripts[path] = script  # type: ignore[assignment]
    with connected(hostile.port) as connection:
        connection.send(head(method, path, who.bearer, *lines, "Connection: close"))
        answer = connection.answer(method)
        assert connection.is_closed()
        return answer, connection.unparsed


def assert_bad_gateway(hostile: Stage, who: Caller, script: object) -> None:
    answer, left = call(hostile, who, script)
    assert (answer.status, answer.code, left) == (502, "upstream_error", b""), answer
    assert hostile.used(who) == 0
    event = hostile.gateway.wait_event(account=who.account)
    assert (event.outcome, event.status, event.charges) == ("upstream_error", 502, {})


BAD_HEADS = [
    b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-A\x00: a\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX A: a\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"ICE/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"hello, this is no HTTP\r\n\r\n",
    b"220 mail.test ESMTP\r\n",
    b"\x16\x03\x01\x00\x05hello\r\n\r\n",
]


@pytest.mark.parametrize("sent", BAD_HEADS, ids=repr)
def test_a06_bad_bytes_in_a_backends_head_are_502(hostile: Stage, who: Caller, sent: bytes) -> None:
    assert_bad_gateway(hostile, who, scripts.sends(sent, close=True))


BAD_FRAMINGS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
]


@pytest.mark.parametrize("sent", BAD_FRAMINGS, ids=repr)
def test_a14_ambiguous_framing_of_a_backend_is_502(
    hostile: Stage, who: Caller, sent: bytes
) -> None:
    assert_bad_gateway(hostile, who, scripts.sends(sent))


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1", b""], ids=repr)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a13_backend_that_ends_before_the_head_is_502(
    hostile: Stage, who: Caller, sent: bytes, end: str
) -> None:
    script = scripts.sends(sent, close=True) if end == "close" else scripts.resets_after(sent)
    answer, left = call(hostile, who, script)
    assert (answer.status, answer.code, left) == (502, "upstream_error", b"")
    assert hostile.used(who) == 0


BROKEN_BODIES = [
    OK + b"Content-Length: 100\r\n\r\nonly this",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
]


@pytest.mark.parametrize("sent", BROKEN_BODIES, ids=repr)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a13_broken_body_never_gets_a_clean_end(
    hostile: Stage, who: Caller, sent: bytes, end: str
) -> None:
    script = scripts.sends(sent, close=True) if end == "close" else scripts.resets_after(sent)
    answer, _ = call(hostile, who, script)
    if answer.is_refusal:
        assert answer.status == 502
    else:
        assert not answer.complete, answer
    assert hostile.used(who) == 0
    event = hostile.gateway.wait_event(account=who.account)
    assert (event.outcome, event.charges) == ("upstream_error", {})


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    ],
    ids=repr,
)
def test_a13_bad_chunk_of_a_backend_never_gets_a_clean_end(
    hostile: Stage, who: Caller, sent: bytes
) -> None:
    answer, _ = call(hostile, who, scripts.sends(sent))
    assert answer.status == 502 if answer.is_refusal else not answer.complete
    assert hostile.used(who) == 0


EXTRA = b"HTTP/1.1 200 OK\r\nX-Recorder: poison\r\nContent-Length: 6\r\n\r\npoison"
TOO_MUCH = {
    "extra answer": ("GET", OK + b"Content-Length: 5\r\n\r\nhello" + EXTRA),
    "extra bytes": ("GET", OK + b"Content-Length: 5\r\n\r\nhello, and more"),
    "after chunks": ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EXTRA),
    "204 with body": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n" + b"poison"),
    "204 with chunks": (
        "GET",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n",
    ),
    "304 with body": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"),
    "HEAD with body": ("HEAD", OK + b"Content-Length: 6\r\n\r\npoison"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a14_extra_bytes_never_reach_another_request(
    hostile: Stage, who: Caller, name: str
) -> None:
    method, sent = TOO_MUCH[name]
    answer, left = call(hostile, who, scripts.sends(sent), method)
    assert left == b"" and b"poison" not in answer.body, (answer, left)
    bad = hostile.recorded(who)[0].connection
    for _ in range(5):
        clean = hostile.ask(head("GET", f"/clean/{who.account}", who.bearer))
        assert (clean.status, clean.get("x-recorder")) == (200, "yes")
    later = [r for r in hostile.recorded(who) if r.target.startswith("/clean")]
    assert bad not in {r.connection for r in later}, "the connection was used again"


def test_a14_extra_bytes_in_a_later_segment_never_reach_another_request(
    hostile: Stage, who: Caller
) -> None:
    """The extra answer comes while the connection is idle in the pool."""
    gate = scripts.Gate(before=OK + b"Content-Length: 5\r\n\r\nhello", after=EXTRA)
    answer, _ = call(hostile, who, gate)
    assert answer.body == b"hello"
    gate.open()
    gate.sent.wait(10)  # what has not come yet nobody can tell from the next answer
    time.sleep(0.1)
    for _ in range(10):
        clean = hostile.ask(head("GET", f"/clean/{who.account}", who.bearer))
        assert clean.get("x-recorder") == "yes", clean
        assert b"poison" not in clean.body


def test_a14_flood_of_interim_answers_is_bounded(hostile: Stage, who: Caller) -> None:
    flood = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20_000
    answer, _ = call(hostile, who, scripts.sends(flood + OK + b"Content-Length: 0\r\n\r\n"))
    assert answer.status in (200, 502)
    assert len(answer.informational) <= 1_000


def test_a14_unasked_switch_of_protocols_is_502(hostile: Stage, who: Caller) -> None:
    sent = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw"
    assert_bad_gateway(hostile, who, scripts.sends(sent))


def test_a14_endless_head_of_a_backend_is_502(hostile: Stage, who: Caller) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 200) for i in range(50_000))
    assert_bad_gateway(hostile, who, scripts.sends(b"HTTP/1.1 200 OK\r\n" + lines, close=True))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a15_stale_connection_is_replaced_once(hostile: Stage, who: Caller, method: str) -> None:
    """The backend closes a reused connection just then: one retry, one event, one charge."""
    path = f"/stale/{who.account}"
    hostile.recorder.scripts[path] = scripts.closes_when_reused
    warm = hostile.ask(head("GET", f"/warm/{who.account}", who.bearer))
    assert warm.status == 200
    answer = hostile.ask(head(method, path, who.bearer, "Content-Length: 0"), method)
    assert answer.status == 200
    tried = [r for r in hostile.recorded(who) if r.target == path]
    assert [r.number > 1 for r in tried] in ([True, False], [False])
    hostile.gateway.wait_events(2, account=who.account)
    assert hostile.used(who) == 2


def test_a15_post_is_never_sent_twice(hostile: Stage, who: Caller) -> None:
    path = f"/stale-post/{who.account}"
    hostile.recorder.scripts[path] = scripts.closes
    assert hostile.ask(head("GET", f"/warm/{who.account}", who.bearer)).status == 200
    data = head("POST", path, who.bearer, "Content-Length: 5") + b"hello"
    answer = hostile.ask(data, "POST")
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert len([r for r in hostile.recorded(who) if r.target == path]) == 1
    assert hostile.used(who) == 1  # the warming GET only


def test_a15_backend_that_always_closes_is_tried_twice_at_most(hostile: Stage, who: Caller) -> None:
    answer, _ = call(hostile, who, scripts.closes)
    assert answer.status == 502
    assert len(hostile.recorded(who)) <= 2
    assert hostile.used(who) == 0


def test_a15_no_retry_after_the_first_byte(hostile: Stage, who: Caller) -> None:
    assert hostile.ask(head("GET", f"/warm/{who.account}", who.bearer)).status == 200
    answer, _ = call(hostile, who, scripts.sends(b"HTTP/1.1 200", close=True))
    assert answer.status == 502
    assert len([r for r in hostile.recorded(who) if "scripted" in r.target]) == 1


def test_a27_duplicate_headers_stay_separate_and_ordered(hostile: Stage, who: Caller) -> None:
    lines = (
        b"Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT\r\nX-Between: 1\r\n"
        b"set-cookie: b=2\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Digest x\r\n"
        b"Set-Cookie: c=3\r\nX-Latin: d\xfcsseldorf\r\n"
    )
    answer, _ = call(hostile, who, scripts.sends(OK + lines + b"Content-Length: 0\r\n\r\n"))
    cookies = answer.all("set-cookie")
    assert cookies == ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2", "c=3"]
    assert answer.all("www-authenticate") == ["Basic", "Digest x"]
    assert answer.get("x-latin") == "d\xfcsseldorf"


@pytest.mark.parametrize(
    "line", ["Accept-Encoding: gzip", "Accept-Encoding: identity", "X-None: 1"]
)
def test_a28_compressed_bodies_pass_untouched(hostile: Stage, who: Caller, line: str) -> None:
    body = gzip.compress(b"hello " * 1_000)
    sent = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    answer, _ = call(hostile, who, scripts.sends(sent), "GET", line)
    assert answer.body == body
    assert answer.all("content-encoding") == ["gzip"]
    assert answer.all("content-length") == [str(len(body))]


def test_a28_compressed_request_passes_untouched(hostile: Stage, who: Caller) -> None:
    body = gzip.compress(b"hello " * 1_000)
    data = head("POST", "/gz", who.bearer, "Content-Encoding: gzip", f"Content-Length: {len(body)}")
    _, request = hostile.assert_forwarded(data + body, who, "POST")
    assert (request.body, request.all("content-encoding")) == (body, ["gzip"])


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"gzip, gzip", b"x-none"])
def test_a29_what_cannot_be_unpacked_passes_untouched(
    hostile: Stage, who: Caller, coding: bytes
) -> None:
    body = b"\x1f\x8b not really packed" + bytes(range(256))
    sent = OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding, len(body)) + body
    assert call(hostile, who, scripts.sends(sent))[0].body == body


def test_a30_errors_of_ours_name_nothing_internal(hostile: Stage, who: Caller) -> None:
    secret = b"HTTP/1.1 200 secret-host.internal\r\nX-Stack: Traceback\x00\r\n\r\n"
    answer, _ = call(hostile, who, scripts.sends(secret, close=True))
    assert answer.status == 502
    shown = answer.body + b"".join(n + v for n, v in answer.headers)
    for word in (b"127.0.0.1", str(hostile.recorder.port).encode(), b"internal", b"Traceback",
                 b"aiohttp", b"Python", b"httptools"):  # fmt: skip
        assert word not in shown, (word, shown)


def test_a30_refusals_name_nothing_internal(hostile: Stage) -> None:
    answer = hostile.ask(head("GET", "/x"))
    assert answer.status == 401
    shown = answer.body + b"".join(n + v for n, v in answer.headers)
    for word in (str(hostile.recorder.port).encode(), b"aiohttp", b"Python"):
        assert word not in shown
