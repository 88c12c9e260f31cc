"""The configuration's JSON Schema, for editors (draft 2020-12).

Made from the models, so it cannot differ from what `check` accepts in shape;
what depends on names (upstreams, meters) is `check`'s alone.
"""

from __future__ import annotations

from typing import Any

from gateway.config.models import Config
from gateway.core.refusals import KINDS

SCHEMA_ID = "https://tallygate.dev/schemas/gateway.schema.json"
_VARIABLE = {"$ref": "#/$defs/Variable"}
_ABOUT = ("title", "description", "default", "examples")  # stays beside an anyOf


def json_schema() -> dict[str, Any]:
    """A JSON document that validates a configuration file's shape."""
    made = Config.model_json_schema(mode="validation")
    definitions: dict[str, Any] = made.pop("$defs")
    made["properties"]["errors"]["propertyNames"] = {"enum": list(KINDS)}
    root = _polished(made)
    root["properties"] = {name: _or_empty(section) for name, section in root["properties"].items()}
    named = {name: _polished(entry) for name, entry in definitions.items()}
    named["Variable"] = {
        "description": "Text with ${VARIABLE} or ${VARIABLE:-default} of the environment.",
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "tallygate configuration",
        **root,
        "$defs": named,
    }


def _or_empty(section: dict[str, Any]) -> dict[str, Any]:
    """A section whose entries are all commented out is null."""
    about = {"description": section["description"]}
    return {**about, "anyOf": [section, {"type": "null"}]}


def _polished(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema for people: scalars may hold variables, defaults are as written."""
    kept = {key: _inside(key, value) for key, value in schema.items() if key != "title"}
    if not _is_written_alike(schema):
        kept.pop("default", None)
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    if not _is_scalar(schema):
        return kept
    about = {key: kept.pop(key) for key in _ABOUT if key in kept}
    return {**about, "anyOf": [kept, _VARIABLE]}


def _is_written_alike(schema: dict[str, Any]) -> bool:
    """Whether a model's default is what an operator would write (30s is a number there)."""
    default = schema.get("default")
    is_text = schema.get("type") == "string"
    return default is not None and isinstance(default, str) == is_text


def _inside(key: str, value: Any) -> Any:
    if key in ("properties", "patternProperties"):
        return {name: _polished(entry) for name, entry in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [_polished(entry) for entry in value]
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return _polished(value)
    return value  # propertyNames too: variables stand in values only


def _is_scalar(schema: dict[str, Any]) -> bool:
    """Whether a text with a variable would not already be accepted here."""
    kind = schema.get("type")
    if "const" in schema or "enum" in schema:
        return True
    if kind == "string":
        return "pattern" in schema or "format" in schema
    return kind in ("integer", "number", "boolean")
