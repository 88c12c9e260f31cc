"""Attacks 1-12: requests whose end two parsers could see in different places."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.support.configs import Caller
from tests.support.raw import connected, head
from tests.support.stage import Stage
from tests.support.until import until

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
BAD_FRAMING = (400, 411, 501)
BAD_BODY = (400, 408, 413, 431)


def post(who: Caller, *lines: str, version: str = "HTTP/1.1") -> bytes:
    data = head("POST", "/form", who.bearer, *lines)
    return data.replace(b"HTTP/1.1", version.encode(), 1)


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Transfer-Encoding: identity"),
        ("Content-Length: 4", "Transfer-Encoding:"),
        ("content-length: 4", "tRANSFER-eNCODING: CHUNKED"),
    ],
)
def test_a01_cl_te_both_is_400_and_closed(hostile: Stage, who: Caller, lines: tuple[str]) -> None:
    hostile.assert_refused(post(who, *lines) + b"0\r\n\r\n" + SMUGGLED, who)


def test_a01_length_is_forwarded_as_one_length(hostile: Stage, who: Caller) -> None:
    _, request = hostile.assert_forwarded(post(who, "Content-Length: 5") + b"hello", who, "POST")
    assert request.all("content-length") == ["5"]
    assert request.all("transfer-encoding") == []
    assert request.body == b"hello"


def test_a01_chunks_are_forwarded_as_chunks(hostile: Stage, who: Caller) -> None:
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    data = post(who, "Transfer-Encoding: chunked") + body
    _, request = hostile.assert_forwarded(data, who, "POST")
    assert request.all("content-length") == []
    assert request.all("transfer-encoding") == ["chunked"]
    assert request.body == b"hello world"


@pytest.mark.parametrize(
    "coding",
    [
        ",chunked", "chunked,", "", " ", "xchunked", "chunked, identity", "identity, chunked",
        "gzip, chunked", "chunked, chunked", "chunked;q=1", "\"chunked\"", "chunked\x0b",
        "\x00chunked",
        "gzip", "identity", "chun ked", "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity", "gzip\r\nTransfer-Encoding: chunked",
        "\r\n chunked", "chunked\t,",
    ],
)  # fmt: skip
def test_a02_odd_transfer_encoding_is_refused(hostile: Stage, who: Caller, coding: str) -> None:
    data = post(who, f"Transfer-Encoding: {coding}") + b"0\r\n\r\n" + SMUGGLED
    hostile.assert_refused(data, who, BAD_FRAMING)


@pytest.mark.parametrize("length", ["Content-Length: 4", "X-None: 1"])
def test_a02_empty_transfer_encoding_is_not_ignored(
    hostile: Stage, who: Caller, length: str
) -> None:
    data = post(who, length, "Transfer-Encoding:") + b"abcd" + SMUGGLED
    hostile.assert_refused(data, who, BAD_FRAMING)


BAD_CHUNKS = [
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\rhello\r0\r\r",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b"g\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nBad Trailer: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTrailer: a\nb\r\n\r\n",
    "5\u00a0\r\nhello\r\n0\r\n\r\n".encode(),
    "\uff15\r\nhello\r\n0\r\n\r\n".encode(),
]


@pytest.mark.parametrize("body", BAD_CHUNKS, ids=repr)
def test_a03_bad_chunk_is_400_and_never_whole(hostile: Stage, who: Caller, body: bytes) -> None:
    with connected(hostile.port) as connection:
        connection.send(post(who, "Transfer-Encoding: chunked") + body + SMUGGLED)
        answer = connection.answer("POST")
        assert answer.status in BAD_BODY, answer
        assert connection.is_closed()
        assert connection.unparsed == b""
    assert [r for r in hostile.recorded(who) if r.complete] == []
    assert hostile.used(who) == 0


@pytest.mark.parametrize("body", BAD_CHUNKS[:9], ids=repr)
def test_a03_bad_chunk_after_the_head_was_forwarded(
    hostile: Stage, who: Caller, body: bytes
) -> None:
    with connected(hostile.port) as connection:
        connection.send(post(who, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        until(lambda: hostile.recorded(who), what="the forwarded head")
        connection.send(body + SMUGGLED)
        answer = connection.answer("POST")
        assert answer.status in BAD_BODY, answer
        assert connection.is_closed()
    assert [r.complete for r in hostile.recorded(who)] == [False]
    assert hostile.used(who) == 0


def test_a04_long_chunk_extension_is_refused(hostile: Stage, who: Caller) -> None:
    data = post(who, "Transfer-Encoding: chunked") + b"5;x=" + b"a" * 2_000_000 + b"\r\nhello\r\n"
    with connected(hostile.port) as connection:
        connection.send(data + b"0\r\n\r\n")
        with suppress(EOFError):  # a bare close says the same
            assert connection.answer("POST").status in BAD_BODY
        assert connection.is_closed()
    assert [r for r in hostile.recorded(who) if r.complete] == []
    assert hostile.used(who) == 0


def test_a04_extensions_and_tiny_chunks_are_not_passed_on(hostile: Stage, who: Caller) -> None:
    chunks = b"1;extension=value\r\na\r\n" * 2_000 + b"0\r\n\r\n"
    data = post(who, "Transfer-Encoding: chunked") + chunks
    answer = hostile.ask(data, "POST")
    if answer.status in BAD_BODY:
        return  # a cap on the overhead is as good
    (request,) = hostile.recorded(who)
    assert request.body == b"a" * 2_000
    assert b"extension=value" not in hostile.recorder.raw[request.connection]


def test_a04_silent_body_ends_in_time(hostile: Stage, who: Caller) -> None:
    with connected(hostile.port) as connection:
        connection.send(post(who, "Content-Length: 10") + b"abc")
        with suppress(EOFError):  # a bare close says the same
            assert connection.answer("POST", timeout_s=10).status == 408
        assert connection.is_closed()
    assert [r for r in hostile.recorded(who) if r.complete] == []
    assert hostile.used(who) == 0


def test_a04_silent_head_ends_in_time(hostile: Stage) -> None:
    with connected(hostile.port) as connection:
        connection.send(b"GET /slow HTTP/1.1\r\nHost: gateway.test\r\nX-Slow: ")
        assert connection.is_closed(timeout_s=10)


def test_a04_trickled_head_ends_in_time(hostile: Stage) -> None:
    """Each byte comes in time, the head as a whole does not."""
    with connected(hostile.port) as connection:
        connection.send(b"GET /slow HTTP/1.1\r\nHost: gateway.test\r\nX-Slow: ")
        for _ in range(100):
            if not connection.send(b"a") or connection.is_closed(timeout_s=0.1):
                return
        raise AssertionError("a head may take ten times head_timeout")


@pytest.mark.parametrize(
    "length",
    [
        "5\r\nContent-Length: 5", "5\r\nContent-Length: 6", "5, 5", "5,6", "+5", "-5", "0x5", "5.0",
        "5 5", "", " ", "5_0", "1e1", "5;", "\u0665".encode().decode("latin-1"), "5\x00",
        "\uff15".encode().decode("latin-1"), "18446744073709551621", "99999999999999999999999",
        "05", "5\xa0",
    ],
)  # fmt: skip
def test_a05_odd_content_length_is_400(hostile: Stage, who: Caller, length: str) -> None:
    data = post(who, f"Content-Length: {length}") + b"hello" + SMUGGLED
    hostile.assert_refused(data, who, (400, 413))


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: a\x00b", b"X-A: a\rb", b"X-A: a\nb", b"X-A: a\x01b", b"X-A: a\x7fb", b"X-A: a\x0bb",
        b"X-\x00A: a", b"X-\rA: a", b"X-\nA: a", b"X A: a", b"X-\xc3\xa4: a", b"X(A): a", b": a",
        b"\x00X-A: a", b"X-A\x00: a",
    ],
    ids=repr,
)  # fmt: skip
def test_a06_control_bytes_in_headers_are_400(hostile: Stage, who: Caller, line: bytes) -> None:
    data = head("GET", "/ctl", who.bearer).replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")
    hostile.assert_refused(data, who)


@pytest.mark.parametrize(
    "lines",
    [
        b"X-A: a\r\n folded", b"X-A: a\r\n\tfolded", b"X-A : a", b"X-A\t: a",
        b"X-A: a\r\n \r\nX-B: b", b"X-A: a\r\n Content-Length: 5",
    ],
    ids=repr,
)  # fmt: skip
def test_a07_folding_and_space_before_colon_are_400(
    hostile: Stage, who: Caller, lines: bytes
) -> None:
    data = head("GET", "/fold", who.bearer).replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n\r\n")
    hostile.assert_refused(data, who)


def test_a07_space_before_the_first_header_is_400(hostile: Stage, who: Caller) -> None:
    data = head("GET", "/fold", who.bearer).replace(b"\r\nHost", b"\r\n X-A: a\r\nHost", 1)
    hostile.assert_refused(data, who)


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/3.0", "HTTP/11",
                                     "http/1.1", "HTTP/1", "HTTP/1.1.1", "HTTP/01.1",
                                     "ICE/1.0"])  # fmt: skip
def test_a08_other_versions_are_refused(hostile: Stage, who: Caller, version: str) -> None:
    data = head("GET", "/v", who.bearer).replace(b"HTTP/1.1", version.encode(), 1)
    hostile.assert_refused(data, who, (400, 505))


def test_a08_request_line_without_version_is_refused(hostile: Stage, who: Caller) -> None:
    data = head("GET", "/v", who.bearer).replace(b" HTTP/1.1", b"", 1)
    hostile.assert_refused(data, who, (400, 505))


def test_a08_transfer_encoding_in_http_1_0_is_refused(hostile: Stage, who: Caller) -> None:
    data = post(who, "Transfer-Encoding: chunked", version="HTTP/1.0") + b"0\r\n\r\n" + SMUGGLED
    hostile.assert_refused(data, who, BAD_FRAMING)


def test_a09_trailers_never_become_headers(hostile: Stage, who: Caller) -> None:
    trailers = (
        b"Host: evil.test\r\nAuthorization: Bearer evil\r\nContent-Length: 9\r\n"
        b"X-Account: evil\r\nTransfer-Encoding: chunked\r\nX-Checksum: abc\r\n"
    )
    data = post(who, "Transfer-Encoding: chunked", "Trailer: X-Checksum, Host")
    answer = hostile.ask(data + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n", "POST")
    if answer.is_refusal:
        assert answer.status == 400
        return
    (request,) = hostile.recorded(who)
    assert {name.lower() for name, _ in request.trailers} <= {b"x-checksum"}
    assert request.all("host") != ["evil.test"]
    assert request.all("x-account") == [who.account]
    assert "x-checksum" not in request.names


def test_a10_pipelined_requests_are_answered_and_metered_in_order(
    hostile: Stage, who: Caller
) -> None:
    count = 100
    with connected(hostile.port) as connection:
        connection.send(
            b"".join(head("GET", f"/piped-{i}?{who.account}", who.bearer) for i in range(count))
        )
        for _ in range(count):
            assert connection.answer().status == 200
    targets = [r.target for r in hostile.recorded(who)]
    assert targets == [f"/piped-{i}?{who.account}" for i in range(count)]
    events = hostile.gateway.wait_events(count, account=who.account)
    assert [e.path for e in events] == [f"/piped-{i}" for i in range(count)]
    assert hostile.used(who) == count


def test_a10_head_in_single_bytes_is_served(hostile: Stage, who: Caller) -> None:
    with connected(hostile.port) as connection:
        connection.send(head("GET", "/bytes", who.bearer), segment=1)
        assert connection.answer().status == 200
    assert len(hostile.recorded(who)) == 1


@pytest.mark.parametrize("segment", [None, 512])
@pytest.mark.parametrize(
    "make",
    [
        lambda who: head("GET", "/" + "a" * 70_000, who.bearer),
        lambda who: head("GET", "/long", who.bearer, "X-Long: " + "a" * 70_000),
        lambda who: head("GET", "/many", who.bearer, *[f"X-{i}: {i}" for i in range(2_000)]),
        lambda who: head("GET", "/name", who.bearer, "X-" + "a" * 70_000 + ": 1"),
    ],
    ids=["target", "header", "headers", "name"],
)
def test_a10_oversized_heads_are_refused(
    hostile: Stage, who: Caller, make: object, segment: int | None
) -> None:
    data: bytes = make(who)  # type: ignore[operator]
    with connected(hostile.port) as connection:
        connection.send(data, segment=segment)
        try:
            assert connection.answer().status in (400, 414, 431)
        except EOFError:
            assert connection.reset  # closed while we were still sending
        assert connection.is_closed()
    assert hostile.recorded(who) == []
    assert hostile.used(who) == 0


def test_a10_trailer_flood_is_refused(hostile: Stage, who: Caller) -> None:
    trailers = b"".join(b"X-T%d: %s\r\n" % (i, b"a" * 100) for i in range(20_000))
    with connected(hostile.port) as connection:
        connection.send(post(who, "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n" + trailers)
        connection.send(b"\r\n")
        with suppress(EOFError):
            assert connection.answer("POST").status in BAD_BODY
        assert connection.is_closed()
    assert [r for r in hostile.recorded(who) if r.complete] == []


def test_a11_wrong_key_is_refused_before_100(hostile: Stage, who: Caller) -> None:
    data = head(
        "POST", "/up", "X-API-Key: wrong", "Expect: 100-continue",
        f"Content-Length: {len(SMUGGLED)}",
    )  # fmt: skip
    with connected(hostile.port) as connection:
        connection.send(data)
        answer = connection.answer("POST")
        assert (answer.status, answer.informational) == (401, [])
        connection.send(SMUGGLED)
        assert connection.is_closed() or connection.try_answer("GET", 0.2) is None
        assert connection.unparsed == b""


def test_a11_continue_comes_from_a_ready_backend(hostile: Stage, who: Caller) -> None:
    with connected(hostile.port) as connection:
        connection.send(post(who, "Expect: 100-continue", "Content-Length: 5"))
        until(lambda: connection.read_some(0.05) or connection.received, what="100 Continue")
        assert connection.received.startswith(b"HTTP/1.1 100 ")
        connection.send(b"hello")
        answer = connection.answer("POST")
        assert answer.status == 200
        assert [status for status, _ in answer.informational] == [100]
    assert [r.body for r in hostile.recorded(who)] == [b"hello"]


def test_a11_http_1_0_gets_no_100(hostile: Stage, who: Caller) -> None:
    data = post(who, "Expect: 100-continue", "Content-Length: 5", version="HTTP/1.0")
    answer = hostile.ask(data + b"hello", "POST")
    assert (answer.status, answer.informational) == (200, [])
    assert [r.body for r in hostile.recorded(who)] == [b"hello"]


@pytest.mark.parametrize("expectation", ["200-ok", "100-continue, x", "", "100-continue;a=b"])
def test_a11_unknown_expectation_is_417(hostile: Stage, who: Caller, expectation: str) -> None:
    data = post(who, f"Expect: {expectation}", "Content-Length: 5") + b"hello"
    hostile.assert_refused(data, who, (417, 400))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (f"Content-Length: {len(SMUGGLED)}", SMUGGLED),
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    ],
    ids=["length", "chunked"],
)
def test_a12_bodies_of_bodiless_methods_keep_their_framing(
    hostile: Stage, who: Caller, method: str, line: str, sent: bytes
) -> None:
    with connected(hostile.port) as connection:
        connection.send(head(method, "/body", who.bearer, line) + sent)
        answer = connection.answer(method)
        if answer.is_refusal:
            assert answer.status == 400
            assert connection.is_closed()
            return
        connection.send(head("GET", "/next", who.bearer))
        assert connection.answer().status == 200
    first, second = hostile.recorded(who)
    assert (first.method, first.target, first.body) == (method, "/body", SMUGGLED)
    assert (second.method, second.target, second.body) == ("GET", "/next", b"")
