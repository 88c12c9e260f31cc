"""Upstreams, routes and what no route names -> the book's routes and their table.

Names are resolved to objects, templates parsed, conflicts found. A route that
could never be reached is a mistake, not a curiosity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from gateway.config.compile_limits import compile_limits
from gateway.config.compile_measures import check_measures
from gateway.config.compile_prices import PriceModel, compile_price
from gateway.config.draft import Draft, Where
from gateway.config.models_routes import (
    CallerModel,
    HeaderEditsModel,
    RouteModel,
    UnmatchedModel,
    UpstreamModel,
)
from gateway.config.problems import Mark, quoted
from gateway.config.references import unnamed_route
from gateway.core.book import CallerKind, HeaderEdits, Route, Upstream, UsageApi
from gateway.core.pricing import Price
from gateway.core.routes import Pattern, TemplateError, find_conflicts, parse_template

UNMATCHED_NAME = "unmatched"
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def compile_upstreams(draft: Draft) -> dict[str, Upstream]:
    return {name: _upstream(name, model) for name, model in draft.config.upstreams.items()}


def _upstream(name: str, model: UpstreamModel) -> Upstream:
    total_us = model.total_timeout
    return Upstream(
        name=name,
        scheme="https" if model.url.scheme == "https" else "http",
        host=model.url.host,
        port=model.url.port,
        base_path=model.url.base_path,
        connect_timeout_s=model.connect_timeout / 1e6,
        read_timeout_s=model.read_timeout / 1e6,
        total_timeout_s=None if total_us is None else total_us / 1e6,
        pool_size=model.pool_size,
        max_connections=model.max_connections,
        verify_tls=model.tls.verify,
        ca_file=model.tls.ca_file,
        host_header=model.host,
        request_headers=_edits(model.request_headers),
        response_headers=_edits(model.response_headers),
    )


def _edits(model: HeaderEditsModel) -> HeaderEdits:
    return HeaderEdits(
        frozenset(name.lower().encode() for name in model.remove),
        tuple((name.encode(), value.encode()) for name, value in model.set.items()),
    )


def compile_routes(draft: Draft, upstreams: Mapping[str, Upstream]) -> dict[int, Route]:
    """The routes by index, each with its first match; those with a mistake may be missing."""
    models = draft.config.routes
    names = _names(draft)
    patterns = _patterns(draft)
    _check_reachable(draft, names, patterns)
    _check_own_paths(draft, patterns)
    compiled = [_route(draft, m, names[index], index, upstreams) for index, m in enumerate(models)]
    return {index: route for index, route in enumerate(compiled) if route is not None}


def each_match(draft: Draft, routes: Mapping[int, Route]) -> tuple[Route, ...]:
    """A route for each of its matches, in order; all of one are alike but for the match."""
    patterns = _patterns(draft)
    return tuple(
        replace(route, methods=pattern.methods, template=pattern.template)
        for index, route in routes.items()
        for (at, _), pattern in patterns.items()
        if at == index
    )


def pattern_of(route: Route) -> Pattern:
    """The conditions of a route, for the table."""
    return Pattern(route.methods, route.host, route.template, route.headers)


def _names(draft: Draft) -> list[str]:
    """Given names, checked to be unique; the others are made from `match`."""
    models = draft.config.routes
    draft.each_once(
        "route name",
        ((m.name, ("routes", i, "name")) for i, m in enumerate(models) if m.name is not None),
    )
    taken = {m.name for m in models if m.name is not None} | {UNMATCHED_NAME}
    names = []
    for index, model in enumerate(models):
        if model.name is not None:
            if model.name == UNMATCHED_NAME:
                path: Where = ("routes", index, "name")
                draft.expected(path, "another name", "it is what no route names")
            names.append(model.name)
            continue
        stem = unnamed_route(model.match[0].text, model.host)
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem} #{count}"
        taken.add(name)
        names.append(name)
    return names


# A route, and which of its matches.
Spot = tuple[int, int]


def _match_at(draft: Draft, spot: Spot) -> Where:
    """Where a match of a route stands: alone, or in a list."""
    path: Where = ("routes", spot[0], "match")
    return (*path, spot[1]) if draft.has(*path, spot[1]) else path


def _patterns(draft: Draft) -> dict[Spot, Pattern]:
    """The conditions of the routes whose templates can be compiled."""
    patterns = {}
    for index, model in enumerate(draft.config.routes):
        headers = tuple((name.lower(), value) for name, value in model.headers.items())
        for number, match in enumerate(model.match):
            spot = (index, number)
            try:
                parse_template(match.template)
            except TemplateError as exc:
                mark = draft.at(*_match_at(draft, spot))
                place = _inside(draft, mark, match.text, match.template_at + exc.offset)
                found = quoted(match.template)
                draft.problems.expected(place, "a path template", found, exc.message)
                continue
            patterns[spot] = Pattern(match.methods, model.host, match.template, headers)
    return patterns


def _route(
    draft: Draft, model: RouteModel, name: str, index: int, upstreams: Mapping[str, Upstream]
) -> Route | None:
    path: Where = ("routes", index)
    upstream = upstreams.get(model.upstream)  # None: said by check_references
    prices = _prices(draft, model, model.callers, path, name)
    check_measures(draft, model, prices, path)
    limits = compile_limits(draft, model.limits, (*path, "limits"), f"route/{name}")
    parameter, project = _project(draft, model, path)
    if upstream is None:
        return None
    return Route(
        name=name,
        operation=model.operation or name,
        upstream=upstream,
        prices=prices,
        host=model.host,
        headers=tuple((header.lower(), value) for header, value in model.headers.items()),
        limits=limits,
        max_body_bytes=_max_body(draft, model.max_body),
        project_param=parameter,
        pass_credential=model.pass_credential,
        source=str(draft.at(*path)),
        project=project,
        requires=tuple(model.requires.items()),
        send_settings=tuple(model.send.items()),
        inspect_max_bytes=model.inspect_max,
        drain_timeout_s=model.drain_timeout / 1e6,
        interval_s=model.interval / 1e6,
    )


def _max_body(draft: Draft, own: int | None) -> int | None:
    """The route's own limit, else the server's; 0 lets no body in."""
    return draft.config.server.max_body if own is None else own


def _inside(draft: Draft, mark: Mark, text: str, offset: int) -> Mark:
    """The place of a character inside a scalar, where it stands as it was written."""
    lines = draft.texts.get(mark.file, "").split("\n")
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    for skip in (0, 1):  # plain, or after a quotation mark
        if line.startswith(text, mark.column - 1 + skip):
            return mark._replace(column=mark.column + skip + offset)
    return mark


def _prices(
    draft: Draft,
    model: RouteModel | UnmatchedModel,
    callers: Mapping[CallerKind, CallerModel],
    path: Where,
    name: str,
) -> dict[str, Price]:
    """A price for each kind of caller that is let in."""

    def compiled(price: PriceModel, where: Where, rule_id: str) -> Price:
        return compile_price(draft, price, where, model, rule_id)

    common = None if model.price is None else compiled(model.price, (*path, "price"), name)
    prices: dict[str, Price] = {}
    for kind, caller in callers.items():
        if caller.price is not None:
            where: Where = (*path, "callers", kind, "price")
            prices[kind] = compiled(caller.price, where, f"{name}/{kind}")
        elif common is not None:
            prices[kind] = common
        else:
            hint = "traffic without a price is a decision"
            draft.absent(path, f"`price: free` or amounts{_for(kind, callers)}", hint)
    return prices


def _for(kind: str, callers: Mapping[CallerKind, CallerModel]) -> str:
    return f" for {kind}" if len(callers) > 1 else ""


def _project(draft: Draft, model: RouteModel, path: Where) -> tuple[str | None, str]:
    """Template parameter and fixed project; at most one of them is given."""
    if model.project is None:
        return None, ""
    where: Where = (*path, "project")
    found = _PARAMETER.fullmatch(model.project)
    if found is None:
        if "{" in model.project or "}" in model.project:
            draft.expected(where, "one {parameter} of the path, or a text without braces")
        return None, model.project
    parameters = _PARAMETER.findall(model.match[0].template)
    if any(found[1] not in _PARAMETER.findall(match.template) for match in model.match):
        names = [f"{{{name}}}" for name in parameters]
        hint = draft.problems.nearest(model.project, names) or "the path has none"
        draft.expected(where, "a {parameter} of the path", hint)
    return found[1], ""


def _check_reachable(draft: Draft, names: list[str], patterns: dict[Spot, Pattern]) -> None:
    """Routes that can never be reached, with the place of the one that takes all."""
    places = list(patterns)
    for conflict in find_conflicts(list(patterns.values())):
        by, _ = places[conflict.by_index]
        hint = f"{conflict.kind}: {conflict.message}; {names[by]!r} at {draft.at('routes', by)}"
        path = _match_at(draft, places[conflict.index])
        draft.expected(path, "a route that can be reached", hint)


def _check_own_paths(draft: Draft, patterns: dict[Spot, Pattern]) -> None:
    """Routes that our own usage API or a view would answer instead."""
    ours = {shape(path): "usage_api: {path: ...}" for path in own_paths(draft)}
    views = {shape(view.path): "the view's `path:`" for view in draft.config.views}
    for spot, pattern in patterns.items():
        takes_get = not pattern.methods or not pattern.methods.isdisjoint({"GET", "HEAD"})
        key = shape(pattern.template)
        if takes_get and key in ours:
            hint = f"move ours with {ours[key]}"
            draft.expected(_match_at(draft, spot), "a path that is not the usage API's", hint)
        elif takes_get and key in views:
            hint = f"move one of them: {views[key]}"
            draft.expected(_match_at(draft, spot), "a path that no view answers", hint)


def shape(template: str) -> str:
    """A template without the names of its parameters: equal for those that take the same."""
    return re.sub(r"\{[^}.]*(\.\.\.)?\}", r"{\1}", template.rstrip("/"))


def own_paths(draft: Draft) -> tuple[str, ...]:
    """The paths of our usage API."""
    api = usage_api(draft)
    return api.paths if api.enabled else ()


def usage_api(draft: Draft) -> UsageApi:
    """Our own paths on the proxy's listener."""
    model = draft.config.usage_api
    return UsageApi(
        model.enabled,
        model.path,
        model.activity_path or f"{model.path}/activity",
        model.export_path or f"{model.path}/export",
    )


