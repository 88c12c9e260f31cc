"""Figures: the places of a request and its answer where a price may look.

A figure is written `SOURCE` or `SOURCE:PATH` in YAML and is parsed once, here.
`at` says when it is known: with the head, with the request's body, with the
answer. Values are texts (for tables and conditions) or exact numbers. Must not
know how a body is read (proxy/bodies.py, proxy/tap.py) or where it comes from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

At = Literal["head", "body", "answer"]

# source: (when it is known, what its path is; "" has none)
SOURCES: dict[str, tuple[At, str]] = {
    "request.count": ("head", ""),  # 1
    "request.header": ("head", "name"),
    "request.query": ("head", "name"),
    "request.path": ("head", "name"),  # a {parameter} of the route's template
    "request.method": ("head", ""),
    "request.bytes": ("body", ""),  # of the body
    "request.json": ("body", "json"),
    "request.items": ("body", "json"),  # how many entries the list there has
    "request.form": ("body", "name"),  # application/x-www-form-urlencoded
    "request.junit": ("body", ""),  # test cases in a JUnit XML document
    "account.setting": ("head", "name"),
    "account.plan": ("head", ""),
    "caller.kind": ("head", ""),
    "answer.status": ("answer", ""),
    "answer.header": ("answer", "name"),
    "answer.json": ("answer", "json"),
    "answer.items": ("answer", "json"),
    "answer.bytes": ("answer", ""),  # of the body, as the client got it
    "stream.json": ("answer", "json"),  # in the last server-sent event that has it
    "stream.events": ("answer", ""),
    "socket.bytes": ("answer", ""),  # WebSocket: both ways
    "socket.messages": ("answer", ""),
    "open.seconds": ("answer", ""),  # how long the exchange took, to the microsecond
    "bytes": ("answer", ""),  # bodies, both ways
}
# Those that say how much rather than what: no table or condition looks them up.
COUNTED = frozenset(
    ("request.count", "request.bytes", "request.items", "request.junit", "answer.items",
     "answer.bytes", "stream.events", "socket.bytes", "socket.messages", "open.seconds", "bytes")
)  # fmt: skip

PATH_STEPS_MAX = 32
_NAME = re.compile(r"[!-~]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Figure:
    """One place. `steps` are the keys and list indexes of a JSON path."""

    source: str
    name: str = ""  # header (lower case), parameter, form field or setting
    steps: tuple[str | int, ...] = ()
    at: At = field(init=False, compare=False, default="head")

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", SOURCES[self.source][0])

    def __str__(self) -> str:
        path = self.name or ".".join(map(str, self.steps))
        return f"{self.source}:{path}" if path else self.source


def parse_figure(text: str) -> Figure:
    """`answer.json:usage.total_tokens`, `request.header:X-Steps`, `request.bytes`.

    A JSON path is keys and list indexes joined by points, or a JSON pointer
    (RFC 6901) where it begins with `/`; an empty one is the whole document.
    Raises ValueError saying what was expected.
    """
    source, _, path = text.partition(":")
    kind = SOURCES.get(source)
    if kind is None:
        raise ValueError(f"expected one of {', '.join(SOURCES)}")
    wanted = kind[1]
    if wanted == "json":
        return Figure(source, steps=_steps(path))
    if wanted == "" and path:
        raise ValueError(f"expected {source} without a path")
    if wanted == "name" and not _NAME.fullmatch(path):
        raise ValueError(f"expected {source}:NAME")
    return Figure(source, path.lower() if source.endswith(".header") else path)


def _steps(path: str) -> tuple[str | int, ...]:
    if path.startswith("/"):
        parts = [p.replace("~1", "/").replace("~0", "~") for p in path[1:].split("/")]
    else:
        parts = path.split(".") if path else []
    if len(parts) > PATH_STEPS_MAX or (parts and "" in parts):
        raise ValueError(f"expected a path of 1 to {PATH_STEPS_MAX} steps such as usage.tokens")
    return tuple(int(p) if p.isascii() and p.isdigit() and len(p) < 10 else p for p in parts)


def look_up(document: object, steps: tuple[str | int, ...]) -> object:
    """What stands at a path of a JSON document; None where nothing does.

    A number step takes a list's entry or an object's key of that text.
    """
    for step in steps:
        if isinstance(document, dict):
            document = document.get(str(step))
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return None
    return document
