"""What works but should be a decision."""

from __future__ import annotations

import httptools
import pytest

from gateway.config import lint
from tests.config.writing import BASE, Folder

QUIET = BASE + "routes:\n  - {name: r, match: GET /r, upstream: demo, price: {coins: 1}}\n"
FREE = "routes:\n  - {name: r, match: GET /r, upstream: demo, price: %s}\n"

CASES = {
    "no routes": (BASE, ["1:1: there are no routes: every request is refused"]),
    "free": (BASE + FREE % "free", ["6:5: the route 'r' is free"]),
    "free for some": (
        BASE + FREE % "free, callers: {api_key: {price: {coins: 1}}, browser: {}}",
        ["6:5: the route 'r' is free for browser",
         "6:68: 'r' lets browsers in, but identify.sources has no cookie"],
    ),
    "zero": (
        BASE + FREE % "0",
        ["6:5: the route 'r' is free",
         "6:53: a price of 0: write `free` to say that it is meant"],
    ),
    "zero amounts": (
        BASE + FREE % "{coins: 0.00}, callers: {api_key: {price: {coins: 0}}}",
        ["6:5: the route 'r' is free",
         "6:53: a price of 0: write `free` to say that it is meant",
         "6:95: a price of 0: write `free` to say that it is meant"],
    ),
    "unmatched passed free": (
        QUIET + "unmatched: {action: pass, upstream: demo, price: free}\n",
        ["7:12: what no route names is passed on, free"],
    ),
    "unmatched passed at a price": (
        QUIET + "unmatched: {action: pass, upstream: demo, price: {coins: 1}}\n",
        ["7:12: what no route names is passed on, at a price of its own"],
    ),
    "anonymous without an account": (
        BASE + FREE % "{coins: 1}, callers: [api_key, anonymous]",
        ["6:74: 'r' lets anonymous callers in, but identify.anonymous names no account: nobody is"
         " charged"],
    ),
    "a cookie nobody checks": (
        QUIET + "identify: {sources: [bearer, cookie: {name: s, account: acme,"
        " verified_by: backend}]}\n",
        ["7:30: any value of the cookie 's' counts as a session here: the backend must judge it"],
    ),
    "an open admin listener": (
        QUIET + "listeners: {admin: 0.0.0.0:81}\n",
        ["7:20: the admin listener is open to others than this machine (0.0.0.0)"],
    ),
    "trusting everybody": (
        QUIET + "trusted_proxies: [10.0.0.0/8, 0.0.0.0/0, '::/0']\n",
        ["7:31: 0.0.0.0/0 trusts everybody: any caller may invent its address",
         "7:42: ::/0 trusts everybody: any caller may invent its address"],
    ),
    "tls without effect": (
        "upstreams: {a: {url: http://h, tls: {verify: true}}}\nunmatched: {action: pass,"
        " upstream: a, price: free}\n",
        ["1:32: `tls:` has no effect on an http URL",
         "2:12: what no route names is passed on, free"],
    ),
    "tls not verified": (
        "upstreams: {a: {url: https://h, tls: {verify: false}}}\nunmatched: {action: pass,"
        " upstream: a, price: free}\n",
        ["1:38: the certificate of 'a' is not verified",
         "2:12: what no route names is passed on, free"],
    ),
    "limits of one name": (
        QUIET.replace("free: {}", "free: {limits: {h: 1/s}}") + "limits: {h: 2/s, g: 1/s}\n",
        ["3:25: the limit 'h' is also at c.yaml:7:10: both would be reported under one name"],
    ),
    "methods that do not exist": (
        QUIET.replace("GET /r", "'GETS,FETCHED /r'"),
        ["6:22: no request has the method FETCHED",
         "6:22: no request has the method GETS (did you mean GET?)"],
    ),
    "a method of a list": (
        QUIET.replace("GET /r", "[PROPFIND /r, M-SEARCH /r, DELTE /r]"),
        ["6:49: no request has the method DELTE (did you mean DELETE?)"],
    ),
    "parameters with a colon": (
        QUIET.replace("GET /r", "'GET /a/:id/b:c/:d'"),
        ["6:22: :d is taken as it stands: a parameter is {d}",
         "6:22: :id is taken as it stands: a parameter is {id}"],
    ),
    "nothing": (QUIET, []),
    "a local admin listener": (QUIET + "listeners: {admin: '[::1]:81'}\n", []),
    "another local admin listener": (QUIET + "listeners: {admin: localhost:81}\n", []),
    "anonymous with an account": (
        BASE + FREE % "{coins: 1}, callers: [anonymous]"
        + "identify: {anonymous: {account: acme}}\n",
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_warnings(folder: Folder, text: str, expected: list[str]) -> None:
    assert folder.warnings(text) == [f"c.yaml:{line}" for line in expected]


STORED = (
    QUIET
    + "store: {url: postgresql://h/n, retention: {events: 3 months, archive:"
    + " {dir: a, format: parquet}}}\nstate: {url: redis://h}\n"
)


def test_libraries_that_are_not_installed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder.warnings(STORED) == []
    monkeypatch.setattr(lint, "find_spec", lambda module: None)
    text = "is not installed here, and `serve` needs it for this: pip install"
    assert folder.warnings(STORED) == [
        f"c.yaml:7:1: psycopg {text} 'tallygate[postgres]'",
        f"c.yaml:7:80: pyarrow {text} 'tallygate[parquet]'",
        f"c.yaml:8:1: redis {text} 'tallygate[redis]'",
    ]


def test_every_method_that_passes_is_one_that_the_parser_takes() -> None:
    for method in lint.METHODS:
        parser = httptools.HttpRequestParser(object())
        parser.feed_data(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert parser.get_method() == method.encode()
