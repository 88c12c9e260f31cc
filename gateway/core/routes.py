"""Which route a request takes.

Patterns are compiled once. Matching walks the canonical path: a dictionary of
exact paths first, then a trie by segments in which a literal wins over a
`{parameter}` and that over a `{rest...}`; where the nearer leaf does not let
the method, host or headers in, the walk goes on to the next. So the answer
depends on the patterns, not on their number. Must not know prices or sockets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from gateway.core.malformed import Malformed
from gateway.core.target import canonical_path

R = TypeVar("R")
Host = str
Segments = tuple[str, ...]
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")


class TemplateError(ValueError):
    """A path template that cannot be compiled; `offset` is in characters."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Segment(NamedTuple):
    """One step of a template: a literal text, a parameter or the rest."""

    kind: Literal["literal", "parameter", "rest"]
    text: str  # the literal, or the parameter's name


@dataclass(frozen=True, slots=True)
class Pattern:
    """The conditions of one route; empty methods mean every method."""

    methods: frozenset[str] = frozenset()
    host: str | None = None
    template: str = "/{path...}"
    headers: tuple[tuple[str, str | None], ...] = ()


class Match(NamedTuple, Generic[R]):
    entry: R
    parameters: dict[str, str]


class Miss(NamedTuple):
    """No route. `allowed` are the methods that would have matched: empty means 404."""

    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Pattern `index` can never be reached, because of `by_index`."""

    kind: Literal["shadowed", "ambiguous", "duplicate"]
    index: int
    by_index: int
    message: str


class _Candidate(NamedTuple, Generic[R]):
    pattern: Pattern
    names: Segments  # parameter names in order
    entry: R


class _Node(Generic[R]):
    """A place in the trie: children by literal, one parameter child, leaves."""

    __slots__ = ("literals", "parameter", "leaf", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[R]] = {}
        self.parameter: _Node[R] | None = None
        self.leaf: list[_Candidate[R]] = []
        self.rest: list[_Candidate[R]] = []


class RouteTable(Generic[R]):
    """The compiled patterns. Build with `compile`, ask with `match`."""

    def __init__(self, ignore_case: bool) -> None:
        self._ignore_case = ignore_case
        self._exact: dict[str, list[_Candidate[R]]] = {}
        self._root: _Node[R] = _Node()
        self.hosts: frozenset[str] = frozenset()

    @classmethod
    def compile(
        cls, entries: Iterable[tuple[Pattern, R]], *, ignore_case: bool = False
    ) -> RouteTable[R]:
        """Build a table. Raises TemplateError for a template that is none."""
        table: RouteTable[R] = cls(ignore_case)
        hosts = set()
        for pattern, entry in entries:
            segments = parse_template(pattern.template)
            names = tuple(s.text for s in segments if s.kind != "literal")
            leaf = table._leaf(segments)
            leaf.append(_Candidate(pattern, names, entry))
            leaf.sort(key=_specificity)  # stable: equal patterns keep their order
            if pattern.host and not pattern.host.startswith("*"):
                hosts.add(pattern.host)
        table.hosts = frozenset(hosts)
        return table

    def match(
        self, method: str, host: str, path: str, headers: Mapping[str, str]
    ) -> Match[R] | Miss:
        """The route of a request.

        `host` is lower case without port, `path` canonical (core/target.py),
        `headers` case-insensitive. A GET pattern also serves HEAD where no
        pattern names HEAD.
        """
        if self._ignore_case:
            path = path.casefold()
        found = self._search(method, host, path, headers)
        if found is None and method == "HEAD":
            found = self._search("GET", host, path, headers)
        if found is None:
            return Miss(self._allowed(host, path, headers))
        return found

    def _search(
        self, method: str, host: str, path: str, headers: Mapping[str, str]
    ) -> Match[R] | None:
        candidates = self._exact.get(path)
        if candidates is not None:
            for candidate in candidates:
                if _lets_in(candidate.pattern, method, host, headers):
                    return Match(candidate.entry, {})
        return self._find(self._root, path[1:].split("/"), 0, (), (method, host, headers))

    def _find(
        self,
        node: _Node[R],
        segments: list[str],
        at: int,
        values: Segments,
        asked: tuple[str, str, Mapping[str, str]],
    ) -> Match[R] | None:
        """The nearest leaf at or below `node` that lets the request in."""
        while at < len(segments):
            segment = segments[at]
            child = node.literals.get(segment)
            at += 1
            if not node.rest and (child is None or node.parameter is None):
                # Only one way to go on.
                if child is None:
                    child, values = node.parameter, (*values, segment)
                    if child is None or not segment:
                        return None
                node = child
                continue
            found = None if child is None else self._find(child, segments, at, values, asked)
            if found is None and node.parameter is not None and segment:
                found = self._find(node.parameter, segments, at, (*values, segment), asked)
            if found is None and node.rest:
                rest = "/".join(segments[at - 1 :])
                found = _first(node.rest, (*values, rest), asked)
            return found
        return _first(node.leaf, values, asked)

    def _allowed(self, host: str, path: str, headers: Mapping[str, str]) -> frozenset[str]:
        groups = [self._exact.get(path, [])]
        groups += [leaf for leaf, _ in _walk(self._root, path[1:].split("/"), 0, [])]
        return frozenset(
            method
            for group in groups
            for candidate in group
            for method in candidate.pattern.methods
            if _lets_in(candidate.pattern, method, host, headers)
        )

    def _leaf(self, segments: Sequence[Segment]) -> list[_Candidate[R]]:
        """The list that a template's candidates stand in, made when new."""
        fold = str.casefold if self._ignore_case else str
        if all(s.kind == "literal" for s in segments):
            return self._exact.setdefault(fold("/" + "/".join(s.text for s in segments)), [])
        node = self._root
        for segment in segments:
            if segment.kind == "rest":
                return node.rest
            if segment.kind == "parameter":
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(fold(segment.text), _Node())
        return node.leaf


