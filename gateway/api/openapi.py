"""The OpenAPI 3.1 document of the admin API, made from the endpoint table and its shapes.

Answers: what may be asked, with what, by whom, and what comes back? Made once,
so it cannot differ between two requests. Must not know HTTP libraries.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.api.endpoints import ENDPOINTS, PREFIX, Endpoint
from gateway.api.problem import KINDS
from gateway.api.shapes import SHAPES, Schema, Shape

PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was expected and what was found."},
        "code": {"enum": sorted(KINDS)},
        "parameter": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


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
            "description": "Accounts, keys, units, usage and invoices. Money is dollars as text.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    shape = SHAPES[f"{endpoint.method} {endpoint.path}"]
    found: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.title,
        "description": f"Roles: {', '.join(endpoint.roles)}.",
        "tags": [endpoint.path.split("/")[1]],
        "parameters": _parameters(endpoint, shape),
        "responses": _responses(endpoint, shape),
    }
    if endpoint.method in ("POST", "PATCH", "PUT"):
        needed = [name for name in shape.needs if name in shape.body]
        found["requestBody"] = {
            "required": bool(needed),
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": dict(shape.body),
                        "required": needed,
                        "additionalProperties": False,
                    }
                }
            },
        }
    return found


def _operation_id(endpoint: Endpoint) -> str:
    words = re.sub(r"[^a-z]+", " ", f"{endpoint.method} {endpoint.path}".lower()).split()
    return words[0] + "".join(word.title() for word in words[1:])


def _parameters(endpoint: Endpoint, shape: Shape) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{([a-z]+)\}", endpoint.path)
    ]
    found += [
        {"name": name, "in": "query", "required": name in shape.needs, "schema": schema}
        for name, schema in shape.query.items()
    ]
    if endpoint.method == "POST":
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": "^[ -~]{1,200}$"},
            }
        )
    return found


def _responses(endpoint: Endpoint, shape: Shape) -> dict[str, Any]:
    found: dict[str, Any] = {
        str(status): {
            "description": "Done." if status == 200 else "Made.",
            "content": {"application/json": {"schema": schema}},
        }
        for status, schema in shape.replies.items()
    }
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted({status for status, _ in KINDS.values() if status != 405}):
        titles = [title for other, title in KINDS.values() if other == status]
        found[str(status)] = {"description": "; ".join(titles) + ".", "content": problem}
    return found
