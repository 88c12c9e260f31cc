"""The life of a key over the admin API: made, limited, rotated, revoked; effective at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gateway.core.identity import is_well_formed
from tests.api.admin_client import Admin
from tests.api.conftest import status_of
from tests.support.configs import Caller
from tests.support.stage import Stage


def test_a_key_is_shown_once_and_kept_nowhere(api: Stage, admin: Admin, account: str) -> None:
    made = admin.make("/keys", account=account, name="ci", user="bot", project="web")
    key = made.pop("key")
    assert is_well_formed(key)
    assert key.startswith("tg_live_")
    assert made["hint"] == f"tg_live_…{key[-4:]}"
    assert admin.get(f"/keys/{made['id']}") == made
    assert admin.get("/keys", account=account)["items"] == [made]
    assert status_of(api, Caller(account, key)) == 200
    api.gateway.flush()
    secret = key[8:40].encode()
    files = [path for path in api.gateway.directory.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert [path for path in files if secret in path.read_bytes()] == []


def test_test_keys_have_their_own_prefix(admin: Admin, account: str) -> None:
    assert admin.make("/keys", account=account, environment="test")["key"].startswith("tg_test_")


def test_a_key_works_with_the_next_request(api: Stage, admin: Admin, account: str) -> None:
    """Also when it was asked for before it existed: misses are remembered."""
    who = admin.new_caller(account)
    assert status_of(api, who) == 200


def test_backend_learns_user_and_project(api: Stage, admin: Admin, account: str) -> None:
    who = admin.new_caller(account, user="ada", project="web")
    assert status_of(api, who) == 200
    (request,) = api.recorded(who)
    assert (request.get("x-user"), request.get("x-project")) == ("ada", "web")
    assert who.key.encode() not in b"".join(v for _, v in request.headers)


def test_revoked_for_the_next_request(api: Stage, admin: Admin, account: str) -> None:
    made = admin.make("/keys", account=account)
    who = Caller(account, made["key"])
    assert status_of(api, who) == 200
    reply = admin.ask("DELETE", f"/keys/{made['id']}")
    assert (reply.status, reply.document["state"]) == (200, "revoked")
    assert status_of(api, who) == 401
    again = admin.ask("DELETE", f"/keys/{made['id']}")
    assert (again.status, again.document["revoked"]) == (200, reply.document["revoked"])


def test_revocation_under_load_lets_nothing_more_through(api: Stage, admin: Admin) -> None:
    """After the answer to the revocation, no request of the key passes."""
    account = "revoked-under-load"
    admin.make("/accounts", id=account, plan="precise")
    made = admin.make("/keys", account=account)
    who = Caller(account, made["key"])
    revoked = threading.Event()
    late: list[int] = []

    def call() -> None:
        for _ in range(30):
            was_revoked = revoked.is_set()
            status = status_of(api, who, "/free")
            if was_revoked:
                late.append(status)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    admin.ask("DELETE", f"/keys/{made['id']}")
    revoked.set()
    for thread in threads:
        thread.join()
    assert late
    assert set(late) == {401}


def test_expired_key_says_so(api: Stage, admin: Admin, account: str) -> None:
    made = admin.make("/keys", account=account, expires="30d")
    who = Caller(account, made["key"])
    assert status_of(api, who) == 200
    admin.ask("POST", f"/keys/{made['id']}/rotate", {"overlap": "0s"})
    answer = api.gateway.get("/one", who)
    assert (answer.status, answer.code) == (401, "key_expired")
    assert admin.get(f"/keys/{made['id']}")["state"] == "expired"


def test_routes_and_networks_bind_the_key(api: Stage, admin: Admin, account: str) -> None:
    bound = admin.new_caller(account, routes=["one"])
    assert status_of(api, bound) == 200
    answer = api.gateway.get("/two", bound)
    assert (answer.status, answer.code) == (403, "forbidden_route")
    elsewhere = admin.new_caller(account, networks=["10.0.0.0/8", "2001:db8::/32"])
    answer = api.gateway.get("/one", elsewhere)
    assert (answer.status, answer.code) == (403, "forbidden_network")
    here = admin.new_caller(account, networks=["127.0.0.0/8"])
    assert status_of(api, here) == 200


def test_rotation_overlaps(api: Stage, admin: Admin, account: str) -> None:
    old = admin.make(
        "/keys", account=account, name="ci", user="bot", routes=["one"], expires="90d",
        environment="test",
    )  # fmt: skip
    new = admin.make(f"/keys/{old['id']}/rotate")
    assert new["id"] != old["id"]
    for name in ("account", "name", "user", "project", "routes", "networks"):
        assert new[name] == old[name]
    assert new["key"].startswith("tg_test_")
    assert new["replaces"]["id"] == old["id"]
    assert new["replaces"]["expires"] < old["expires"] < new["expires"]
    for key in (old["key"], new["key"]):
        assert status_of(api, Caller(account, key)) == 200


def test_rotation_never_prolongs_the_old_key(admin: Admin, account: str) -> None:
    old = admin.make("/keys", account=account, expires="1h")
    new = admin.make(f"/keys/{old['id']}/rotate", overlap="7d")
    assert new["replaces"]["expires"] == old["expires"]


def test_rotation_of_an_ended_key_is_refused(admin: Admin, account: str) -> None:
    made = admin.make("/keys", account=account)
    admin.ask("DELETE", f"/keys/{made['id']}")
    reply = admin.ask("POST", f"/keys/{made['id']}/rotate")
    assert (reply.status, reply.code) == (409, "conflict")
    assert len(admin.get("/keys", account=account)["items"]) == 1


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"account": "nobody"}, "there is no account 'nobody'"),
        (
            {"routes": ["on"]},
            "routes: expected the name of a route, found 'on' (did you mean one?)",
        ),
        ({"routes": []}, "routes: expected a list of 1 to 1,000 entries"),
        ({"routes": "one"}, "routes: expected a list"),
        ({"networks": ["10.0.0.1/8"]}, "networks[0]: expected a network"),
        ({"networks": ["10.0.0.1/8"]}, "did you mean 10.0.0.0/8?"),
        ({"environment": "prod"}, "environment: expected live or test, found 'prod'"),
        ({"expires": "30 days"}, "did you mean 30d?"),
        ({"expires": "2020-01-01"}, "that is in the past"),
        ({"expires": 30}, "expires: expected a duration"),
        ({"user": "a b"}, "user: expected 1 to 128 ASCII characters"),
        ({"user": "a\r\nX-Admin: 1"}, "user: expected"),
        ({"digest": "x"}, "unknown field 'digest'"),
    ],
    ids=str,
)
def test_400_says_what_was_expected_and_found(
    admin: Admin, account: str, fields: Any, detail: str
) -> None:
    reply = admin.ask("POST", "/keys", {"account": account, **fields})
    assert reply.status in (400, 404), reply
    assert detail in reply.document["detail"]
    assert admin.get("/keys", account=account)["items"] == []


def test_409_for_a_declared_key(api: Stage, admin: Admin) -> None:
    who = api.newcomer()
    (key,) = admin.get("/keys", account=who.account)["items"]
    assert key["declared"]
    for method, path in (("DELETE", ""), ("POST", "/rotate")):
        reply = admin.ask(method, f"/keys/{key['id']}{path}")
        assert (reply.status, reply.code) == (409, "declared")
    assert status_of(api, who) == 200


def test_audit_log_never_has_the_key(admin: Admin, account: str) -> None:
    made = admin.make("/keys", account=account, name="logged")
    rotated = admin.make(f"/keys/{made['id']}/rotate")
    admin.ask("DELETE", f"/keys/{rotated['id']}")
    entries = admin.get("/audit-log", limit="3")["items"]
    assert [e["action"] for e in entries] == ["key.revoke", "key.rotate", "key.create"]
    for key in (made["key"], rotated["key"]):
        assert key not in str(entries)
        assert key[8:] not in str(entries)
