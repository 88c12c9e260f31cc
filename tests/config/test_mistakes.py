"""Every kind of mistake, with the line it is reported as (routes: test_mistakes_of_routes)."""

from __future__ import annotations

import pytest

from tests.config.writing import BASE, HASH, Folder

ROUTE = "routes:\n  - {name: r, match: GET /r, upstream: demo, price: free%s}\n"

# What is wrong, the text behind BASE (which has four lines), the problems.
CASES: dict[str, tuple[str, list[str]]] = {
    "unknown section": (
        "rotues: []\n",
        ["5:1: expected a known key, found 'rotues' (did you mean routes?)"],
    ),
    "a tab": (
        "server:\n\tmax_headers: 1\n",
        ["6:1: expected YAML, found an error: a tab; YAML is indented with spaces"],
    ),
    "two listeners on one address": (
        "listeners: {proxy: 127.0.0.1:1234, admin: 127.0.0.1:1234}\n",
        ["5:43: expected another address than the proxy's, found '127.0.0.1:1234'"],
    ),
    "a state without a store": (
        "state: {url: redis://127.0.0.1}\n",
        ["5:9: expected store.url beside it, found none"
         " (what gateways share needs a store that they share)"],
    ),
    "the URL of something else": (
        "store: {url: postgresql://127.0.0.1/t}\nstate: {url: http://127.0.0.1:6379}\n",
        ["6:14: expected a URL such as redis://127.0.0.1:6379/0 or rediss://user:password@redis:6380/0,"
         " found one that begins with 'http'"],
    ),
    "a retention that is too short": (
        "store:\n  retention: {events: 1 month, archive: {dir: a, format: CSV}}\n",
        ["6:23: expected 2 to 1200 months, found '1 month'"
         " (late events and refunds need the last ones)",
         "6:58: expected csv or parquet, found 'CSV' (did you mean csv?)"],
    ),
    "a retention in days": (
        "store:\n  retention: {events: 400d, archive: {}}\n",
        ["6:23: expected a number of calendar months such as 13 months, found '400d'"
         " (events leave by the calendar month)",
         "6:38: expected the key 'dir', found none"
         " (Folder of the files; made when it is not there)"],
    ),
    "a retention of nothing": (
        "store: {retention: {archive: {dir: a}}}\n",
        ["5:20: expected the key 'events', found none (Calendar months (UTC) kept beside the"
         " current one, at least 2 months)"],
    ),
    "a Cluster as one server": (
        "store: {url: postgresql://127.0.0.1/t}\nstate: {url: 'redis://a:1,b:2'}\n",
        ["6:14: expected a URL such as redis://127.0.0.1:6379/0 or rediss://user:password@redis:6380/0,"
         " found several hosts"
         " (redis+cluster:// names some nodes of a Cluster, redis+sentinel:// its Sentinels)"],
    ),
    "Sentinels of no service": (
        "store: {url: postgresql://127.0.0.1/t}\nstate: {url: 'redis+sentinel://:secret@a,b'}\n",
        ["6:14: expected a URL such as redis://127.0.0.1:6379/0 or rediss://user:password@redis:6380/0,"
         " found one without the name of the service (as in redis+sentinel://host/main)"],
    ),
    "no group": (
        "state: {groups: 0}\n",
        ["5:17: expected a number of at least 1, found the number 0"],
    ),
    "a lease of no length": (
        "state: {lease: 500ms}\n",
        ["5:16: expected a duration of 1s to 1h, found '500ms'"],
    ),
    "unknown key": (
        "server:\n  head_timout: 1s\n",
        ["6:3: expected a known key of server, found 'head_timout' (did you mean head_timeout?)"],
    ),
    "unknown key of a short form": (
        "limits: {a: {rate: 1/s, brst: 2}}\n",
        ["5:25: expected a known key of limits.a, found 'brst' (did you mean burst?)"],
    ),
    "merge key": (
        "server: {<<: {max_headers: 1}}\n",
        ["5:10: expected a known key of server, found '<<'"
         " (YAML 1.2 has no merge keys; write the keys out)"],
    ),
    "repeated key": (
        "server:\n  max_headers: 1\n  max_headers: 2\n",
        ["7:3: expected each key once, found 'max_headers' again (first at c.yaml:6:3)"],
    ),
    "repeated section": (
        "meters: {x: {}}\n",
        ["5:1: expected each key once, found 'meters' again (first at c.yaml:2:1)"],
    ),
    "missing key": (
        f"keys:\n  - id: k\n    hash: {HASH}\n",
        ["6:5: expected the key 'account', found none (Name of the account that pays)"],
    ),
    "a YAML 1.1 boolean": (
        "response_headers: {budget: on}\n",
        ["5:28: expected true or false, found 'on'"
         " (did you mean true? YAML 1.2 has no other words for it)"],
    ),
    "a number that is text": (
        "server: {max_headers: 1_000}\n",
        ["5:23: expected a whole number, found '1_000'"],
    ),
    "a sexagesimal": (
        "server: {max_headers: 1:30}\n",
        ["5:23: expected a whole number, found '1:30'"],
    ),
    "text for a number": (
        'server: {max_headers: "5"}\n',
        ["5:23: expected a whole number, found '5' (without quotes)"],
    ),
    "a fraction for a number": (
        "server: {max_headers: 1.5}\n",
        ["5:23: expected a whole number, found the number 1.5"],
    ),
    "out of range": (
        "server: {max_headers: 0}\nidentify: {failures_per_minute: 1000001}\n",
        ["5:23: expected a number of at least 1, found the number 0",
         "6:33: expected a number of at most 1000000, found the number 1000001"],
    ),
    "a list for a mapping": ("server: [a]\n", ["5:9: expected a mapping, found a list"]),
    "a mapping for a list": ("keys: {a: 1}\n", ["5:7: expected a list, found a mapping"]),
    "wrong units": (
        "server:\n  head_timeout: 10\n  max_line: 8k\n  drain_timeout: 1min\n"
        "limits: {a: 10/week, b: 5}\n",
        ["6:17: expected a duration such as 250ms, 30s, 5m, 2h or 7d, found the number 10"
         " (a number needs its unit: ms, s, m, h or d)",
         "7:13: expected a size such as 512KB, 10MB or 2GiB, found '8k' (did you mean 8KB?)",
         "8:18: expected a duration such as 250ms, 30s, 5m, 2h or 7d, found '1min'"
         " (did you mean 1m?)",
         "9:13: expected a rate such as 10/second, 100/minute, 1000/hour or 5/10s, found"
         " '10/week' (a rate is per day at most; per week is an allowance of a plan)",
         "9:25: expected a rate such as 10/second, or a mapping with `rate:` or `concurrent:`,"
         " found the number 5"],
    ),
    "zero where something is needed": (
        "server: {head_timeout: 0s, max_line: 0B}\n",
        ["5:24: expected a duration of at least 1ms, found '0s'",
         "5:38: expected a size of at least 1B, found '0B'"],
    ),
    "unknown choice": (
        "journal: {sync: allways, on_full: drop}\n",
        ["5:17: expected always, interval or off, found 'allways' (did you mean always?)",
         "5:35: expected refuse or pass, found 'drop'"],
    ),
    "segments larger than the journal": (
        "journal: {max_size: 40MB}\n",
        ["5:21: expected a segment_size of at most half the max_size, found 33554432 and"
         " 40000000 bytes"],
    ),
    "listeners": (
        "listeners:\n  proxy: 8080\n  admin: {address: '::1:80', tls: {cert_file: a}}\n",
        ["6:10: expected an address such as 127.0.0.1:8080, or a mapping with `address:`, found"
         " the number 8080",
         "7:20: expected an address such as 127.0.0.1:8080 or [::1]:8080, found '::1:80'"
         " (did you mean [::1]:80?)",
         "7:35: expected the key 'key_file', found none (PEM file with the private key)"],
    ),
    "ports": (
        "listeners: {proxy: '127.0.0.1:70000', admin: ':81'}\n",
        ["5:20: expected an address such as 127.0.0.1:8080 or [::1]:8080, found"
         " '127.0.0.1:70000' (a port is a number up to 65535)",
         "5:46: expected an address such as 127.0.0.1:8080 or [::1]:8080, found ':81'"
         " (did you mean 0.0.0.0:81?)"],
    ),
    "networks": (
        "trusted_proxies: [10.0.0.1/8, proxy.local]\n",
        ["5:19: expected a network such as 10.0.0.0/8 or an address, found '10.0.0.1/8'"
         " (did you mean 10.0.0.0/8?)",
         "5:31: expected a network such as 10.0.0.0/8 or an address, found 'proxy.local'"],
    ),
    "a bad name": (
        "limits: {'a b': 1/s}\n",
        ["5:10: expected a name of 1 to 64 letters, digits, '_', '.' or '-', found 'a b'"],
    ),
    "limits of both kinds": (
        "limits:\n  a: {rate: 1/s, concurrent: 2}\n  b: {}\n  c: {rate: 1/s, burst: 3}\n"
        "  d: {concurrent: 1, per: kye, algorithm: gcra}\n",
        ["6:13: expected no `rate:` beside `concurrent:`, found '1/s' (make it two limits)",
         "7:6: expected `rate:` or `concurrent:`, found nothing",
         "8:25: expected no burst with fixed_window, found the number 3"
         " (it needs algorithm: gcra)",
         "9:27: expected key, account, user, project, source, route or all, found 'kye'"
         " (did you mean key?)",
         "9:43: expected no `algorithm:` beside `concurrent:`, found 'gcra' (make it two limits)"],
    ),
    "an unknown default plan": (
        "default_plan: fre\n",
        ["5:15: expected the name of a plan, found 'fre' (did you mean free?)"],
    ),
    "errors": (
        "errors:\n  rate_limitd: {body: x}\n  key_invalid: {status: 200, body: {a: 1}}\n"
        "  key_expired: {status: 401}\n  bad_request: {body: 5}\n",
        ["6:3: expected the name of a refusal code, found 'rate_limitd'"
         " (did you mean rate_limited?)",
         "7:25: expected a number of at least 400, found the number 200",
         "8:16: expected the key 'body', found none (A mapping or list, sent as JSON, or text)",
         "9:23: expected a mapping or list (sent as JSON) or a text, found the number 5"],
    ),
    "accounts": (
        f"keys:\n  - {{id: a, account: acm, hash: '{HASH}',"
        " routes: [r2], networks: [1.2.3.4/33]}\n" + ROUTE % "",
        ["6:22: expected the name of an account, found 'acm' (did you mean acme?)",
         "6:117: expected the name of a route, found 'r2' (did you mean r?)",
         "6:133: expected a network such as 10.0.0.0/8 or an address, found '1.2.3.4/33'"],
    ),
    "keys": (
        f"keys:\n  - {{id: a, account: acme, hash: '{HASH}'}}\n"
        f"  - {{id: a, account: acme, hash: '{HASH}', expires: 2027-01-01}}\n"
        "  - {id: b, account: acme, hash: tg_live_secretsecret}\n",
        ["7:10: expected each key id once, found 'a' (first at c.yaml:6:10)",
         f"7:34: expected each hash once, found '{HASH[:57]}…' (first at c.yaml:6:34)",
         "7:118: expected an instant such as 2026-01-05T00:00:00Z, found '2027-01-01'"
         " (did you mean 2027-01-01T00:00:00Z?)",
         '8:34: expected "sha256:" and 64 hexadecimal digits, found a text of another form'
         ' (printf %s "$KEY" | sha256sum)'],
    ),
    "cookies": (
        "identify:\n  sources:\n"
        "    - cookie: {name: a, verified_by: backend}\n"
        "    - cookie: {name: b, verified_by: signature}\n"
        "    - cookie: {name: c, verified_by: signature, secret: short}\n"
        "    - cookie: {name: d, verified_by: backend, account: acme, secret_file: /x}\n"
        "    - cookie: {name: e, verified_by: signature, secret_file: /none/such}\n"
        "    - cookie: {name: f, verified_by: signature, secret: [hush-hush]}\n"
        "    - {header: X-Key, query: key}\n"
        "    - {}\n    - bearr\n    - query: a b\n    - bearer\n    - bearer\n",
        ["7:15: expected `account:`, found nothing (nobody else says whose calls these are)",
         "8:15: expected `secret_file:` or `secret:`, found nothing (signatures need a key)",
         "9:57: expected a secret of at least 16 bytes, found 5 bytes (openssl rand -hex 32)",
         "10:62: expected no secret with verified_by: backend, found `secret_file:`",
         "11:62: expected a file that can be read, found '/none/such': No such file or directory",
         "12:57: expected text, found a value that is not shown",
         "13:30: expected one source, `header:` is another, found 'key' (two entries)",
         "14:7: expected `bearer`, `header:`, `query:` or `cookie:`, found nothing",
         "15:7: expected `bearer`, or a mapping with `header:`, `query:` or `cookie:`, found"
         " 'bearr'",
         "16:14: expected the name of a query parameter, found 'a b'",
         "18:7: expected each source once, found 'bearer' (first at c.yaml:17:7)"],
    ),
    "forwarded headers": (
        "identify: {anonymous: {account: nobody},\n"
        "  forward: {account: X-Who, user: x_who, projet: X-P, key: Host}}\n",
        ["5:33: expected the name of an account, found 'nobody' (known: acme)",
         "6:35: expected each header once, found 'x_who' (first at c.yaml:6:22)",
         "6:42: expected account, user, project, key, kind or plan, found 'projet'"
         " (did you mean project?)",
         "6:60: expected a header that is not part of the framing, found 'Host'"
         " (see the upstream's `host:`)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_mistakes(folder: Folder, text: str, expected: list[str]) -> None:
    assert folder.problems(BASE + text) == [f"c.yaml:{line}" for line in expected]


def test_an_account_needs_a_plan(folder: Folder) -> None:
    assert folder.problems("accounts:\n  a: {title: A}\n  b: {}\n") == [
        "c.yaml:2:6: expected `plan:`, found nothing (there is no default_plan)",
        "c.yaml:3:6: expected `plan:`, found nothing (there is no default_plan)",
    ]


def test_plans(folder: Folder) -> None:
    text = """\
        meters: {coins: {decimals: 0}, gold: {decimals: 13}}
        plans:
          a:
            allowances:
              coins: {amount: 0.5, per: week}
              coin: {amount: 1, per: weekly, status: 200}
              gold: {per: day}
        accounts: {x: {plan: b}}
        """
    assert folder.problems(text) == [
        "c.yaml:1:49: expected a number of at most 12, found the number 13",
        "c.yaml:5:23: expected an amount of whole numbers only, found the number 0.5"
        " (the meter has decimals: 0)",
        "c.yaml:6:7: expected the name of a meter, found 'coin' (did you mean coins?)",
        "c.yaml:6:30: expected hour, day, week, month, ever, a weekday that weeks begin with, or a "
        "length such as 10d, found 'weekly' (did you mean week?)",
        "c.yaml:6:46: expected a number of at least 400, found the number 200",
        "c.yaml:7:13: expected `amount:`, `per_seat:`, or `price:` with `rate:`, found nothing",
        "c.yaml:8:22: expected the name of a plan, found 'b' (known: a)",
    ]


def test_a_mistake_does_not_cause_others(folder: Folder) -> None:
    """What refers to something with a mistake is right, and what is right is judged."""
    text = """\
        upstreams: {demo: {url: nowhere}}
        meters: {coins: {decimals: many}}
        plans: {free: {limits: {a: x}}}
        accounts: {acme: {plan: free, cycle_start: x}}
        routes:
          - {name: r, match: x, upstream: demo, price: {coins: 1}}
          - {name: s, match: GET /s, upstream: demo, price: {coin: 1}, max_body: x}
        default_plan: free
        """
    places = [problem.split(": ")[0] for problem in folder.problems(text)]
    assert places == [
        "c.yaml:1:25", "c.yaml:2:28", "c.yaml:3:28", "c.yaml:4:44", "c.yaml:6:22",
        "c.yaml:7:54", "c.yaml:7:74",
    ]  # fmt: skip


def test_problems_are_sorted_by_line_not_by_text(folder: Folder) -> None:
    text = "\n" * 8 + "b: 1\n" + "\n" * 90 + "a: 1\n"
    assert [p.split(":")[1] for p in folder.problems(text)] == ["9", "100"]


def test_a_file_that_is_not_there(folder: Folder) -> None:
    from gateway.config import ConfigError, load

    path = folder.path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == (
        f"{path}:1:1: expected a file that can be read, found {path}: No such file or directory"
    )


def test_thousands_of_mistakes_are_all_reported(folder: Folder) -> None:
    routes = "".join(
        f"  - {{match: GET /r{n}, upstream: demo{n}, prise: 1}}\n" for n in range(2000)
    )
    assert len(folder.problems(BASE + "routes:\n" + routes)) == 4000
