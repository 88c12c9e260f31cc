"""What works but should be a decision: the warnings of a right configuration."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from gateway.config.draft import Draft, Where
from gateway.config.models_limits import LimitModel
from gateway.config.nodes import locate
from gateway.config.problems import Problems, did_you_mean
from gateway.core.book import Book, Route

# What the parser lets through: any other is answered with 400 before a route is looked for.
METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "ACL", "BIND", "CHECKOUT",
    "COPY", "LINK", "LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE",
    "NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE",
    "SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE",
)  # fmt: skip
_COLON = re.compile(r"/:([A-Za-z_][A-Za-z0-9_]*)(?=/|$)")


def lint(draft: Draft, book: Book, warnings: Problems) -> None:
    """Add every warning about a book that compiled."""
    _routes(draft, book, warnings)
    _matches(draft, warnings)
    _libraries(draft, book, warnings)
    _prices(draft, warnings)
    _reserves(draft, book, warnings)
    _callers(draft, book, warnings)
    _network(draft, book, warnings)
    _upstreams(draft, book, warnings)
    _limits(draft, warnings)


def free_kinds(route: Route) -> list[str]:
    """The kinds of callers that a route lets in without charging them."""
    return [kind for kind, price in route.prices.items() if price.is_free]


def _all_routes(draft: Draft, book: Book) -> Iterator[tuple[Route, Where]]:
    by_source = {route.source: route for route in book.routes}  # one may have several matches
    for index, route in enumerate(by_source.values()):
        yield route, ("routes", index)
    if book.unmatched is not None:
        yield book.unmatched, ("unmatched",)


def _routes(draft: Draft, book: Book, warnings: Problems) -> None:
    if not book.routes and book.unmatched is None:
        warnings.add(draft.at("routes"), "there are no routes: every request is refused")
    for route, path in _all_routes(draft, book):
        free = free_kinds(route)
        if route is book.unmatched:
            cost = "free" if len(free) == len(route.prices) else "at a price of its own"
            warnings.add(draft.at(*path), f"what no route names is passed on, {cost}")
        elif free:
            whom = "" if len(free) == len(route.prices) else f" for {' and '.join(free)}"
            warnings.add(draft.at(*path), f"the route {route.name!r} is free{whom}")


def _matches(draft: Draft, warnings: Problems) -> None:
    """What reads like a route and matches no request."""
    for index, route in enumerate(draft.config.routes):
        for number, match in enumerate(route.match):
            mark = draft.at("routes", index, "match", number)
            for method in sorted(match.methods.difference(METHODS)):
                hint = did_you_mean(method, METHODS)
                said = f"no request has the method {method}" + (f" ({hint})" if hint else "")
                warnings.add(mark, said)
            for name in _COLON.findall(match.template):
                warnings.add(mark, f":{name} is taken as it stands: a parameter is {{{name}}}")


def _libraries(draft: Draft, book: Book, warnings: Problems) -> None:
    """What is configured and cannot start, for it comes with an extra that is not installed."""
    retention = book.store.retention
    archive = retention and retention.archive
    needed: tuple[tuple[object, Where, str, str], ...] = (
        (book.store.url, ("store",), "psycopg", "postgres"),
        (book.state.url, ("state",), "redis", "redis"),
        (
            archive and archive.format == "parquet",
            ("store", "retention", "archive", "format"),
            "pyarrow",
            "parquet",
        ),
    )
    for is_needed, path, module, extra in needed:
        if is_needed and find_spec(module) is None:
            warnings.add(
                draft.key_at(*path),
                f"{module} is not installed here, and `serve` needs it for this: "
                f"pip install 'tallygate[{extra}]'",
            )


def _prices(draft: Draft, warnings: Problems) -> None:
    """Zero as a price says less than `free`."""
    places: list[Where] = [("unmatched",)]
    places += [("routes", index) for index in range(len(draft.config.routes))]
    for path in places:
        prices = [(*path, "price")]
        callers = locate(draft.root, (*path, "callers"))
        if callers.missing is None and isinstance(callers.value, Mapping):
            prices += [(*path, "callers", kind, "price") for kind in callers.value]
        for where in prices:
            found = locate(draft.root, where)
            if found.missing is not None or found.value == "free":
                continue
            amounts = found.value.values() if isinstance(found.value, dict) else [found.value]
            if any(isinstance(amount, dict | list) for amount in amounts):
                continue
            if all(str(amount).strip("0.") == "" for amount in amounts):
                warnings.add(found.mark, "a price of 0: write `free` to say that it is meant")


def _reserves(draft: Draft, book: Book, warnings: Problems) -> None:
    """A cost that nobody sets aside: parallel requests can pass a budget by it."""
    for route, path in _all_routes(draft, book):
        rules = {rule.id: rule for price in route.prices.values() for rule in price.rules}
        for rule in rules.values():
            late = bool(rule.of) and all(figure.at == "answer" for figure in rule.of)
            reserve = rule.reserve
            if late and not (reserve.of or reserve.average or reserve.otherwise[0]):
                warnings.add(
                    draft.at(*path),
                    f"{route.name!r} reserves nothing for {rule.of[0]}: parallel requests can "
                    "pass a budget by what they have not been charged yet",
                )


def _callers(draft: Draft, book: Book, warnings: Problems) -> None:
    has_cookie = any(source.kind == "cookie" for source in book.identify.sources)
    for route, path in _all_routes(draft, book):
        price = route.prices.get("anonymous")
        if price is not None and book.identify.anonymous_account is None:
            pays = "nobody pays" if price.is_free else "nobody is charged"
            warnings.add(
                draft.at(*path, "callers"),
                f"{route.name!r} lets anonymous callers in, but identify.anonymous names no "
                f"account: {pays}",
            )
        if "browser" in route.prices and not has_cookie:
            warnings.add(
                draft.at(*path, "callers"),
                f"{route.name!r} lets browsers in, but identify.sources has no cookie",
            )
    for index, source in enumerate(draft.config.identify.sources):
        if source.cookie is not None and source.cookie.verified_by == "backend":
            warnings.add(
                draft.at("identify", "sources", index),
                f"any value of the cookie {source.cookie.name!r} counts as a session here: the "
                "backend must judge it",
            )


def _network(draft: Draft, book: Book, warnings: Problems) -> None:
    admin = book.admin_listener
    if admin is not None and not _is_loopback(admin.host):
        warnings.add(
            draft.at("listeners", "admin"),
            f"the admin listener is open to others than this machine ({admin.host})",
        )
    for index, network in enumerate(book.trusted_proxies):
        if network.prefixlen == 0:
            warnings.add(
                draft.at("trusted_proxies", index),
                f"{network} trusts everybody: any caller may invent its address",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _upstreams(draft: Draft, book: Book, warnings: Problems) -> None:
    for name, upstream in book.upstreams.items():
        path: Where = ("upstreams", name, "tls")
        if upstream.scheme == "http" and draft.has(*path):
            warnings.add(draft.key_at(*path), "`tls:` has no effect on an http URL")
        elif upstream.scheme == "https" and not upstream.verify_tls:
            warnings.add(draft.at(*path), f"the certificate of {name!r} is not verified")


def _limits(draft: Draft, warnings: Problems) -> None:
    """Two limits of one name in one answer: a caller could not tell them apart."""
    config = draft.config
    scopes: list[tuple[Where, Mapping[str, LimitModel]]] = [(("limits",), config.limits)]
    scopes += [(("plans", name, "limits"), plan.limits) for name, plan in config.plans.items()]
    scopes += [(("routes", i, "limits"), route.limits) for i, route in enumerate(config.routes)]
    first: dict[str, Where] = {}
    for path, limits in scopes:
        for name in limits:
            where: Where = (*path, name)
            earlier = first.setdefault(name, where)
            if earlier[0] != where[0]:
                warnings.add(
                    draft.key_at(*where),
                    f"the limit {name!r} is also at {draft.key_at(*earlier)}: both would be "
                    "reported under one name",
                )
