"""Attacks 23-26: headers that lie about who calls, from where, or what one hop means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.configs import Caller, route
from tests.support.raw import Answer, connected, head
from tests.support.recorder import Recorded
from tests.support.stage import Stage, stage

PER_ADDRESS = {"per-address": {"rate": "5/hour", "per": "source", "algorithm": "fixed_window"}}


def get(who: Caller, *lines: str) -> bytes:
    return head("GET", "/headers", who.bearer, *lines)


def forwarded(hostile: Stage, who: Caller, *lines: str) -> Recorded:
    return hostile.assert_forwarded(get(who, *lines), who)[1]


@pytest.mark.parametrize(
    "named",
    [
        "authorization", "x-account", "X-Account, X-User, X-Project", "x-api-key", "host",
        "content-length", "x-forwarded-for", "x-request-id, via", "close, x-account", "cookie",
        "date",
    ],
)  # fmt: skip
def test_a23_connection_cannot_remove_what_the_gateway_says(
    hostile: Stage, who: Caller, named: str
) -> None:
    request = forwarded(hostile, who, f"Connection: {named}")
    assert request.all("x-account") == [who.account]
    assert len(request.all("host")) == 1
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("x-request-id")
    assert "authorization" not in request.names


def test_a23_connection_cannot_remove_the_framing(hostile: Stage, who: Caller) -> None:
    data = head("POST", "/h", who.bearer, "Connection: content-length, x-api-key",
                "Content-Length: 5")  # fmt: skip
    _, request = hostile.assert_forwarded(data + b"hello", who, "POST")
    assert (request.all("content-length"), request.body) == (["5"], b"hello")


@pytest.mark.parametrize(
    "connection",
    ["X-Hop", "x-hop", "keep-alive, X-Hop", "X-Hop,close", " , X-Hop ,",
    "X-Hop\r\nConnection: keep-alive",
     "keep-alive\r\nConnection: X-Hop", "\tX-Hop\t"],
)  # fmt: skip
def test_a23_headers_named_in_connection_are_removed(
    hostile: Stage, who: Caller, connection: str
) -> None:
    request = forwarded(hostile, who, f"Connection: {connection}", "X-Hop: secret", "X-End: kept")
    assert "x-hop" not in request.names
    assert request.get("x-end") == "kept"


def test_a23_holds_for_upgrade_requests_too(hostile: Stage, who: Caller) -> None:
    lines = [
        "Connection: Upgrade, X-Account, X-Hop", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X-Hop: secret", "X-Account: forged",
    ]  # fmt: skip
    with connected(hostile.port) as connection:
        connection.send(get(who, *lines))
        assert connection.answer().status == 200
    (request,) = hostile.recorded(who)
    assert request.all("x-account") == [who.account]
    assert "x-hop" not in request.names
    assert (request.get("connection") or "").lower() == "upgrade"


@pytest.mark.parametrize(
    "line",
    [
        "X-Account: forged", "x-account: forged", "X_Account: forged", "X.Account: forged",
        "x_ACCOUNT: forged", "X-User: forged", "X_User: forged", "X.Project: forged",
        "X-Account: forged\r\nX-Account: twice", "X-Account:", "X_Account : forged",
    ],
)  # fmt: skip
def test_a24_identity_cannot_be_forged(hostile: Stage, who: Caller, line: str) -> None:
    answer = hostile.ask(get(who, line))
    if answer.is_refusal:
        assert answer.status == 400
        return
    (request,) = hostile.recorded(who)
    assert request.all("x-account") == [who.account]
    for name, value in request.headers:
        folded = name.lower().translate(bytes.maketrans(b"_.", b"--"))
        if folded in (b"x-account", b"x-user", b"x-project"):
            assert (name.lower(), b"forged" in value) == (folded, False)


@pytest.mark.parametrize(
    "line",
    [
        "Content_Length: 99", "Transfer_Encoding: chunked", "Content.Length: 99",
        "Host_: evil.test",
        "Transfer.Encoding: chunked", "X_API_Key: k", "X_Forwarded_For: 1.2.3.4",
        "X.Real.IP: 1.2.3.4",
        "X_Forwarded_Proto: https", "Proxy_Authorization: Basic eA==",
    ],
)  # fmt: skip
def test_a24_aliases_of_our_headers_are_not_forwarded(
    hostile: Stage, who: Caller, line: str
) -> None:
    name = line.split(":")[0].lower()
    answer = hostile.ask(get(who, line))
    if answer.is_refusal:
        assert answer.status == 400
        return
    (request,) = hostile.recorded(who)
    assert name == "host_" or name not in request.names


def test_a25_forwarded_headers_of_strangers_are_replaced(hostile: Stage, who: Caller) -> None:
    request = forwarded(
        hostile, who,
        "X-Forwarded-For: 10.9.8.7", "X-Forwarded-For: 10.9.8.6", "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.test", "X-Forwarded-Prefix: /evil", "X-Forwarded-Port: 1",
        "X-Real-IP: 10.9.8.7", "Forwarded: for=10.9.8.7;host=evil.test",
    )  # fmt: skip
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-forwarded-host") == ["gateway.test"]
    shown = b"".join(name + value for name, value in request.headers)
    assert b"evil" not in shown and b"10.9.8" not in shown
    assert hostile.gateway.wait_event(account=who.account).source == "127.0.0.1"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Five requests an hour for each source address; 127.0.0.2 is a proxy of ours."""
    with stage(
        tmp_path_factory.mktemp("limited"),
        [route("* /{path...}", {"coins": 1}, name="everything", limits=PER_ADDRESS)],
        trusted_proxies=["127.0.0.2", "10.0.0.0/8"],
    ) as running:
        yield running


