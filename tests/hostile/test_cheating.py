"""A client that says one thing to the gateway and another to the backend, or stops in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.configs import Caller, route
from tests.support.raw import RawConnection, connected, head
from tests.support.recorder import Wire
from tests.support.stage import Stage, stage
from tests.support.until import until

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def streams_slowly(wire: Wire) -> None:
    """Most of an answer at once, the rest when nobody expects it any more."""
    wire.send(STREAM + b"x" * 999)
    time.sleep(0.5)
    wire.send(b"x")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    steps = {"of": "request.json:steps", "missing": 1}
    session = {"name": "session", "account": "ui", "verified_by": "backend"}
    routes = [
        route("POST /run", "free", headers={"X-Dry-Run": "1"}, name="dry"),
        route("POST /run", {"coins": 10}, name="run"),
        route("POST /hdr", {"coins": {"of": "request.header:X-Steps"}}),
        route("POST /steps", {"coins": steps}),
        route("GET /web", {"coins": 3},
              callers={"api_key": {"price": {"coins": 3}}, "browser": {"price": "free"}}),
        route("GET /h", {"coins": 5}, host="api.example.com", name="host-priced"),
        route("GET /h", "free", name="host-free"),
        route("GET,POST /dl", {"coins": 10}),
        route("GET,POST /llm", {"coins": {"of": "answer.json:n", "reserve": 100}}),
        route("POST /upload", {"coins": 10}, max_body="100B"),
    ]  # fmt: skip
    with stage(
        tmp_path_factory.mktemp("shop"),
        routes,
        accounts=80,
        identify={"sources": ["bearer", {"cookie": session}]},
        extra_accounts={"ui": {"plan": "roomy"}},
    ) as running:
        for path in ("/dl", "/llm", "/upload"):
            running.recorder.on_head[path] = streams_slowly
        yield running


@pytest.fixture
def who(shop: Stage) -> Caller:
    return shop.newcomer()


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/run", ["X-Dry-Run: 1", "Connection: X-Dry-Run"]),
        ("/hdr", ["X-Steps: 0", "Connection: close, x-steps"]),
        ("/run", ["Content-Type: text/plain", "Connection: Content-Type"]),
        ("/run", ["Content-Encoding: gzip", "Connection: content-encoding"]),
    ],
)
def test_connection_names_nothing_that_was_looked_at(
    shop: Stage, who: Caller, path: str, lines: list[str]
) -> None:
    shop.assert_refused(head("POST", path, who.bearer, *lines, "Content-Length: 0"), who)


def test_a_session_that_the_backend_is_to_judge_reaches_it(shop: Stage) -> None:
    answer = shop.ask(head("GET", "/web", "Cookie: session=zz", "Connection: Cookie"))
    assert answer.status == 400


def test_no_alias_of_a_header_that_a_price_reads_is_passed_on(shop: Stage, who: Caller) -> None:
    data = head("POST", "/hdr", who.bearer, "X-Steps: 1", "X_Steps: 1000", "Content-Length: 0")
    _, request = shop.assert_forwarded(data, who, "POST")
    assert "x_steps" not in request.names and request.get("x-steps") == "1"


@pytest.mark.parametrize(
    "name",
    ["X-Original-URL", "X-Rewrite-URL", "X-Original-Method", "X-Method", "X-Forwarded-Uri",
     "X-Original-Host", "X-Host"],
)  # fmt: skip
def test_no_header_that_says_another_target_is_passed_on(
    shop: Stage, who: Caller, name: str
) -> None:
    _, request = shop.assert_forwarded(head("GET", "/h", who.bearer, f"{name}: /run"), who)
    assert name.lower() not in request.names


@pytest.mark.parametrize("host", ["api.example.com", "api.example.com.", "API.example.COM.:80"])
def test_a_host_is_the_same_with_the_dot_of_the_root(shop: Stage, who: Caller, host: str) -> None:
    shop.ask(head("GET", "/h", who.bearer, host=host))
    assert shop.used(who) == 5


@pytest.mark.parametrize("host", [".", "a..", ".."])
def test_a_host_of_dots_is_none(shop: Stage, who: Caller, host: str) -> None:
    shop.assert_refused(head("GET", "/h", who.bearer, host=host), who)


@pytest.mark.parametrize(
    "steps",
    ['"+1000"', '"1_000"', '"１００"', "1000." + "0" * 45, "[1000]", "-5", "true", "9e999999999",
     '""', '"x"'],
)  # fmt: skip
def test_a_quantity_that_is_none_is_not_a_missing_one(shop: Stage, who: Caller, steps: str) -> None:
    body = f'{{"steps":{steps}}}'.encode()
    length = f"Content-Length: {len(body)}"
    with connected(shop.port) as connection:
        connection.send(head("POST", "/steps", who.bearer, length) + body)
        answer = connection.answer("POST")
    assert (answer.status, answer.code) == (400, "unpriceable")
    assert shop.used(who) == 0


@pytest.mark.parametrize("body", [b"{}", b'{"steps":null}', b""])
def test_a_missing_one_has_its_price(shop: Stage, who: Caller, body: bytes) -> None:
    data = head("POST", "/steps", who.bearer, f"Content-Length: {len(body)}") + body
    shop.assert_forwarded(data, who, "POST")
    assert shop.used(who) == 1


def begin(shop: Stage, connection: RawConnection, who: Caller, path: str) -> None:
    """A request whose body does not end, and nearly all of its answer."""
    connection.send(head("POST", path, who.bearer, "Transfer-Encoding: chunked"))
    got = b""
    while got.count(b"x") < 900:
        got += connection.socket.recv(65_536)


@pytest.mark.parametrize(
    ("path", "spoiled", "coins"),
    [
        ("/dl", b"ZZZ\r\n", 10),
        ("/llm", b"ZZZ\r\n", 100),
        ("/upload", b"c8\r\n" + b"y" * 200 + b"\r\n", 10),
    ],
)
def test_who_spoils_a_request_after_the_answer_pays_for_it(
    shop: Stage, who: Caller, path: str, spoiled: bytes, coins: int
) -> None:
    with connected(shop.port) as connection:
        begin(shop, connection, who, path)
        connection.send(spoiled)
        assert connection.is_closed()
    event = shop.gateway.wait_event(account=who.account)
    assert (event.outcome, event.charges) == ("client_gone", {"coins": coins})


def test_a_head_is_read_anew_for_another_version(shop: Stage, who: Caller) -> None:
    with connected(shop.port) as connection:
        connection.send(head("GET", "/h", who.bearer, "Connection: keep-alive"))
        assert connection.answer().status == 200
        old = head("GET", "/h", who.bearer, "Connection: keep-alive")
        connection.send(old.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = connection.answer()
    assert answer.status == 200 and answer.get("transfer-encoding") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [({"meters": {"coins": {"decimals": 2}}}, "meters.coins.decimals: expected 0")],
)
def test_a_reload_does_not_rescale_what_was_counted(
    shop: Stage, who: Caller, change: dict[str, object], said: str
) -> None:
    gateway = shop.gateway
    before = {name: gateway.config[name] for name in change}
    gateway.config.update(change)
    gateway.reload()
    until(lambda: said in gateway.log, what="the refusal of the reload")
    gateway.config.update(before)
    gateway.reload()
    until(lambda: '"event": "reloaded"' in gateway.log, what="the reload")


def test_an_empty_file_is_not_taken_for_a_configuration(shop: Stage, who: Caller) -> None:
    gateway = shop.gateway
    whole = gateway.file.read_text()
    gateway.file.write_text("")
    assert gateway._process is not None
    gateway._process.send_signal(signal.SIGHUP)
    until(lambda: "found an empty file" in gateway.log, what="the refusal of the reload")
    gateway.file.write_text(whole)
    assert shop.ask(head("GET", "/h", who.bearer)).status == 200
