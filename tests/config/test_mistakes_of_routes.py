"""Every kind of mistake in routes, prices, upstreams and what no route names."""

from __future__ import annotations

import pytest

from tests.config.writing import BASE, Folder

ROUTE = "routes:\n  - {name: r, match: GET /r, upstream: demo, price: free%s}\n"

# What is wrong, the text behind BASE (which has four lines), the problems.
CASES: dict[str, tuple[str, list[str]]] = {
    "a route without a price": (
        "routes:\n  - match: GET /a\n    upstream: demo\n",
        ["6:5: expected `price: free` or amounts, found nothing"
         " (traffic without a price is a decision)"],
    ),
    "a caller without a price": (
        "routes:\n  - match: GET /a\n    upstream: demo\n"
        "    callers: {api_key: {price: free}, browser: {}}\n",
        ["6:5: expected `price: free` or amounts for browser, found nothing"
         " (traffic without a price is a decision)"],
    ),
    "a route to nowhere": (
        "routes:\n  - {match: GET /a, price: free}\n"
        "  - {match: GET /b, upstream: dmo, price: free}\n",
        ["6:5: expected the key 'upstream', found none (Name of the upstream that serves it)",
         "7:31: expected the name of an upstream, found 'dmo' (did you mean demo?)"],
    ),
    "prices": (
        "routes:\n"
        "  - {match: GET /a, upstream: demo, price: {coin: 1}}\n"
        "  - {match: GET /b, upstream: demo, price: {coins: -1}}\n"
        "  - {match: GET /c, upstream: demo, price: {coins: 0.125}}\n"
        "  - {match: GET /d, upstream: demo, price: {coins: .inf}}\n"
        "  - {match: GET /e, upstream: demo, price: {coins: 90071992547409.92}}\n"
        "  - {match: GET /f, upstream: demo, price: {}}\n"
        "  - {match: GET /g, upstream: demo, price: 1}\n"
        "  - {match: GET /h, upstream: demo, price: Free}\n"
        "  - {match: GET /i, upstream: demo, price: {coins: 1e400}}\n"
        "  - {match: GET /j, upstream: demo, price: {coins: yes}}\n",
        ["6:45: expected the name of a meter, found 'coin' (did you mean coins?)",
         "7:52: expected an amount that is not negative, found the number -1",
         "8:52: expected an amount of at most 2 digits, found the number 0.125"
         " (the meter has decimals: 2)",
         "9:52: expected an amount such as 1 or 0.25, found '.inf'",
         "10:52: expected an amount below 2**53 smallest units (9,007,199,254,740,991), found"
         " the number 90071992547409.92",
         "11:44: expected `free` or amounts such as {coins: 1}, found an empty mapping",
         "12:44: expected `free` or amounts such as {coins: 1}, found the number 1",
         "13:44: expected `free` or amounts such as {coins: 1}, found 'Free'",
         "14:52: expected an amount of 0, or between 1e-40 and 9,007,199,254,740,991, found the"
         " number 1E+400",
         "15:52: expected an amount such as 1 or 0.25, found 'yes'"],
    ),
    "callers": (
        ROUTE % ", callers: [api_key, anonymos]"
        + "  - {match: GET /s, upstream: demo, price: free, callers: {browsr: {}}}\n"
        "  - {match: GET /t, upstream: demo, price: free, callers: []}\n"
        "  - {match: GET /u, upstream: demo, price: free, callers: [browser, browser]}\n"
        "  - {match: GET /v, upstream: demo, price: free, callers: {browser: {price: {c: 1}}}}\n",
        ["6:78: expected api_key, browser or anonymous, found 'anonymos'"
         " (did you mean anonymous?)",
         "7:60: expected api_key, browser or anonymous, found 'browsr' (did you mean browser?)",
         "8:59: expected a list of caller kinds such as [api_key, anonymous], or a mapping, found"
         " an empty list",
         "9:59: expected each caller kind once, found a list",
         "10:78: expected the name of a meter, found 'c' (known: coins)"],
    ),
    "matches": (
        "routes:\n"
        "  - {match: /a, upstream: demo, price: free}\n"
        "  - {match: get /b, upstream: demo, price: free}\n"
        "  - {match: GET c, upstream: demo, price: free}\n"
        '  - {match: "GET,GET /d", upstream: demo, price: free}\n'
        "  - {match: CONNECT /e, upstream: demo, price: free}\n"
        '  - {match: "GET, POST /f", upstream: demo, price: free}\n'
        "  - {match: GET, upstream: demo, price: free}\n",
        ["6:13: expected `METHOD[,METHOD] /path`, such as GET /items/{id}, or * for any method,"
         " found '/a' (did you mean * /a?)",
         "7:13: expected methods in capitals, found 'get /b' (did you mean GET?)",
         "8:13: expected `METHOD[,METHOD] /path`, such as GET /items/{id}, or * for any method,"
         " found 'GET c'",
         "9:13: expected each method once, found 'GET,GET /d'",
         "10:13: expected a method that can be forwarded, found 'CONNECT /e'"
         " (CONNECT is always refused)",
         "11:13: expected `METHOD[,METHOD] /path`, such as GET /items/{id}, or * for any method,"
         " found 'GET, POST /f'",
         "12:13: expected `METHOD[,METHOD] /path`, such as GET /items/{id}, or * for any method,"
         " found 'GET'"],
    ),
    "templates": (
        "routes:\n"
        "  - match: GET /a/{x\n    upstream: demo\n    price: free\n"
        '  - match: "GET /{x...}/b"\n    upstream: demo\n    price: free\n'
        "  - match: GET /c/{x}/{x}\n    upstream: demo\n    price: free\n"
        "  - match: GET /d/%zz\n    upstream: demo\n    price: free\n",
        ["6:19: expected a path template, found '/a/{x' (a segment is a literal, {name} or"
         " {name...}; braces cannot be a part of one)",
         "9:18: expected a path template, found '/{x...}/b' ({x...} must be the last segment)",
         "12:24: expected a path template, found '/c/{x}/{x}' (the parameter {x} stands twice)",
         "15:19: expected a path template, found '/d/%zz' (no request can match this segment:"
         " The path has a '%' that is not followed by two hexadecimal digits.)"],
    ),
    "unreachable routes": (
        "routes:\n"
        "  - {name: one, match: '* /a/{x}', upstream: demo, price: free}\n"
        "  - {name: two, match: 'GET /a/{x}', upstream: demo, price: free}\n"
        "  - {name: three, match: 'GET /a/{y}', upstream: demo, price: free}\n"
        "  - {name: four, match: 'GET /b', upstream: demo, price: free}\n"
        "  - {name: five, match: 'GET /b', upstream: nope, price: free}\n",
        ["7:24: expected a route that can be reached, found 'GET /a/{x}' (shadowed: /a/{x}"
         " already takes these methods; 'one' at c.yaml:6:5)",
         "8:26: expected a route that can be reached, found 'GET /a/{y}' (ambiguous: /a/{x}"
         " already matches the same paths; 'one' at c.yaml:6:5)",
         "10:25: expected a route that can be reached, found 'GET /b' (duplicate: /b already"
         " takes these methods; 'four' at c.yaml:9:5)",
         "10:45: expected the name of an upstream, found 'nope' (known: demo)"],
    ),
    "route names": (
        ROUTE % "" + "  - {name: r, match: GET /s, upstream: demo, price: free}\n"
        "  - {name: unmatched, match: GET /t, upstream: demo, price: free}\n",
        ["7:12: expected each route name once, found 'r' (first at c.yaml:6:12)",
         "8:12: expected another name, found 'unmatched' (it is what no route names)"],
    ),
    "conditions": (
        "routes:\n"
        "  - match: GET /{p}/x\n    upstream: demo\n    price: free\n"
        "    host: api.example.com:80\n    headers: {X-V: 2, 'a b': x}\n    project: '{q}'\n"
        "    max_body: 5\n    limits: {a: 1/fortnight}\n    operation: ''\n",
        ["9:11: expected a host without port, such as api.example.com or *.example.com, found"
         " 'api.example.com:80' (did you mean api.example.com?)",
         "10:20: expected the value of a header, in ASCII, found the number 2"
         ' (write "2" for the text)',
         "10:23: expected the name of a header, found 'a b'",
         "11:14: expected a {parameter} of the path, found '{q}' (did you mean {p}?)",
         "12:15: expected a size such as 512KB, 10MB or 2GiB, found the number 5"
         " (a number needs its unit: B, KB, MB, GB or KiB, MiB, GiB)",
         "13:17: expected a rate such as 10/second, 100/minute, 1000/hour or 5/10s, found"
         " '1/fortnight' (unknown unit 'fortnight'; units are second, minute, hour and day)",
         "14:16: expected one line of 1 to 200 characters, found ''"],
    ),
    "our own path": (
        "routes:\n  - {match: GET /v1/usage, upstream: demo, price: free}\n"
        "  - {match: '* /u/activity', upstream: demo, price: free}\n"
        "  - {match: POST /v1/usage, upstream: demo, price: free}\n"
        "usage_api: {activity_path: /u/activity}\n",
        ["6:13: expected a path that is not the usage API's, found 'GET /v1/usage'"
         " (move ours with usage_api: {path: ...})",
         "7:13: expected a path that is not the usage API's, found '* /u/activity'"
         " (move ours with usage_api: {path: ...})"],
    ),
    "our own paths are one": (
        "usage_api: {path: /u, activity_path: /u}\n",
        ["5:38: expected each path once, found '/u' (first at c.yaml:5:19)"],
    ),
    "unmatched": (
        "unmatched: {action: pass}\n",
        ["5:12: expected `price: free` or amounts, found nothing"
         " (traffic without a price is a decision)",
         "5:12: expected `upstream:`, found nothing (action: pass needs one)"],
    ),
    "unmatched passed to nowhere": (
        "unmatched: {action: pass, upstream: dem, price: {coin: 1}}\n",
        ["5:37: expected the name of an upstream, found 'dem' (did you mean demo?)",
         "5:50: expected the name of a meter, found 'coin' (did you mean coins?)"],
    ),
    "unmatched refused at a price": (
        "unmatched: {action: refuse, price: free}\n",
        ["5:29: expected nothing beside `action: refuse`, found `price:`"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_mistakes(folder: Folder, text: str, expected: list[str]) -> None:
    assert folder.problems(BASE + text) == [f"c.yaml:{line}" for line in expected]


UPSTREAMS = [
    ("127.0.0.1:9000", "(did you mean http://127.0.0.1:9000?)"),
    ("ftp://h", ""), ("http://", ""), ("http://h:99999", "(Port out of range 0-65535)"),
    ("http://h:0", "(port 0 is no backend's)"), ("http://h/x?y=1", ""), ("http://h/#f", ""),
    ("http://h/a//b", ""), ("http://h/../b", ""), ("http://*.h", ""), ("5", ""), ("http://a b", ""),
]  # fmt: skip


@pytest.mark.parametrize(("url", "hint"), UPSTREAMS)
def test_upstream_urls(folder: Folder, url: str, hint: str) -> None:
    (problem,) = folder.problems(f"upstreams:\n  demo:\n    url: {url}\n")
    assert problem.startswith("c.yaml:3:10: expected a ") and problem.endswith(hint)


def test_headers_of_upstreams(folder: Folder) -> None:
    text = """\
        upstreams:
          demo:
            url: http://h
            request_headers: {set: {Content-Length: "1", X-A: "hush\\nhush"}, remove: [Host]}
            tls: {verify: no}
        """
    assert folder.problems(text) == [
        "c.yaml:4:29: expected a header that is not part of the framing, found 'Content-Length'",
        "c.yaml:4:55: expected the value of a header, in ASCII, found one that is not shown",
        "c.yaml:4:79: expected a header that is not part of the framing, found 'Host'"
        " (see the upstream's `host:`)",
        "c.yaml:5:19: expected true or false, found 'no'"
        " (did you mean false? YAML 1.2 has no other words for it)",
    ]


@pytest.mark.parametrize("url", ["http://me:hush@h", "http://me:hush@h:99999/", "hush@h"])
def test_passwords_are_not_shown(folder: Folder, url: str) -> None:
    (problem,) = folder.problems(f"upstreams: {{demo: {{url: '{url}'}}}}\n")
    assert "hush" not in problem and "without user and password" in problem
