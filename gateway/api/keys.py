"""API keys: create, list, show, revoke, rotate.

The key itself is in the answer to its creation and nowhere else: the store has
its SHA-256, the audit log its id and hint. Keys declared in the configuration
are changed only there. Must not know HTTP.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from typing import Any

from gateway.api.fields import Fields, expiry_parser, parse_any_text
from gateway.api.operations import PAGE_FIELDS, Call, Change, Operations, Paging, Reply
from gateway.api.pages import keys_after
from gateway.api.problem import ApiProblem, unknown_name
from gateway.config.fields import parse_identity, parse_network, parse_text
from gateway.config.problems import Expected
from gateway.config.quantities import parse_duration_us
from gateway.core.book import Book
from gateway.core.identity import Environment, KeyRecord, digest_key, format_key, hint_of
from gateway.core.instants import iso
from gateway.core.periods import DAY_US
from gateway.store.database import Database
from gateway.store.mutations import find_key, insert_key, revoke_key, set_key_expiry

OVERLAP_DEFAULT_US = DAY_US
CREATE_FIELDS = (
    "account", "user", "project", "name", "environment", "expires", "routes", "networks",
)  # fmt: skip


def list_keys(ops: Operations, call: Call) -> Reply:
    """Declared and stored keys by id, of one account or of all."""
    fields = Fields(call.query, ("account", *PAGE_FIELDS), "parameter")
    paging = Paging.of(fields)
    account = fields.get("account", parse_any_text, None)
    if account is not None:
        ops.account(account)
    stored = ops.place.read(lambda c: keys_after(c, account, paging.after, paging.limit + 1))
    by_id = {key.id: key for key in stored}
    for key in ops.book.keys.values():
        if key.id > paging.after and account in (None, key.account):
            by_id[key.id] = key
    now_us = ops.place.now_us()
    rows = [by_id[key_id] for key_id in sorted(by_id)]
    return paging.page(rows, lambda key: key_document(key, now_us))


def show_key(ops: Operations, call: Call) -> Reply:
    return Reply(200, key_document(_find(ops, call.params["key"]), ops.place.now_us()))


def create_key(ops: Operations, call: Call) -> Reply:
    """A new key; the answer's `key` is shown this once. Body: CREATE_FIELDS."""
    fields = Fields(call.body, CREATE_FIELDS, "field")
    now_us = ops.place.now_us()
    account = ops.account(fields.need("account", parse_any_text))
    environment: Environment = fields.get("environment", _parse_environment, "live")
    record = KeyRecord(
        id="",
        digest=b"",
        account=account.id,
        user=fields.get("user", parse_identity, ""),
        project=fields.get("project", parse_identity, ""),
        name=fields.get("name", parse_text, ""),
        expires_us=fields.get("expires", expiry_parser(now_us), None),
        routes=_routes(fields, ops.book),
        networks=fields.get_list("networks", parse_network),
    )
    record, key = _drawn(record, environment, now_us)
    document = key_document(record, now_us)

    def insert(connection: Database) -> tuple[None, Change]:
        insert_key(connection, record)
        return None, Change("key.create", record.id, None, document)

    ops.change(call, insert)
    _tell(ops, record)
    return Reply(201, {**document, "key": key})


def revoke(ops: Operations, call: Call) -> Reply:
    """The key is refused from the next request on; a second time changes nothing."""
    record = _stored(ops, call.params["key"])
    now_us = ops.place.now_us()

    def update(connection: Database) -> tuple[None, Change | None]:
        if not revoke_key(connection, record.id, now_us):
            return None, None
        change = Change("key.revoke", record.id, {"revoked": None}, {"revoked": iso(now_us)})
        return None, change

    ops.change(call, update)
    _tell(ops, record)
    return Reply(200, key_document(_stored(ops, record.id), now_us))