def compile_unmatched(draft: Draft, upstreams: Mapping[str, Upstream]) -> Route | None:
    """The route of what no route names; None when that is refused."""
    model = draft.config.unmatched
    path: Where = ("unmatched",)
    if model.action == "refuse":
        for key in UnmatchedModel.model_fields:
            if key != "action" and draft.has(*path, key):
                mark = draft.key_at(*path, key)
                draft.problems.expected(mark, "nothing beside `action: refuse`", f"`{key}:`")
        return None
    upstream = None
    if model.upstream is None:
        draft.absent(path, "`upstream:`", "action: pass needs one")
    else:
        upstream = upstreams.get(model.upstream)
    prices = _prices(draft, model, _callers(model), path, UNMATCHED_NAME)
    check_measures(draft, model, prices, path)
    if upstream is None:
        return None
    return Route(
        name=UNMATCHED_NAME,
        operation=model.operation or "Other",
        upstream=upstream,
        prices=prices,
        max_body_bytes=_max_body(draft, model.max_body),
        source=str(draft.at(*path)),
        inspect_max_bytes=model.inspect_max,
        drain_timeout_s=model.drain_timeout / 1e6,
        interval_s=model.interval / 1e6,
    )


def _callers(model: UnmatchedModel) -> Mapping[CallerKind, CallerModel]:
    return model.callers if model.callers is not None else {"api_key": CallerModel()}
