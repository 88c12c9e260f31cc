"""Attacks 16, 17 and 19-22: which path is it, what does it cost, whose key is it.

Here GET /paid costs 5 coins, GET /override 3, what no route names is passed on
for free, so that every trick that hides /paid from the price would pay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.cases import CORPORA
from tests.hostile.normalisers import normalise, readings
from tests.support.configs import Caller, caller, key_entry, route
from tests.support.raw import connected, head
from tests.support.stage import Stage, stage

BOB = caller("bob")
KONG = json.loads((CORPORA / "kong_uri_normalize.json").read_text("utf-8"))
KONG_PATHS = ("/kong", "/foo", "/a/g", "/a/b", "/a", "/mid/6")


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    routes = [
        route("* /paid", {"coins": 5}),
        route("GET /override", {"coins": 3}),
        *[route(f"* {path}", {"coins": 5}, name=f"kong{n}") for n, path in enumerate(KONG_PATHS)],
        route("GET /hosted", {"coins": 5}, host="api.test"),
    ]
    with stage(
        tmp_path_factory.mktemp("priced"),
        routes,
        accounts=200,
        identify={"sources": ["bearer", {"header": "X-API-Key"}, {"query": "api_key"}]},
        unmatched={"action": "pass", "upstream": "main", "price": "free"},
        callers={"roomy-too": [BOB]},
        plans={"roomy-too": {}},
    ) as running:
        yield running


@pytest.fixture
def payer(priced: Stage) -> Caller:
    return priced.newcomer()


def send_target(priced: Stage, payer: Caller, target: str) -> int:
    """Send GET with this raw target; the status, after which the connection is closed."""
    data = b"GET " + target.encode("latin-1") + b" HTTP/1.1\r\nHost: a.test\r\n"
    with connected(priced.port) as connection:
        connection.send(data + payer.bearer.encode() + b"\r\nConnection: close\r\n\r\n")
        answer = connection.answer()
        assert connection.is_closed()
        return answer.status


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data", "http://evil.test/paid", "HTTP://evil.test/",
        "http://a.test@evil.test/", "https://evil.test:443/x", "http://127.0.0.1:1/x",
        "ftp://a.test/x",
        "http:/paid", "http:paid", "//evil.test:80@/x", "http://a.test?x", "http://",
        "file:///etc/passwd",
    ],
)  # fmt: skip
def test_a16_absolute_form_never_chooses_the_backend(
    priced: Stage, payer: Caller, target: str
) -> None:
    assert send_target(priced, payer, target) in (400, 404, 421)
    assert priced.recorded(payer) == []
    assert priced.used(payer) == 0


def test_a16_absolute_form_of_a_configured_host_is_routed_by_path(
    priced: Stage, payer: Caller
) -> None:
    status = send_target(priced, payer, "http://api.test/paid")
    recorded = priced.recorded(payer)
    assert (status, len(recorded), priced.used(payer)) in [(200, 1, 5), (400, 0, 0)]
    assert all(r.target == "/paid" for r in recorded)


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT evil.test:443", "CONNECT /paid", "CONNECT 127.0.0.1:22", "OPTIONS *", "GET *",
        "TRACE /paid", "TRACE *", "GET evil.test:443", "GET paid", "GET ?x", "PRI *", "GET #",
    ],
)  # fmt: skip
def test_a17_other_target_forms_are_refused(priced: Stage, payer: Caller, line: str) -> None:
    data = f"{line} HTTP/1.1\r\nHost: a.test\r\n{payer.bearer}\r\n\r\n".encode()
    answer = priced.assert_refused(data, payer, (400, 405, 501), line.split()[0])
    assert answer is None or payer.key.encode() not in answer.body


# One trick each; the backend of some system serves /paid for all of them.
TRICKS = [
    "//paid", "/./paid", "/x/../paid", "/%2e/paid", "/x/%2e%2e/paid", "/x/.%2e/paid", "/%2fpaid",
    "/%5cpaid", "/\\paid", "\\paid", "/x\\..\\paid", "/x/..\\paid", "/x%2f..%2fpaid",
    "/x/..%2fpaid",
    "/;/paid", "/paid;x=1", "/;a=b/paid", "/x/..;/paid", "/paid#frag", "/paid%00", "/paid%00.png",
    "/paid%23x", "/%70aid", "/p%61id", "/paid/", "/paid//", "/paid/.", "/paid/x/..",
    "/paid/%2e", "/%c0%ae/paid", "/%c0%afpaid", "/%e0%80%afpaid", "/paid%3f", "/paid%3Bx",
    "/paid%2f",
    "/paid%5c", "/../paid", "/../../paid", "///paid", "/.//paid", "/%2e%2e/paid",

    "/paid?", "/paid?/../free", "/paid?#", "/%u002fpaid", "/paid%", "/paid%2", "/paid%zz",
]  # fmt: skip


@pytest.mark.parametrize("target", TRICKS)
def test_a19_path_tricks_cost_what_the_backend_serves(
    priced: Stage, payer: Caller, target: str
) -> None:
    status = send_target(priced, payer, target)
    assert_priced(priced, payer, target, status, already=0)


@pytest.mark.parametrize("target", ["/paid.", "/paid%20", "/paid..", "/paid%20."])
def test_a19_trailing_dots_and_spaces_are_refused_or_paid(
    priced: Stage, payer: Caller, target: str
) -> None:
    """Some file systems drop them, so that the backend serves /paid."""
    status = send_target(priced, payer, target)
    assert status == 400 or priced.used(payer) == 5


def assert_priced(priced: Stage, payer: Caller, target: str, status: int, already: int) -> int:
    """The property: what could be served as /paid is refused or paid. The coins used so far."""
    recorded = [r for r in priced.recorded(payer)]
    used = priced.used(payer)
    if status >= 400:
        assert used == already
        return used
    assert recorded[-1].target == target, "forwarded in another form than it came"
    path = target.partition("?")[0]
    if "/paid" in readings(path):
        assert used == already + 5, f"{target!r} could be served as /paid, for {used - already}"
    return used


_PIECES = st.sampled_from(
    ["/", "/", "paid", "paid", "x", ".", "..", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "\\", ";",
     ";a=b", "#", "%23", "%00", "%09", "%20", "%70aid", "p%61id",  "%c0%af", "%3b",
     "%3f",
     "%25", "%", "?", "~", "%7e", "PAID", "*", "%E4", "%C3%A4", "\xff", "$", "&", "=", ":", "@"]
)  # fmt: skip
_TARGETS = st.one_of(
    st.lists(_PIECES, min_size=1, max_size=8).map(lambda pieces: "/" + "".join(pieces)),
    st.lists(_PIECES, max_size=4).map(lambda pieces: "/".join(["", *pieces, "paid"])),
    st.lists(_PIECES, max_size=4).map(lambda pieces: "/paid" + "".join(pieces)),
)


def test_a19_price_of_the_canonical_form_is_the_price_of_what_is_served(priced: Stage) -> None:
    prober = priced.newcomer()
    used = 0

    @settings(
        max_examples=250,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_TARGETS)
    def holds(target: str) -> None:
        nonlocal used
        status = send_target(priced, prober, target)
        before, used = used, priced.used(prober)
        assert_priced(priced, prober, target, status, before)

    holds()


@pytest.mark.parametrize("vector", [v for v in KONG if v["fn"] == "normalize"],
                         ids=lambda v: v["input"] or "empty")  # fmt: skip
def test_a19_kong_vectors(priced: Stage, payer: Caller, vector: dict[str, str]) -> None:
    """What Kong would normalise to a priced path is refused or paid."""
    target = vector["input"]
    status = send_target(priced, payer, target) if target else 400
    used = priced.used(payer)
    if status >= 400:
        assert used == 0
        assert priced.recorded(payer) == []
        return
    assert [r.target for r in priced.recorded(payer)] == [target]
    served = {vector["expected"].rstrip("/"), normalise(target)}
    assert used == (5 if served & set(KONG_PATHS) else 0)


@pytest.mark.parametrize(
    "target",
    [
        "/a%20b", "/%7Euser", "/%7euser", "/a+b", "/%E4%B8%AD%e6%96%87", "/a%26b", "/a%3Db",
        "/a:b@c",
        "/x?q=%2f%2F&r=a+b&s=%zz", "/x?", "/x??", "/x?a=1&&b", "/x?a[]=1", "/x?a={b}|c", "/%41",
        "/a/",
        "/!$&'()*+,=:@", "/x?url=http://b.test/../c", "/x?a=%00%0d%0a", "/%25",
        "/x?\"<>\\^`",
    ],
)  # fmt: skip
def test_a20_target_reaches_the_backend_byte_for_byte(
    priced: Stage, payer: Caller, target: str
) -> None:
    assert send_target(priced, payer, target) == 200
    assert [r.target for r in priced.recorded(payer)] == [target]


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
                                  "X_HTTP_Method_Override"])  # fmt: skip
def test_a21_method_override_headers_are_stripped(priced: Stage, payer: Caller, name: str) -> None:
    data = head("POST", "/override", payer.bearer, f"{name}: GET", "Content-Length: 0")
    answer = priced.ask(data, "POST")
    assert answer.status in (200, 405)
    for request in priced.recorded(payer):
        assert not any("override" in n or n == "x-http-method" for n in request.names)


@pytest.mark.parametrize(
    "method", ["get", "Get", "FOOBAR", "GET1", "G", "GETGETGETGETGETGETGETGETG"]
)
def test_a21_odd_methods_are_never_free(hostile: Stage, who: Caller, method: str) -> None:
    """Where everything has a price, a method that nobody knows has it too."""
    answer = hostile.ask(head(method, "/five", who.bearer, "Content-Length: 0"), method)
    recorded = hostile.recorded(who)
    assert len(recorded) == hostile.used(who), answer  # the default price, 1
    assert all(r.method == method for r in recorded)


def both_keys(payer: Caller, other: str) -> list[bytes]:
    target = f"/two?api_key={payer.key}"
    return [
        head("GET", f"{target}&api_key={other}"),
        head("GET", target, f"X-API-Key: {other}"),
        head("GET", target, f"Authorization: Bearer {other}"),
        head("GET", "/two", payer.bearer, f"X-API-Key: {other}"),
        head("GET", "/two", f"X-API-Key: {payer.key}", f"X-API-Key: {other}"),
        head("GET", "/two", payer.bearer, f"Authorization: Bearer {other}"),
        head("GET", f"/two?api_key={payer.key}&api%5Fkey={other}"),
    ]


@pytest.mark.parametrize("where", range(7))
@pytest.mark.parametrize("other", [BOB.key, "wrong", ""], ids=["valid", "invalid", "empty"])
def test_a22_two_different_keys_are_400(
    priced: Stage, payer: Caller, where: int, other: str
) -> None:
    answer = priced.ask(both_keys(payer, other)[where])
    if not other and answer.status == 200:
        return  # an empty place is no second key
    assert answer.status == 400, answer
    assert priced.recorded(payer) == []
    assert [r for r in priced.recorded(BOB) if r.target.startswith("/two")] == []


@pytest.mark.parametrize("where", range(7))
def test_a22_no_key_is_ever_forwarded(priced: Stage, payer: Caller, where: int) -> None:
    """The same key twice is one key, or refused; either way no backend sees it."""
    answer = priced.ask(both_keys(payer, payer.key)[where])
    assert answer.status in (200, 400)
    for request in priced.recorded(payer):
        assert payer.key.encode() not in priced.recorder.raw[request.connection]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("api_key={}", "/q"),
        ("a=1&api_key={}&b=%2F", "/q?a=1&b=%2F"),
        ("api_key={}&a", "/q?a"),
        ("a&api%5fkey={}", "/q?a"),
        ("xapi_key=1&api_key={}", "/q?xapi_key=1"),
    ],
)
def test_a22_key_is_taken_out_of_the_query(
    priced: Stage, payer: Caller, query: str, left: str
) -> None:
    _, request = priced.assert_forwarded(head("GET", "/q?" + query.format(payer.key)), payer)
    assert request.target == left


def test_a22_bob_is_known(priced: Stage) -> None:
    """The second key of these tests is valid by itself."""
    assert key_entry(BOB)["account"] == "bob"
    assert priced.ask(head("GET", "/bob", BOB.bearer)).status == 200
