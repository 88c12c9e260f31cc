"""The OpenAPI document: complete, valid, and true of a running gateway.

schemathesis asks every operation, with what the document allows and with what
it does not: no answer is a 5xx, every answer is one that the document names.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from openapi_spec_validator import validate
from requests import Request
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from gateway.api.documents import DOCUMENTS
from gateway.api.endpoints import ENDPOINTS, PREFIX, Endpoint
from gateway.api.openapi import openapi_document
from gateway.api.shapes import SHAPES
from tests.api.admin_client import Admin
from tests.support.stage import Stage

EXAMPLES = 15  # of each operation, in CI and here
REJECTED = ["400", "403", "404", "405", "409", "413"]  # what is not as described
AS_DESCRIBED = [GenerationMode.POSITIVE]
LINE_BYTES_MAX = 8_000  # a longer request line is refused before it is read
# Names that are there, so that not every example ends with 404.
KNOWN = {
    "account": "fuzzed",
    "meter": "coins",
    "plan": "precise",
    "bundle": "starter",
    "user": "ada",
    "role": "owner",
    "amount": 1,
    "wait": 0,
}


def test_the_document_is_valid_openapi_31() -> None:
    document = openapi_document("1.2.3")
    validate(document)  # type: ignore[arg-type]
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"


def test_every_operation_is_described_and_none_that_is_not_there() -> None:
    assert set(SHAPES) == {f"{e.method} {e.path}" for e in ENDPOINTS}
    described = {
        (method.upper(), path.removeprefix(PREFIX))
        for path, operations in openapi_document("1")["paths"].items()
        for method in operations
    }
    assert described == {(e.method, e.path) for e in ENDPOINTS}


def test_operation_ids_are_unique_and_roles_are_said() -> None:
    found = [
        operation
        for operations in openapi_document("1")["paths"].values()
        for operation in operations.values()
    ]
    assert len({operation["operationId"] for operation in found}) == len(found)
    assert all("Roles: admin" in operation["description"] for operation in found)


def test_every_document_is_used_somewhere() -> None:
    text = json.dumps(openapi_document("1"))
    for name in DOCUMENTS:
        assert f'"#/components/schemas/{name}"' in text, name


@pytest.mark.parametrize("path", ["/openapi.json", f"{PREFIX}/openapi.json"])
def test_it_is_served_without_a_token(api: Stage, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.gateway.admin_port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        document = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200
    assert document["paths"].keys() == openapi_document("1")["paths"].keys()


@pytest.fixture(scope="module")
def described(api: Stage, admin: Admin) -> Any:
    """The document, and an account that its operations may be tried on."""
    admin.make("/accounts", id=KNOWN["account"], plan="precise")
    load_all_checks()
    schema = schemathesis.openapi.from_dict(openapi_document("1"))
    schema.config.update(base_url=admin.control["url"])
    schema.config.generation.update(with_security_parameters=False)
    schema.config.checks.negative_data_rejection.expected_statuses = REJECTED
    return schema


def known(case: Any) -> Any:
    """The case with names that are there, in those parts that are as described."""
    parts = {"path": case.path_parameters, "query": case.query, "body": case.body}
    for location, component in case.meta.components.items():
        part = parts.get(location.value)
        if isinstance(part, dict) and component.mode is GenerationMode.POSITIVE:
            part.update((name, KNOWN[name]) for name in KNOWN if name in part)
    return case


def tried() -> list[Any]:
    """Every operation with what it takes, and with what it does not, where there is such."""
    found = []
    for endpoint in ENDPOINTS:
        name = f"{endpoint.method} {endpoint.path}"
        modes = list(GenerationMode) if SHAPES[name].query or SHAPES[name].body else AS_DESCRIBED
        found += [pytest.param(endpoint, mode, id=f"{name}-{mode.name.lower()}") for mode in modes]
    return found


@pytest.mark.parametrize(("endpoint", "mode"), tried())
def test_every_operation_answers_as_described(
    described: Any, admin: Admin, endpoint: Endpoint, mode: GenerationMode
) -> None:
    operation = described[PREFIX + endpoint.path][endpoint.method]
    cases = operation.as_strategy(generation_mode=mode)
    # Not every text that has the form of a name is one, and not every amount fits its meter.
    checks = [check for check in CHECKS.get_all() if check is not positive_data_acceptance]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        headers = {"Authorization": admin.bearer}
        line = known(case).as_transport_kwargs(headers=headers)
        assume(len(Request(params=line["params"], url=line["url"]).prepare().url) < LINE_BYTES_MAX)
        case.call_and_validate(headers=headers, checks=checks)

    ask()
