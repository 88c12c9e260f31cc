"""The JSON Schema: a valid one, explained throughout, and of one mind with `check`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config import yaml_core
from gateway.config.nodes import Mapping
from gateway.config.problems import Problems
from gateway.config.schema import SCHEMA_ID, json_schema
from gateway.core.refusals import KINDS
from tests.config.test_demo import DEMO, everything
from tests.config.writing import Folder


def parsed(text: str) -> Mapping:
    value = yaml_core.parse(text, "f", lambda text: text, Problems())
    assert value is not None
    return value


def errors(text: str) -> list[str]:
    found = Draft202012Validator(json_schema()).iter_errors(parsed(text))
    return [error.message for error in found]


def test_it_is_a_schema() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == SCHEMA_ID and schema["title"]
    assert schema["$schema"].endswith("2020-12/schema")


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        for name, entry in schema.get("properties", {}).items():
            yield f"{path}.{name}", entry
        for key, entry in schema.items():
            yield from properties(entry, f"{path}.{key}" if key != "properties" else path)
    elif isinstance(schema, list):
        for entry in schema:
            yield from properties(entry, path)


def test_every_key_is_explained() -> None:
    found = list(properties(json_schema()))
    assert len(found) > 100
    assert [path for path, entry in found if "description" not in entry] == []


def test_the_demo_is_valid(folder: Folder) -> None:
    assert errors(DEMO.read_text("utf-8")) == []
    assert errors(everything(folder)) == []


@pytest.mark.parametrize(
    "text",
    ["keys:\nroutes:\n", "include: a.yaml", "server: {max_headers: '${N:-5}'}", "limits: {a: 1/s}",
     "routes: [{match: '* /', upstream: u, price: 0}]", "listeners: {admin: null}",
     "routes: [{match: GET /, upstream: u, price: {c: 0.5}, callers: [browser]}]",
     "data_dir: ${D}", "response_headers: {budget: '${B}'}", "identify: {sources: [bearer]}"],
)  # fmt: skip
def test_right(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize(
    "text",
    ["rotues: []", "server: {head_timout: 1s}", "server: {head_timeout: 10}",
     "server: {max_headers: 0}", "server: {max_headers: '5'}", "journal: {sync: sometimes}",
     "limits: {a: 5}", "limits: {'a b': 1/s}", "errors: {nonsense: {body: x}}",
     "routes: [{match: GET /, price: free}]", "routes: [{match: get /, upstream: u}]",
     "routes: [{match: GET /, upstream: u, price: {}}]", "accounts: {a: {cycle_start: 5}}",
     "routes: [{match: GET /, upstream: u, price: free, callers: [browsr]}]",
     "listeners: {proxy: 8080}", "identify: {sources: [bearr]}", "response_headers: {budget: on}"],
)  # fmt: skip
def test_wrong_for_both(text: str, folder: Folder) -> None:
    assert errors(text)
    assert folder.problems(text)


def test_defaults_are_as_an_operator_writes_them() -> None:
    definitions = json_schema()["$defs"]
    assert "default" not in definitions["ServerModel"]["properties"]["head_timeout"]
    assert definitions["ServerModel"]["properties"]["max_headers"]["default"] == 100
    assert definitions["JournalModel"]["properties"]["sync"]["default"] == "interval"


def test_error_codes_are_those_of_the_gateway() -> None:
    section = json_schema()["properties"]["errors"]["anyOf"][0]
    assert section["propertyNames"] == {"enum": list(KINDS)}
