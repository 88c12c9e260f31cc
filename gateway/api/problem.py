"""What an operation says when it does not do what it was asked.

One exception for every API of ours, turned into RFC 9457 problem+json by the
HTTP side and into one line by the command line. `detail` names what was expected
and what was found. Must not know HTTP libraries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.config.problems import did_you_mean, quoted
from gateway.core.refusals import TYPE_BASE

# code: (status, title)
KINDS: dict[str, tuple[int, str]] = {
    "invalid_parameter": (400, "Invalid parameter"),
    "invalid_body": (400, "Invalid body"),
    "unknown_field": (400, "Unknown field"),
    "unauthorized": (401, "No operator token"),
    "forbidden": (403, "Not allowed"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "declared": (409, "Declared in the configuration"),
    "idempotency_conflict": (409, "Idempotency-Key used before"),
    "body_too_large": (413, "Body too large"),
    "internal_error": (500, "Internal error"),
    "store_unavailable": (503, "Store unavailable"),
}


class ApiProblem(Exception):
    """An operation that was refused; nothing was changed.

    `parameter` names the query parameter or body field that is to blame, `allow` the
    methods that a path does have.
    """

    def __init__(
        self, code: str, detail: str, *, parameter: str = "", allow: tuple[str, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status, self.title = KINDS[code]
        self.detail = detail
        self.parameter = parameter
        self.allow = allow

    def document(self, request_id: str = "") -> dict[str, Any]:
        """The problem+json document."""
        document: dict[str, Any] = {
            "type": TYPE_BASE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.parameter:
            document["parameter"] = self.parameter
        if request_id:
            document["request_id"] = request_id
        return document


def expected(parameter: str, wanted: str, found: object, hint: str = "") -> ApiProblem:
    """The usual form of a refused value: expected ..., found ...."""
    tail = f" ({hint})" if hint else ""
    text = f"{parameter}: expected {wanted}, found {_shown(found)}{tail}"
    return ApiProblem("invalid_parameter", text, parameter=parameter)


def unknown_name(parameter: str, kind: str, name: str, known: Iterable[str]) -> ApiProblem:
    """A name that nothing stands for, with the nearest that does."""
    names = sorted(known)
    hint = did_you_mean(name, names)
    if not hint and 0 < len(names) <= 8:
        hint = f"known: {', '.join(names)}"
    return expected(parameter, f"the name of {kind}", name, hint)


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises ApiProblem for the first name that is not known. `what`: field, parameter."""
    names = list(known)
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names) or f"known: {', '.join(names) or 'none'}"
            code = "unknown_field" if what == "field" else "invalid_parameter"
            raise ApiProblem(code, f"unknown {what} {quoted(name)} ({hint})", parameter=name)


def _shown(found: object) -> str:
    if isinstance(found, str):
        return quoted(found)
    if found is None:
        return "nothing"
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, dict):
        return "an object"
    if isinstance(found, list):
        return "a list"
    return str(found)[:60]
