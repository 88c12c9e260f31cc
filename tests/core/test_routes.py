"""Which route a path takes; the table against a naive reading of the rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routes import (
    Match,
    Miss,
    Pattern,
    RouteTable,
    TemplateError,
    find_conflicts,
    parse_template,
)

GET = frozenset({"GET"})
POST = frozenset({"POST"})


def table(*patterns: Pattern, ignore_case: bool = False) -> RouteTable[int]:
    return RouteTable.compile(((p, i) for i, p in enumerate(patterns)), ignore_case=ignore_case)


def found(routes: RouteTable[int], method: str, path: str, host: str = "h") -> int | None:
    match = routes.match(method, host, path, {})
    return match.entry if isinstance(match, Match) else None


def test_exact_then_parameter_then_rest() -> None:
    routes = table(
        Pattern(GET, template="/a/{rest...}"),
        Pattern(GET, template="/a/{x}"),
        Pattern(GET, template="/a/b"),
        Pattern(GET, template="/{x}/c"),
    )
    paths = ["/a/b", "/a/z", "/a/z/y", "/q/c", "/a/c", "/a", "/q/d"]
    assert [found(routes, "GET", p) for p in paths] == [2, 1, 0, 3, 1, None, None]


def test_goes_on_where_the_nearest_does_not_let_in() -> None:
    routes = table(Pattern(GET, template="/a/b"), Pattern(POST, template="/a/{x}"))
    assert found(routes, "POST", "/a/b") == 1
    assert routes.match("PUT", "h", "/a/b", {}) == Miss(frozenset({"GET", "POST"}))


def test_get_serves_head_unless_head_is_named() -> None:
    routes = table(Pattern(GET, template="/a"), Pattern(frozenset({"HEAD"}), template="/b"))
    assert found(routes, "HEAD", "/a") == 0
    assert found(routes, "HEAD", "/b") == 1


def test_hosts_and_headers_before_their_absence() -> None:
    routes = table(
        Pattern(GET, template="/a"),
        Pattern(GET, host="*.example.com", template="/a"),
        Pattern(GET, host="x.example.com", template="/a"),
        Pattern(GET, template="/a", headers=(("x-v", "2"),)),
    )
    hosts = ["h", "y.example.com", "x.example.com", "example.com"]
    assert [found(routes, "GET", "/a", host) for host in hosts] == [0, 1, 2, 0]
    match = routes.match("GET", "h", "/a", {"x-v": "2"})
    assert isinstance(match, Match) and match.entry == 3


def test_parameters_are_given() -> None:
    match = table(Pattern(template="/{p}/t/{rest...}")).match("PUT", "h", "/web/t/a/b", {})
    assert isinstance(match, Match) and match.parameters == {"p": "web", "rest": "a/b"}


def test_case_is_kept_unless_told() -> None:
    assert found(table(Pattern(GET, template="/Paid")), "GET", "/paid") is None
    assert found(table(Pattern(GET, template="/Paid"), ignore_case=True), "GET", "/PAID") == 0


@pytest.mark.parametrize(
    "template", ["a", "/{x", "/a{x}", "/{x...}/b", "/{x}/{x}", "/{1}", "/a//b", "/../b", "/a;b"]
)
def test_bad_templates(template: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(template)


def test_conflicts() -> None:
    patterns = [
        Pattern(GET, template="/a/{x}"),
        Pattern(GET, template="/a/{y}"),
        Pattern(POST, template="/a/{x}"),
        Pattern(GET | POST, template="/a/{x}"),
        Pattern(template="/b"),
        Pattern(GET, template="/b"),
        Pattern(GET, host="h", template="/b"),
        Pattern(template="/b"),
    ]
    rows = [(c.kind, c.index) for c in find_conflicts(patterns)]
    assert rows == [("ambiguous", 1), ("shadowed", 3), ("shadowed", 5), ("duplicate", 7)]


SEGMENT = st.sampled_from(["a", "b", "{p}", "{rest...}"])


def naive(templates: list[str], path: str) -> set[int]:
    """Every template that matches at all."""
    hits = set()
    for index, template in enumerate(templates):
        pattern, given_ = template[1:].split("/"), path[1:].split("/")
        if pattern[-1] == "{rest...}":
            pattern, given_ = (
                pattern[:-1],
                given_[: len(pattern) - 1] if len(given_) >= len(pattern) else [],
            )
            if len(given_) != len(pattern):
                continue
        if len(pattern) == len(given_) and all(
            p == g or p.startswith("{") for p, g in zip(pattern, given_, strict=True)
        ):
            hits.add(index)
    return hits


@given(
    st.lists(st.lists(SEGMENT, min_size=1, max_size=4), min_size=1, max_size=8),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5),
)
def test_matches_what_a_naive_matcher_matches(shapes: list[list[str]], segments: list[str]) -> None:
    templates = []
    for shape in shapes:
        if "{rest...}" in shape:
            shape = shape[: shape.index("{rest...}") + 1]
        named = [s.replace("{p}", f"{{p{i}}}") for i, s in enumerate(shape)]
        templates.append("/" + "/".join(named))
    path = "/" + "/".join(segments)
    hit = found(table(*(Pattern(GET, template=t) for t in templates)), "GET", path)
    hits = naive(templates, path)
    assert (hit in hits) if hits else hit is None
