"""Words of JSON Schema (2020-12) that the admin API's document is written with."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
IDENTITY: Schema = {"type": "string", "pattern": "^[!-~]{1,128}$"}
ANY_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 512}
INSTANT: Schema = {"type": "string", "format": "date-time"}
MOMENT: Schema = {
    "type": "string",
    "description": "An RFC 3339 instant, or a date, which is its first instant in UTC.",
    "maxLength": 64,
    "examples": ["2026-01-05", "2026-01-05T12:00:00Z"],
}
EXPIRY: Schema = {
    "type": "string",
    "description": "A duration from now, or an instant or date to come.",
    "maxLength": 64,
    "examples": ["30d", "2030-01-01T00:00:00Z"],
}
AMOUNT: Schema = {
    "description": "A whole number, or exact decimal text.",
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[+-]?[0-9]+(\.[0-9]+)?$"}],
    "examples": [500, "0.25"],
}
SHOWN_AMOUNT: Schema = {
    "description": "A whole number; exact decimal text where the meter has decimals.",
    "type": ["integer", "string"],
}
DOLLARS: Schema = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{2,6}$", "examples": ["49.99"]}
BOOL: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def count_from(least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, **more}


def record(**fields: Schema) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def with_fields(base: Schema, **more: Schema) -> Schema:
    """A record with further fields."""
    return record(**base["properties"], **more)


def list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def by_name(schema: Schema) -> Schema:
    """An object with names that the configuration or a caller chose."""
    return {"type": "object", "additionalProperties": schema}


def ref(name: str) -> Schema:
    """One of the documents of gateway/api/documents.py."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    """A page of documents; `next` is the cursor of the following one."""
    return record(items=list_of(ref(name)), next=nullable(STRING))
