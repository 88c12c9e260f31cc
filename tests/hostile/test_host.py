"""Attack 18: Host headers that two readers understand differently."""

from __future__ import annotations

import pytest

from tests.support.configs import Caller
from tests.support.raw import head
from tests.support.stage import Stage

BAD_HOSTS = [
    "", " ", "a.test, b.test", "a.test b.test", "user@a.test", "user:pw@a.test", "a.test/", "/",
    "a.test/path", "x/#@evil.test", "x?@evil.test", "a.test#f", "a.test:", "a.test:port",
    "a.test:-1", "a.test:80:80", "a.test:123456", "[::1", "::1", "[::1]x", "a\\b", "a.test\x00",
    "a;b", "a\tb",
    "http://a.test", "%61.test", "a<b>",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS, ids=repr)
def test_a18_odd_host_is_400(hostile: Stage, who: Caller, host: str) -> None:
    hostile.assert_refused(head("GET", "/h", who.bearer, host=host), who)


def test_a18_missing_host_is_400(hostile: Stage, who: Caller) -> None:
    data = head("GET", "/h", who.bearer).replace(b"Host: gateway.test\r\n", b"")
    hostile.assert_refused(data, who)


@pytest.mark.parametrize("second", ["a.test", "gateway.test", ""])
def test_a18_two_hosts_are_400(hostile: Stage, who: Caller, second: str) -> None:
    hostile.assert_refused(head("GET", "/h", who.bearer, f"Host: {second}"), who)


@pytest.mark.parametrize("host", ["a.test", "a.test:8080", "127.0.0.1:80", "[::1]", "[::1]:80",
                                  "A.Test", "a_b.test", "localhost"])  # fmt: skip
def test_a18_ordinary_hosts_pass(hostile: Stage, who: Caller, host: str) -> None:
    _, request = hostile.assert_forwarded(head("GET", "/h", who.bearer, host=host), who)
    assert len(request.all("host")) == 1
    assert request.all("x-forwarded-host") == [host]


def test_a18_host_does_not_choose_the_path(hostile: Stage, who: Caller) -> None:
    """The price is decided on the raw target, whatever Host says."""
    hostile.assert_refused(head("GET", "/free", who.bearer, host="a.test/five?"), who)
    hostile.assert_forwarded(head("GET", "/five", who.bearer, host="a.test"), who)
    assert hostile.used(who) == 5


def test_a18_http_1_0_without_host_passes(hostile: Stage, who: Caller) -> None:
    data = f"GET /h HTTP/1.0\r\n{who.bearer}\r\n\r\n".encode()
    _, request = hostile.assert_forwarded(data, who)
    assert len(request.all("host")) == 1
