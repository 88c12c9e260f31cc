"""Names that stand for something defined elsewhere: is it there?

One table says where names stand and which section defines them. It is asked of
the document, not of the models, so a reference is judged even in an entry that
has another mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gateway.config.nodes import Items, Mapping, Value
from gateway.config.problems import Mark, Problems

Names = dict[str, frozenset[str]]  # by section


class Reference(NamedTuple):
    """Where a name stands ("*": every entry) and what it should be.

    `by_key`: the keys of the mapping there are the names.
    """

    path: tuple[str, ...]
    section: str
    kind: str
    by_key: bool = False


REFERENCES = (
    Reference(("default_plan",), "plans", "a plan"),
    Reference(("accounts", "*", "plan"), "plans", "a plan"),
    Reference(("plans", "*", "allowances"), "meters", "a meter", by_key=True),
    Reference(("plans", "*", "bundles", "*", "meter"), "meters", "a meter"),
    Reference(("keys", "*", "account"), "accounts", "an account"),
    Reference(("keys", "*", "routes", "*"), "routes", "a route"),
    Reference(("identify", "anonymous", "account"), "accounts", "an account"),
    Reference(("identify", "sources", "*", "cookie", "account"), "accounts", "an account"),
    Reference(("routes", "*", "upstream"), "upstreams", "an upstream"),
    Reference(("routes", "*", "price"), "meters", "a meter", by_key=True),
    Reference(("routes", "*", "callers", "*", "price"), "meters", "a meter", by_key=True),
    Reference(("unmatched", "upstream"), "upstreams", "an upstream"),
    Reference(("unmatched", "price"), "meters", "a meter", by_key=True),
    Reference(("unmatched", "callers", "*", "price"), "meters", "a meter", by_key=True),
)


def check_references(root: Mapping, problems: Problems) -> None:
    """A problem for each name that nothing stands for."""
    names = defined_names(root)
    for reference in REFERENCES:
        known = names[reference.section]
        for value, mark in _find(root, root.mark, reference.path):
            for name, at in _named(value, mark, reference.by_key):
                if name not in known:
                    problems.unknown(at, reference.kind, name, known)


def defined_names(root: Mapping) -> Names:
    """The names that a document defines, right or wrong, by section."""
    names = {}
    for section in ("upstreams", "meters", "plans", "accounts"):
        value = root.get(section)
        names[section] = frozenset(value) if isinstance(value, Mapping) else frozenset()
    routes = root.get("routes")
    entries = routes if isinstance(routes, Items) else []
    names["routes"] = frozenset(
        _route_name(entry) for entry in entries if isinstance(entry, Mapping)
    )
    return names


def unnamed_route(match: str, host: str | None) -> str:
    """The name of a route that was given none."""
    return f"{match} on {host.lower()}" if host else match


def _route_name(entry: Mapping) -> str:
    name, host = entry.get("name"), entry.get("host")
    if name is not None:
        return str(name)
    match = entry.get("match")
    first = match[0] if isinstance(match, Items) and match else match
    return unnamed_route(str(first), host if isinstance(host, str) else None)


def _find(value: Value, mark: Mark, path: tuple[str, ...]) -> Iterator[tuple[Value, Mark]]:
    """Every value at a path, with its mark."""
    if not path:
        yield value, mark
        return
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        keys = list(value) if step == "*" else [step] * (step in value)
        for key in keys:
            yield from _find(value[key], value.values_at[key], rest)
    elif isinstance(value, Items) and step == "*":
        for entry, at in zip(value, value.items_at, strict=True):
            yield from _find(entry, at, rest)


def _named(value: Value, mark: Mark, by_key: bool) -> Iterator[tuple[str, Mark]]:
    if by_key and isinstance(value, Mapping):
        yield from value.keys_at.items()
    elif not by_key and isinstance(value, str):
        yield value, mark
