"""The OpenAPI 3.1 document of the admin API, made from the endpoint table and its shapes.

Answers: what may be asked, with what, by whom, and what comes back? Made once,
so it cannot differ between two requests. Must not know HTTP libraries.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.api.documents import DOCUMENTS
from gateway.api.endpoints import ENDPOINTS, PREFIX, Endpoint
from gateway.api.problem import KINDS
from gateway.api.schema import nullable, ref
from gateway.api.shapes import SHAPES, Shape

WRITES = ("POST", "PATCH", "PUT")
# Methods that a path does not have are no operation of it.
NO_ANSWERS = frozenset((405,))
DESCRIPTION = (
    "Accounts, keys, units, usage and invoices. Money is dollars as decimal text, amounts are "
    "exact, instants RFC 3339 in UTC. A field that is null is a field that is not given, unless "
    "it says otherwise."
)


def openapi_document(version: str) -> dict[str, Any]:
    """The whole document; `version` is the program's."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        operations = paths.setdefault(PREFIX + endpoint.path, {})
        operations[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tallygate admin API",
            "version": version,
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "security": [{"operator": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(e) for e in ENDPOINTS)],
        "paths": paths,
        "components": {
            "schemas": DOCUMENTS,
            "securitySchemes": {
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An operator's token of the configuration, or the running "
                    "process' control token.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    shape = SHAPES[f"{endpoint.method} {endpoint.path}"]
    found: dict[str, Any] = {
        "operationId": endpoint.run.__name__,
        "summary": endpoint.title,
        "description": f"{_prose(endpoint)}\n\nRoles: {', '.join(endpoint.roles)}.",
        "tags": [_tag(endpoint)],
        "parameters": _parameters(endpoint, shape),
        "responses": _responses(shape),
    }
    if endpoint.method in WRITES:
        found["requestBody"] = _body(shape)
    return found


def _prose(endpoint: Endpoint) -> str:
    """What the operation's function says of itself, in one line."""
    return " ".join((endpoint.run.__doc__ or endpoint.title).split())


def _tag(endpoint: Endpoint) -> str:
    return endpoint.path.split("/")[1]


def _body(shape: Shape) -> dict[str, Any]:
    needed = [name for name in shape.needs if name in shape.body]
    fields = {n: s if n in needed else _or_null(s) for n, s in shape.body.items()}
    schema = {
        "type": "object",
        "properties": fields,
        "required": needed,
        "additionalProperties": False,
    }
    return {"required": bool(needed), "content": {"application/json": {"schema": schema}}}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A field that may be left out may be null as well."""
    is_there = {"type": "null"} in schema.get("anyOf", ()) or "null" in schema.get("type", ())
    return schema if is_there else nullable(schema)


def _parameters(endpoint: Endpoint, shape: Shape) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{([a-z]+)\}", endpoint.path)
    ]
    found += [
        {"name": name, "in": "query", "required": name in shape.needs, "schema": schema}
        for name, schema in shape.query.items()
    ]
    if shape.moves_units:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and request again change nothing and have the same "
                "answer; with another request it is refused.",
                "schema": {"type": "string", "pattern": "^[!-~]([ -~]{0,198}[!-~])?$"},
            }
        )
    return found


def _responses(shape: Shape) -> dict[str, Any]:
    found: dict[str, Any] = {
        str(status): {
            "description": "Done." if status == 200 else "Made.",
            "content": {"application/json": {"schema": schema}},
        }
        for status, schema in shape.replies.items()
    }
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    for status in sorted({status for status, _ in KINDS.values()} - NO_ANSWERS):
        titles = [title for other, title in KINDS.values() if other == status]
        found[str(status)] = {"description": "; ".join(titles) + ".", "content": problem}
    return found