def rotate(ops: Operations, call: Call) -> Reply:
    """A new key with the same rights; the old one ends after `overlap` (24h).

    Body: overlap (a duration, "0s" for at once), expires (of the new key; by default
    it lives as long as the old one was meant to).
    """
    fields = Fields(call.body, ("overlap", "expires"), "field")
    old = _stored(ops, call.params["key"])
    now_us = ops.place.now_us()
    if _state(old, now_us) in ("revoked", "expired"):
        raise ApiProblem("conflict", f"key {old.id!r} is {_state(old, now_us)}: create a new one")
    overlap_us = fields.get("overlap", _parse_overlap_us, OVERLAP_DEFAULT_US)
    lifetime_us = None if old.expires_us is None else old.expires_us - old.created_us
    default_us = None if lifetime_us is None else now_us + lifetime_us
    expires_us = fields.get("expires", expiry_parser(now_us), default_us)
    environment: Environment = "test" if old.hint.startswith("tg_test_") else "live"
    new, key = _drawn(replace(old, expires_us=expires_us), environment, now_us)
    ends_us = min(now_us + overlap_us, old.expires_us or now_us + overlap_us)
    ending = replace(old, expires_us=ends_us)

    def update(connection: Database) -> tuple[None, Change]:
        set_key_expiry(connection, old.id, ends_us)
        insert_key(connection, new)
        shown = [key_document(record, now_us) for record in (old, new)]
        after = {"new": shown[1], "old_expires": iso(ends_us)}
        return None, Change("key.rotate", old.id, {"old_expires": shown[0]["expires"]}, after)

    ops.change(call, update)
    _tell(ops, old, new)
    document = {**key_document(new, now_us), "key": key}
    return Reply(201, {**document, "replaces": key_document(ending, now_us)})


def key_document(key: KeyRecord, now_us: int) -> dict[str, Any]:
    """What may be shown of a key; instants as RFC 3339 or null."""
    return {
        "id": key.id,
        "account": key.account,
        "name": key.name,
        "user": key.user,
        "project": key.project,
        "hint": key.hint,
        "state": _state(key, now_us),
        "created": None if key.declared else iso(key.created_us),
        "expires": _iso_or_none(key.expires_us),
        "revoked": _iso_or_none(key.revoked_us),
        "routes": None if key.routes is None else sorted(key.routes),
        "networks": None if key.networks is None else [str(n) for n in key.networks],
        "declared": key.declared,
    }


def _state(key: KeyRecord, now_us: int) -> str:
    if key.revoked_us is not None:
        return "revoked"
    if key.expires_us is not None and key.expires_us <= now_us:
        return "expired"
    return "active"


def _drawn(record: KeyRecord, environment: Environment, now_us: int) -> tuple[KeyRecord, str]:
    """The record with an id, digest and hint of its own, and its key."""
    key = format_key(environment, os.urandom(24))
    drawn = replace(
        record,
        id=f"key_{secrets.token_hex(8)}",
        digest=digest_key(key.encode()),
        hint=hint_of(key),
        created_us=now_us,
    )
    return drawn, key


def _find(ops: Operations, key_id: str) -> KeyRecord:
    declared = next((key for key in ops.book.keys.values() if key.id == key_id), None)
    found = declared or ops.place.read(lambda connection: find_key(connection, key_id))
    if found is None:
        raise ApiProblem("not_found", f"there is no key {key_id!r}")
    return found


def _stored(ops: Operations, key_id: str) -> KeyRecord:
    found = _find(ops, key_id)
    if found.declared:
        raise ApiProblem(
            "declared",
            f"key {key_id!r} is declared in the configuration: change it there and reload",
        )
    return found


def _routes(fields: Fields, book: Book) -> frozenset[str] | None:
    routes = fields.get_list("routes", parse_any_text)
    if routes is None:
        return None
    known = {route.name for route in book.routes}
    for route in routes:
        if route not in known:
            raise unknown_name("routes", "a route", route, known)
    return frozenset(routes)


def _parse_environment(value: object) -> Environment:
    if value == "live":
        return "live"
    if value == "test":
        return "test"
    raise Expected("live or test")


def _parse_overlap_us(value: object) -> int:
    """A duration; a bare 0 needs no unit."""
    return 0 if value in (0, "0") else parse_duration_us(value)


def _iso_or_none(time_us: int | None) -> str | None:
    return None if time_us is None else iso(time_us)


def _tell(ops: Operations, *records: KeyRecord) -> None:
    for record in records:
        digest = record.digest
        ops.place.hot(lambda hot, digest=digest: hot.directory.forget_key(digest))  # type: ignore[misc]
