"""Why a request takes the route it takes.

The route table decides; this retells its decision, nearest pattern first, with
the condition that kept each nearer one from matching. For people: it asks every
route in turn and is as slow as that. Must not know the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.config.words import price_text
from gateway.core.book import STATEMENTS, Book, Meter, Route, Upstream
from gateway.core.routes import Match, Pattern, RouteTable, host_matches, parse_template
from gateway.core.target import Target, parse_target

Kind = Literal["exact", "template", "rest"]
_RANK = {"literal": 0, "parameter": 1, "rest": 2}  # as the table's walk prefers them


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route whose path matches; `failed` says which of its conditions do not."""

    route: Route
    kind: Kind
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a request goes. `route` is None when it is refused.

    `candidates` begin with the nearest pattern; `allowed` are the methods that
    other routes of this path take; `own` names our own API on that path.
    """

    target: Target
    route: Route | None
    parameters: dict[str, str]
    candidates: tuple[Candidate, ...]
    allowed: frozenset[str]
    own: str

    @property
    def by_default(self) -> bool:
        """Whether no configured route matched and the rule for that one did."""
        return self.route is not None and all(c.route is not self.route for c in self.candidates)


def explain(
    book: Book, method: str, raw_target: str, host: str, headers: Mapping[str, str]
) -> Explanation:
    """Ask the table and say why; `host` and header names in lower case.

    Raises Malformed for a target that is refused before any route is asked.
    """
    target = parse_target(raw_target, book.table.hosts)
    path = target.canonical
    candidates = [
        Candidate(route, kind_of(route), failed_conditions(route, method, host, headers))
        for route in book.routes
        if _path_matches(route, path)
    ]
    candidates.sort(key=lambda candidate: _nearness(candidate.route))
    found = book.table.match(method, host, path, headers)
    own = _own_api(book, path)
    if isinstance(found, Match):
        route, parameters, allowed = found.entry, found.parameters, frozenset[str]()
        return Explanation(target, route, parameters, tuple(candidates), allowed, own)
    return Explanation(target, book.unmatched, {}, tuple(candidates), found.allowed, own)


def kind_of(route: Route) -> Kind:
    """How near a route's template is: a fixed path, with parameters, or a rest."""
    kinds = {segment.kind for segment in parse_template(route.template)}
    if "rest" in kinds:
        return "rest"
    return "template" if "parameter" in kinds else "exact"


def failed_conditions(
    route: Route, method: str, host: str, headers: Mapping[str, str]
) -> tuple[str, ...]:
    """The conditions beside the path that a request does not meet, as sentences."""
    failed = []
    wanted = route.methods
    if wanted and method not in wanted and not (method == "HEAD" and "GET" in wanted):
        failed.append(f"method {method} is not {' or '.join(sorted(wanted))}")
    if route.host is not None and not host_matches(route.host, host):
        failed.append(f"host {host or '(none)'} is not {route.host}")
    for name, value in route.headers:
        found = headers.get(name)
        if found is None:
            failed.append(f"header {name} is missing")
        elif value is not None and found != value:
            failed.append(f"header {name} is {found!r}, not {value!r}")
    return tuple(failed)


def prices_text(route: Route, meters: Mapping[str, Meter]) -> str:
    """The price of each kind of caller; one figure when all pay the same."""
    by_kind = {kind: price_text(price, meters) for kind, price in route.prices.items()}
    return ", ".join(f"{kind}: {text}" for kind, text in by_kind.items())


def upstream_url(upstream: Upstream, target: Target) -> str:
    """The URL that the backend is asked for; path and query as they came."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    default = {"http": 80, "https": 443}[upstream.scheme]
    port = "" if upstream.port == default else f":{upstream.port}"
    query = "" if target.query is None else f"?{target.query}"
    return f"{upstream.scheme}://{host}{port}{upstream.base_path}{target.path}{query}"


def _path_matches(route: Route, path: str) -> bool:
    table = RouteTable.compile([(Pattern(template=route.template), route)])
    return isinstance(table.match("GET", "", path, {}), Match)


def _nearness(route: Route) -> tuple[list[int], int, int]:
    """Sorts routes as the table prefers them: path, then host, then headers."""
    ranks = [_RANK[segment.kind] for segment in parse_template(route.template)]
    host = 2 if route.host is None else int(route.host.startswith("*"))
    return ranks, host, -len(route.headers)


def _own_api(book: Book, path: str) -> str:
    api = book.usage_api
    names = ("summary", "activity", "export", *STATEMENTS)
    ours = dict(zip(api.paths, names, strict=True))
    return f"usage {ours[path]}" if api.enabled and path in ours else ""