def parse_template(template: str) -> tuple[Segment, ...]:
    """`/a/{b}/{c...}` as segments; "/" is one empty literal.

    Raises TemplateError for unbalanced braces, parameters that are only a part
    of a segment, names used twice, a rest that is not last, and literals that
    no request could match.
    """
    if not template.startswith("/"):
        raise TemplateError("a path template begins with '/'", 0)
    segments: list[Segment] = []
    offset = 1
    for text in template[1:].split("/"):
        segments.append(_segment(text, offset))
        offset += len(text) + 1
    if len(segments) > 1 and segments[-1].text == "":
        segments.pop()  # a trailing slash says nothing
    if len(segments) > 1 and any(s.text == "" for s in segments):
        raise TemplateError("no request can match '//'", template.index("//"))
    names = [s.text for s in segments if s.kind != "literal"]
    for name in names:
        if names.count(name) > 1:
            raise TemplateError(f"the parameter {{{name}}} stands twice", template.rindex(name))
    for segment in segments[:-1]:
        if segment.kind == "rest":
            where = template.index("{" + segment.text)
            raise TemplateError(f"{{{segment.text}...}} must be the last segment", where)
    return tuple(segments)


def find_conflicts(patterns: Sequence[Pattern]) -> list[Conflict]:
    """Patterns that no request can ever reach, in order of their index.

    Templates must parse. `duplicate`: the same text, `ambiguous`: other
    parameter names but the same paths, `shadowed`: covered by several.
    """
    by_shape: dict[tuple[Segments, Host | None, object], list[int]] = {}
    conflicts = []
    for index, pattern in enumerate(patterns):
        key = (_shape(pattern.template), pattern.host, tuple(sorted(pattern.headers, key=str)))
        earlier = by_shape.setdefault(key, [])
        conflict = _covered(index, patterns, earlier)
        if conflict is not None:
            conflicts.append(conflict)
        earlier.append(index)
    return conflicts


def _covered(index: int, patterns: Sequence[Pattern], earlier: Sequence[int]) -> Conflict | None:
    """Whether the earlier patterns of the same shape take every method of this one."""
    pattern = patterns[index]
    left = set(pattern.methods)
    for by_index in earlier:
        other = patterns[by_index]
        left -= other.methods
        if other.methods and (not pattern.methods or left):
            continue
        if other.template != pattern.template:
            return Conflict(
                "ambiguous", index, by_index, f"{other.template} already matches the same paths"
            )
        same = other.methods == pattern.methods
        kind: Literal["duplicate", "shadowed"] = "duplicate" if same else "shadowed"
        return Conflict(kind, index, by_index, f"{other.template} already takes these methods")
    return None


def _shape(template: str) -> Segments:
    marks = {"parameter": "{}", "rest": "{...}"}
    return tuple(marks.get(s.kind, "=" + s.text) for s in parse_template(template))


def _segment(text: str, offset: int) -> Segment:
    if "{" not in text and "}" not in text:
        try:
            return Segment("literal", canonical_path("/" + text)[1:])
        except Malformed as exc:
            raise TemplateError(f"no request can match this segment: {exc.reason}", offset) from exc
    found = _PARAMETER.fullmatch(text)
    if found is None:
        raise TemplateError(
            "a segment is a literal, {name} or {name...}; braces cannot be a part of one", offset
        )
    return Segment("rest" if found[2] else "parameter", found[1])


def _specificity(candidate: _Candidate[R]) -> tuple[int, int]:
    """Named hosts before *.hosts before any; more header conditions first."""
    host = candidate.pattern.host
    rank = 2 if host is None else int(host.startswith("*"))
    return rank, -len(candidate.pattern.headers)


def _lets_in(pattern: Pattern, method: str, host: str, headers: Mapping[str, str]) -> bool:
    if pattern.methods and method not in pattern.methods:
        return False
    if pattern.host is not None and not host_matches(pattern.host, host):
        return False
    for name, value in pattern.headers:
        found = headers.get(name)
        if found is None or (value is not None and found != value):
            return False
    return True


def host_matches(pattern: str, host: str) -> bool:
    """`api.example.com`, or `*.example.com` for any name below it."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _first(
    candidates: list[_Candidate[R]],
    values: Segments,
    asked: tuple[str, str, Mapping[str, str]],
) -> Match[R] | None:
    for candidate in candidates:
        if _lets_in(candidate.pattern, *asked):
            return Match(candidate.entry, dict(zip(candidate.names, values, strict=True)))
    return None


def _walk(
    node: _Node[R], segments: list[str], at: int, values: list[str]
) -> Iterable[tuple[list[_Candidate[R]], list[str]]]:
    """Leaves that the path reaches, the nearest first, with parameter values."""
    if at == len(segments):
        if node.leaf:
            yield node.leaf, values
        return
    segment = segments[at]
    child = node.literals.get(segment)
    if child is not None:
        yield from _walk(child, segments, at + 1, values)
    if node.parameter is not None and segment:
        yield from _walk(node.parameter, segments, at + 1, [*values, segment])
    if node.rest:
        yield node.rest, [*values, "/".join(segments[at:])]
