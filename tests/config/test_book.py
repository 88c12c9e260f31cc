"""What a configuration becomes: the values of the book."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.core.book import (
    Account,
    Allowance,
    Archive,
    CredentialSource,
    ErrorBody,
    HeaderEdits,
    Listener,
    Retention,
    TlsFiles,
    UsageApi,
)
from gateway.core.limits import RateLimit
from gateway.core.periods import Period
from gateway.core.pricing import FREE
from gateway.core.routes import Match
from tests.config.writing import BASE, HASH, Folder

MONDAY_US = 345_600_000_000  # 1970-01-05T00:00:00Z


def test_an_empty_configuration_has_the_defaults(folder: Folder) -> None:
    book = folder.load("{}\n").book
    assert book.proxy_listener == Listener("127.0.0.1", 8080)
    assert book.admin_listener == Listener("127.0.0.1", 8081)
    assert (book.data_dir, book.journal.dir) == ("./data", "./data/journal")
    assert book.store.path == "./data/tallygate.db"
    assert book.identify.sources == (CredentialSource("bearer"),)
    assert book.unmatched is None and book.routes == () and book.trusted_proxies == ()
    assert book.usage_api == UsageApi(True, "/v1/usage", "/v1/usage/activity")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1000/hour", RateLimit("x", "account", "fixed_window", 1000, 3_600_000_000, 1000)),
        ("{rate: 5/10s, per: key}", RateLimit("x", "key", "fixed_window", 5, 10_000_000, 5)),
        ("{rate: 10/second, per: source, algorithm: gcra, burst: 20}",
         RateLimit("x", "source", "gcra", 10, 1_000_000, 20)),
        ("{rate: 10/second, algorithm: gcra}",
         RateLimit("x", "account", "gcra", 10, 1_000_000, 10)),
        ("{rate: 100/minute, algorithm: gcra}",
         RateLimit("x", "account", "gcra", 100, 60_000_000, 2)),
        ("{rate: 10/day, algorithm: gcra}",
         RateLimit("x", "account", "gcra", 10, 86_400_000_000, 1)),
        ("{concurrent: 3, per: all}", RateLimit("x", "all", "concurrency", 3, 0, 3)),
    ],
)  # fmt: skip
def test_limits(folder: Folder, text: str, limit: RateLimit) -> None:
    (found,) = folder.load(f"limits:\n  x: {text}\n").book.limits
    assert found == replace(limit, id="all/x")  # the policy does not count


@pytest.mark.parametrize(
    ("text", "policy"),
    [("1000/hour", b'"x";q=1000;w=3600'), ("3/500ms", b'"x";q=3;w=1'), ("5/90s", b'"x";q=5;w=90'),
     ("{rate: 10/second, algorithm: gcra, burst: 99}", b'"x";q=10;w=1'),
     ("{concurrent: 3}", b'"x";q=3;qu="concurrent-requests"')],
)  # fmt: skip
def test_policies(folder: Folder, text: str, policy: bytes) -> None:
    assert folder.load(f"limits:\n  x: {text}\n").book.limits[0].policy == policy


def test_limit_ids_name_their_scope(folder: Folder) -> None:
    text = """\
        upstreams: {demo: {url: http://h}}
        plans: {free: {limits: {h: 1/s}}}
        limits: {g: 1/s}
        routes:
          - {name: r, match: GET /r, upstream: demo, price: free, limits: {i: 1/s}}
        """
    book = folder.load(text).book
    assert [limit.id for limit in book.limits] == ["all/g"]
    assert [limit.id for limit in book.plans["free"].limits] == ["plan/free/h"]
    assert [limit.id for limit in book.routes[0].limits] == ["route/r/i"]


@pytest.mark.parametrize(
    ("decimals", "text", "units"),
    [(0, "5", 5), (2, "0.25", 25), (2, "0.1", 10), (6, "0.000001", 1), (12, "0.1", 10**11),
     (2, '"0.30"', 30), (3, "1.500", 1500), (0, "9007199254740991", 2**53 - 1), (0, "5.00", 5),
     (2, "1e1", 1000), (15 - 3, "0.123456789012", 123456789012)],
)  # fmt: skip
def test_prices_are_exact(folder: Folder, decimals: int, text: str, units: int) -> None:
    text = f"""\
        upstreams: {{demo: {{url: http://h}}}}
        meters: {{coins: {{decimals: {decimals}}}}}
        routes:
          - {{match: GET /r, upstream: demo, price: {{coins: {text}}}}}
        """
    (route,) = folder.load(text).book.routes
    assert route.prices["api_key"].charges == (("coins", units),)
    assert type(units) is int


def test_prices_by_caller(folder: Folder) -> None:
    text = """\
        upstreams: {demo: {url: http://h}}
        meters: {coins: {decimals: 1}, tokens: {}}
        routes:
          - match: GET /a
            upstream: demo
            price: {coins: 1, tokens: 2}
            callers: {api_key: {}, browser: {price: free}, anonymous: {price: {coins: 0.5}}}
          - {match: GET /b, upstream: demo, price: free, callers: [browser, anonymous]}
          - {match: GET /c, upstream: demo, price: {coins: 0, tokens: 3}}
        """
    a, b, c = folder.load(text).book.routes
    assert {kind: price.charges for kind, price in a.prices.items()} == {
        "api_key": (("coins", 10), ("tokens", 2)), "browser": (), "anonymous": (("coins", 5),),
    }  # fmt: skip
    assert b.prices == {"browser": FREE, "anonymous": FREE}
    assert {kind: price.charges for kind, price in c.prices.items()} == {
        "api_key": (("tokens", 3),)
    }


def test_routes(folder: Folder) -> None:
    text = """\
        upstreams: {demo: {url: http://h}}
        routes:
          - name: full
            match: GET,POST  /p/{project}/x
            host: API.Example.com
            headers: {X-Version: "2", X-Any: }
            upstream: demo
            operation: Do it
            price: free
            project: "{project}"
            max_body: 1KB
            pass_credential: true
          - {match: "* /files/{rest...}", upstream: demo, price: free, project: fixed}
          - {match: GET /same, upstream: demo, price: free, host: A.test}
          - {match: GET /same, upstream: demo, price: free, headers: {X-A: a}}
          - {match: GET /same, upstream: demo, price: free}
        """
    book = folder.load(text).book
    full, files, *same = book.routes
    assert (full.name, full.operation) == ("full", "Do it")
    assert (full.methods, full.template) == (frozenset({"GET", "POST"}), "/p/{project}/x")
    assert full.host == "api.example.com"
    assert full.headers == (("x-version", "2"), ("x-any", None))
    assert (full.project_param, full.project) == ("project", "")
    assert full.max_body_bytes == 1000 and full.pass_credential
    assert full.source == f"{folder.path}/c.yaml:3:5"
    assert (files.name, files.operation, files.methods) == (
        "* /files/{rest...}", "* /files/{rest...}", frozenset(),
    )  # fmt: skip
    assert (files.project_param, files.project) == (None, "fixed")
    assert [r.name for r in same] == ["GET /same on a.test", "GET /same", "GET /same #2"]
    found = book.table.match("POST", "api.example.com", "/p/7/x", {"x-version": "2", "x-any": ""})
    assert isinstance(found, Match)
    assert found.entry is full and found.parameters == {"project": "7"}


def test_unmatched(folder: Folder) -> None:
    passed = folder.load(
        BASE + "unmatched: {action: pass, upstream: demo, price: {coins: 0.5},"
        " callers: [api_key, anonymous], max_body: 1KB}\n"
    ).book.unmatched
    assert passed is not None
    assert (passed.name, passed.operation, passed.template) == ("unmatched", "Other", "/{path...}")
    assert {kind: price.charges for kind, price in passed.prices.items()} == {
        "api_key": (("coins", 50),), "anonymous": (("coins", 50),),
    }  # fmt: skip
    assert passed.max_body_bytes == 1000
    assert folder.load(BASE + "unmatched: {action: refuse}\n").book.unmatched is None


def test_upstreams(folder: Folder) -> None:
    text = """\
        upstreams:
          a: {url: "https://h.test/base/", tls: {verify: false, ca_file: /ca.pem}, host: keep}
          b:
            url: http://[::1]:9000
            connect_timeout: 500ms
            total_timeout: 5m
            pool_size: 0
            request_headers: {remove: [X-Debug], set: {X-From: me}}
        """
    book = folder.load(text).book
    a, b = book.upstreams["a"], book.upstreams["b"]
    assert (a.scheme, a.host, a.port, a.base_path) == ("https", "h.test", 443, "/base")
    assert (a.verify_tls, a.ca_file, a.host_header) == (False, "/ca.pem", "keep")
    assert (a.connect_timeout_s, a.read_timeout_s, a.total_timeout_s) == (3.0, 60.0, None)
    assert (b.scheme, b.host, b.port, b.base_path) == ("http", "::1", 9000, "")
    assert (b.connect_timeout_s, b.total_timeout_s, b.pool_size) == (0.5, 300.0, 0)
    assert b.request_headers == HeaderEdits(frozenset({b"x-debug"}), ((b"X-From", b"me"),))


def test_plans_and_accounts(folder: Folder) -> None:
    text = """\
        meters: {coins: {decimals: 2, title: Coins}}
        plans:
          free: {allowances: {coins: {amount: 20.5, per: week}}}
          paid: {allowances: {coins: {amount: 0, per: month, when_exhausted: overage, status: 402}}}
        default_plan: free
        accounts:
          a: {}
          b: {plan: paid, title: Bee, cycle_start: "2026-01-05T01:00:00+01:00", disabled: true}
        """
    book = folder.load(text).book
    assert book.plans["free"].allowances == (Allowance("coins", 2050, Period("week")),)
    assert book.plans["paid"].allowances == (
        Allowance("coins", 0, Period("month"), "overage", 402),
    )
    assert book.accounts["a"] == Account("a", "free", MONDAY_US, "a")
    assert book.accounts["b"] == Account("b", "paid", 1_767_571_200_000_000, "Bee", True)
    assert book.meters["coins"].decimals == 2


def test_keys(folder: Folder) -> None:
    text = BASE + (
        f"keys:\n  - {{id: ci, account: acme, user: bot, project: web, name: CI, hash: '{HASH}',\n"
        "     expires: 2027-01-01T00:00:00Z, routes: [GET /r], networks: [10.0.0.0/8, '::1']}\n"
        "routes:\n  - {match: GET /r, upstream: demo, price: free}\n"
    )
    digest = hashlib.sha256(b"key").digest()
    key = folder.load(text).book.keys[digest]
    assert (key.id, key.digest, key.account, key.user, key.project, key.name) == (
        "ci", digest, "acme", "bot", "web", "CI",
    )  # fmt: skip
    assert key.expires_us == 1_798_761_600_000_000 and key.declared
    assert key.routes == frozenset({"GET /r"})
    assert key.networks == (ip_network("10.0.0.0/8"), ip_network("::1"))


def test_identify(folder: Folder) -> None:
    folder.write("secret", "0123456789abcdef\n")
    text = BASE + (
        "identify:\n  sources:\n    - header: X-API-Key\n    - bearer\n    - query: api_key\n"
        "    - cookie: {name: s, account: acme, verified_by: backend}\n"
        f"    - cookie: {{name: t, verified_by: signature, secret_file: {folder.path}/secret}}\n"
        "    - cookie: {name: u, verified_by: signature, secret: 'fedcba9876543210'}\n"
        "  anonymous: {account: acme}\n  forward: {account: X-Account, kind: X-Kind}\n"
        "  failures_per_minute: 5\n"
    )
    identify = folder.load(text).book.identify
    assert identify.sources == (
        CredentialSource("header", "x-api-key"),
        CredentialSource("bearer"),
        CredentialSource("query", "api_key"),
        CredentialSource("cookie", "s", "acme"),
        CredentialSource("cookie", "t", None, b"0123456789abcdef"),
        CredentialSource("cookie", "u", None, b"fedcba9876543210"),
    )
    assert identify.anonymous_account == "acme"
    assert identify.forward_headers == {"account": "X-Account", "kind": "X-Kind"}
    assert identify.failures_per_minute == 5


def test_retention(folder: Folder) -> None:
    text = "store: {path: a.db, retention: {events: 13 months%s}}\n"
    cases = {
        "": None,
        ", archive: {dir: /srv/old}": Archive("/srv/old"),
        ", archive: {dir: old, format: parquet}": Archive("old", "parquet"),
    }
    for more, archive in cases.items():
        assert folder.load(text % more).book.store.retention == Retention(13, archive)
    assert folder.load("store: {retention: null}\n").book.store.retention is None


def test_listeners_server_journal_and_answers(folder: Folder) -> None:
    text = """\
        listeners:
          proxy: {address: "[::]:8443", tls: {cert_file: /c.pem, key_file: /k.pem}}
          admin: null
        data_dir: /var/lib/tg
        journal: {sync: always, sync_interval: 1s, max_size: 1GB, segment_size: 1MiB, on_full: pass}
        store: {path: /srv/tg.db}
        server: {max_body: 0B, drain_timeout: 0s, max_connections_per_address: 5}
        trusted_proxies: [10.0.0.0/8]
        usage_api: {path: /u}
        response_headers: {ratelimit: false, via: gw}
        errors:
          key_invalid: {status: 403, body: {detail: "Invalid {code}", n: 1.5, l: [true, null]}}
          rate_limited: {body: slow down, content_type: text/html}
          bad_request: {body: no}
        """
    book = folder.load(text).book
    assert book.proxy_listener == Listener("::", 8443, TlsFiles("/c.pem", "/k.pem"))
    assert book.admin_listener is None
    assert book.journal.dir == "/var/lib/tg/journal" and book.store.path == "/srv/tg.db"
    assert (book.journal.sync, book.journal.sync_interval_s) == ("always", 1.0)
    assert (book.journal.max_bytes, book.journal.segment_bytes) == (10**9, 2**20)
    assert book.journal.on_full == "pass"
    assert (book.server.max_body_bytes, book.server.drain_timeout_s) == (0, 0.0)
    assert book.server.max_connections_per_address == 5
    assert book.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert book.usage_api == UsageApi(True, "/u", "/u/activity", "/u/export")
    assert not book.response_headers.ratelimit and book.response_headers.via == "gw"
    assert book.errors == {
        "key_invalid": ErrorBody(
            403, "application/json", '{"detail": "Invalid {code}", "n": 1.5, "l": [true, null]}'
        ),
        "rate_limited": ErrorBody(None, "text/html", "slow down"),
        "bad_request": ErrorBody(None, "text/plain; charset=utf-8", "no"),
    }


def test_ten_thousand_routes(folder: Folder) -> None:
    lines = [BASE, "routes:"]
    for n in range(10_000):
        lines.append(f"  - name: r{n}")
        lines.append(f"    match: GET /api/v{n}/items/{{id}}")
        lines.append("    upstream: demo\n    price: {coins: 0.25}\n    limits: {i: 10/minute}")
    book = folder.load("\n".join(lines)).book
    assert len(book.routes) == 10_000
    found = book.table.match("GET", "", "/api/v9999/items/7", {})
    assert isinstance(found, Match) and found.entry.name == "r9999"
