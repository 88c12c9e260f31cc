"""Who may use the admin API: the holder of the token, on the admin listener, and nobody else."""

from __future__ import annotations

import socket
import stat

import pytest

from tests.api.admin_client import PREFIX, Admin
from tests.support.configs import Caller
from tests.support.raw import exchange, head
from tests.support.stage import Stage


def test_control_file_is_its_owners_alone(api: Stage) -> None:
    path = api.gateway.data_dir / "control.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer admin"},
        {"Authorization": "Bearer edd1c9f034335f136f87ad84b625c8f1"},  # APISIX' default
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "TOKEN"},
        {"Cookie": "token=TOKEN"},
        {"X-API-Key": "TOKEN"},
        {"Authorization": "Basic TOKEN"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/accounts", "/audit", "/nothing", "/keys/x"])
def test_401_without_the_token(admin: Admin, headers: dict[str, str], path: str) -> None:
    token = admin.control["token"]
    sent = {name: value.replace("TOKEN", token) for name, value in headers.items()}
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        reply = admin.raw(method, PREFIX + path, None, sent)
        assert (reply.status, reply.code) == (401, "unauthorized"), (method, reply)
        assert reply.headers["www-authenticate"] == "Bearer"
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_401_for_a_token_in_the_query(admin: Admin) -> None:
    target = f"{PREFIX}/accounts?token={admin.control['token']}"
    assert admin.raw("GET", target, None, {}).status == 401


def test_401_for_a_callers_key(api: Stage, admin: Admin) -> None:
    who = api.newcomer()
    assert (
        admin.raw("GET", f"{PREFIX}/accounts", None, {"Authorization": f"Bearer {who.key}"}).status
        == 401
    )


def test_401_for_bytes_that_are_no_text(api: Stage) -> None:
    data = head("GET", f"{PREFIX}/accounts", "Connection: close").replace(
        b"Connection", b"Authorization: Bearer \xff\xfe\xc3\x28\r\nConnection"
    )
    assert exchange(api.gateway.admin_port, data).status in (400, 401)


@pytest.mark.parametrize(
    "target",
    ["/admin/v1/accounts", "//admin/v1/accounts", "/%61dmin/v1/accounts", "/./admin/v1/accounts",
     "/x/../admin/v1/accounts", "http://gateway.test/admin/v1/accounts"],
)  # fmt: skip
def test_never_on_the_proxys_listener(api: Stage, admin: Admin, target: str) -> None:
    """With the right token, and with a caller's key."""
    who = api.newcomer()
    for line in (f"Authorization: {admin.bearer}", who.bearer):
        answer = exchange(api.port, head("GET", target, line, "Connection: close"))
        assert answer.status in (400, 401, 404), answer
        assert answer.is_refusal
    assert api.recorded(who) == []


def test_a_backends_admin_path_is_not_shadowed(api: Stage, who_open: Caller) -> None:
    """A path of the same name that is proxied is the backend's."""
    answer = api.gateway.get("/open", who_open)
    assert answer.get("x-recorder") == "yes"


@pytest.fixture
def who_open(api: Stage) -> Caller:
    return api.newcomer()


def test_admin_answers_are_not_cached(admin: Admin) -> None:
    reply = admin.ask("GET", "/accounts")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-request-id"]


def test_body_is_limited(admin: Admin) -> None:
    reply = admin.ask("POST", "/accounts", b'{"id": "' + b"a" * 100_000 + b'"}')
    assert (reply.status, reply.code) == (413, "body_too_large")


@pytest.mark.parametrize(
    "body",
    [b"[]", b"1", b"{", b'{"id": "a", "id": "b"}', b"\xff", b"[" * 50_000, b'{"id": NaN}'],
    ids=lambda body: repr(body[:20]),
)
def test_400_for_a_body_that_is_no_object(admin: Admin, body: bytes) -> None:
    reply = admin.ask("POST", "/accounts", body)
    assert (reply.status, reply.code) == (400, "invalid_body")


def test_404_and_405_with_the_token(admin: Admin) -> None:
    reply = admin.ask("GET", "/acounts")
    assert (reply.status, reply.code) == (404, "not_found")
    reply = admin.ask("PUT", "/accounts", {})
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, POST"


def test_health_needs_no_token(api: Stage) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert api.gateway.admin(path).status == 200


def test_admin_listener_is_on_loopback_only(api: Stage) -> None:
    """As configured: 127.0.0.1, so not on another address of this machine."""
    with socket.socket() as other, pytest.raises(OSError):
        other.settimeout(1)
        other.connect(("127.0.0.2", api.gateway.admin_port))
