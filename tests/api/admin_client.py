"""The admin API as a test asks it: over HTTP, with the running gateway's own token.

Every answer to an operation is compared with what the OpenAPI document says of it.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from jsonschema import Draft202012Validator

from gateway.api.documents import DOCUMENTS
from gateway.api.endpoints import PREFIX, find_endpoint
from gateway.api.shapes import SHAPES
from tests.support.configs import Caller


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    document: Any

    @property
    def code(self) -> str:
        return str(self.document["code"])


class Admin:
    """One running gateway's admin API."""

    def __init__(self, data_dir: Path, token: str = "") -> None:
        """`token`: of an operator, instead of the running process'."""
        self.control = json.loads((data_dir / "control.json").read_text())
        self._token = token or self.control["token"]

    @property
    def bearer(self) -> str:
        return f"Bearer {self._token}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Reply:
        """One call; `body` is sent as JSON unless it is bytes."""
        target = PREFIX + path + (f"?{urlencode(query)}" if query else "")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Authorization": self.bearer, **(headers or {})}
        reply = self.raw(method, target, data, sent)
        assert_described(method, path, reply)
        return reply

    def raw(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> Reply:
        where = urlsplit(self.control["url"])
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            text = answer.read()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, json.loads(text) if text else None)
        finally:
            connection.close()

    def get(self, path: str, **query: str) -> Any:
        """The document of a GET that must succeed."""
        reply = self.ask("GET", path, **query)
        assert reply.status == 200, reply
        return reply.document

    def make(self, path: str, **fields: Any) -> Any:
        """The document of a POST that must create something."""
        reply = self.ask("POST", path, fields)
        assert reply.status == 201, reply
        return reply.document

    def new_caller(self, account: str, **fields: Any) -> Caller:
        """A caller with a key made at run time."""
        return Caller(account, self.make("/keys", account=account, **fields)["key"])


def assert_described(method: str, path: str, reply: Reply) -> None:
    """The document of an answer is one that the OpenAPI document has for it."""
    try:
        endpoint, _ = find_endpoint(method, path)
    except LookupError:
        return
    schema = {"$ref": "#/components/schemas/Problem"}
    if reply.status < 400:
        schema = SHAPES[f"{method} {endpoint.path}"].replies[reply.status]
    validator = Draft202012Validator({**schema, "components": {"schemas": DOCUMENTS}})
    errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(reply.document)]
    assert not errors, (method, path, reply.status, errors)