def from_address(limited: Stage, who: Caller, address: str, *lines: str) -> Answer:
    with connected(limited.port, address) as connection:
        connection.send(get(who, *lines))
        return connection.answer()


def test_a25_spoofed_addresses_get_no_fresh_bucket(limited: Stage) -> None:
    who = limited.newcomer()
    answers = [
        from_address(limited, who, "127.0.0.9", f"X-Forwarded-For: 192.0.2.{n}",
        f"X-Real-IP: {n}.1.1.1",
                     f"Forwarded: for=192.0.2.{n}")
        for n in range(8)
    ]  # fmt: skip
    assert [a.status for a in answers] == [200] * 5 + [429] * 3
    assert limited.used(who) == 5


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.2", "192.0.2.2"),
        ("203.0.113.9, 192.0.2.3, 10.1.2.3", "192.0.2.3"),
        ("192.0.2.4:5678", "192.0.2.4"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:DB8:0:0::2", "2001:db8::2"),
        ("203.0.113.9\r\nX-Forwarded-For: 192.0.2.5", "192.0.2.5"),
        ("192.0.2.6, garbage", "127.0.0.2"),
        ("", "127.0.0.2"),
    ],
)
def test_a25_trusted_proxy_names_the_right_most_stranger(
    limited: Stage, given: str, source: str
) -> None:
    who = limited.newcomer()
    assert from_address(limited, who, "127.0.0.2", f"X-Forwarded-For: {given}").status == 200
    assert limited.gateway.wait_event(account=who.account).source == source
    (request,) = limited.recorded(who)
    assert request.source == "127.0.0.2"  # our own hop is always appended


@pytest.mark.parametrize(
    "line",
    [
        "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy: http://evil.test:80",
        "TE: gzip", "Trailer: X-A", "Proxy-Authorization: Basic eDp5", "Proxy-Authenticate: Basic",
        "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Upgrade: websocket",
        "Upgrade: TLS/1.0",
    ],
)  # fmt: skip
def test_a26_hop_by_hop_headers_are_stripped(hostile: Stage, who: Caller, line: str) -> None:
    request = forwarded(hostile, who, line)
    assert line.split(":")[0].lower() not in request.names


@pytest.mark.parametrize("value", ["trailers", "gzip, trailers", "trailers;q=0.5, deflate"])
def test_a26_te_trailers_alone_is_passed(hostile: Stage, who: Caller, value: str) -> None:
    request = forwarded(hostile, who, f"TE: {value}", "Connection: TE")
    assert request.all("te") in ([], ["trailers"])


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "foo", "HTTP/2.0"])
def test_a26_other_upgrades_are_answered_as_ordinary_requests(
    hostile: Stage, who: Caller, upgrade: str
) -> None:
    data = get(who, f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings",
               "HTTP2-Settings: AAMAAABk")  # fmt: skip
    answer = hostile.ask(data)
    assert answer.status in (200, 400, 501)
    for request in hostile.recorded(who):
        assert not {"upgrade", "http2-settings"} & request.names


def test_a26_end_to_end_headers_pass_as_they_came(hostile: Stage, who: Caller) -> None:
    lines = [
        "Accept: a", "Accept: b", "X-Custom.!#$%&'*+^_`|~09: v", "User-Agent: me",
        "Cookie: a=1; b=2",
        "Accept-Encoding: gzip", "If-None-Match: \"x\"", "X-Latin: d\xfcsseldorf", "X-Empty:",
        "Origin: http://o.test", "Referer: http://r.test/?a#b", "Cache-Control: no-cache",
    ]  # fmt: skip
    request = forwarded(hostile, who, *lines)
    ours = {"host", "via", "x-request-id", "x-account", "x-user", "x-project", "x-forwarded-for",
            "x-forwarded-proto", "x-forwarded-host"}  # fmt: skip
    kept = [(n.decode(), v.decode("latin-1")) for n, v in request.headers]
    passed = [f"{n}: {v}".rstrip() for n, v in kept if n.lower() not in ours]
    assert passed == lines


def test_a26_nothing_is_added_that_the_client_did_not_send(hostile: Stage, who: Caller) -> None:
    request = forwarded(hostile, who)
    assert not {"user-agent", "accept", "accept-encoding", "connection", "cookie"} & request.names
