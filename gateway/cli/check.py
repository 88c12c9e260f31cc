"""`tallygate check`, `schema` and `routes`: is the configuration what was meant?

Each reads a configuration and changes nothing; none needs a running gateway.
Problems go to stderr, answers to stdout.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway.config import ConfigError, Loaded, load

if TYPE_CHECKING:
    from gateway.config.explain import Explanation
    from gateway.core.book import Book, Route

NAMES_MAX = 5  # of free routes in the summary; `routes` lists them all
_FILE = click.Path(path_type=Path)


@click.command(short_help="Report every mistake of a configuration.")
@click.argument("file", type=_FILE, default=Path("config/gateway.yaml"), envvar="TALLYGATE_CONFIG")
@click.option("--config", type=_FILE, help="The same as FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def check(file: Path, config: Path | None, as_json: bool) -> None:
    """Report every mistake of FILE at once, as file:line:column.

    Exit codes: 0 it can be served (warnings are printed), 1 it cannot.
    """
    file = config or file
    try:
        loaded = load(file, os.environ)
    except ConfigError as exc:
        _fail(file, exc, as_json=as_json)
    if as_json:
        click.echo(json.dumps(_summary_json(loaded), indent=2))
        return
    for warning in loaded.warnings:
        click.echo(f"{warning.file}:{warning.line}:{warning.column}: warning: {warning.message}")
    click.echo(f"{file}: ok, {summary(loaded.book)}")


@click.command(short_help="Print the configuration's JSON Schema.")
def schema() -> None:
    """Print the JSON Schema of the configuration, for completion and checks in editors."""
    from gateway.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command(short_help="Show the routes; explain which one matches.")
@click.option(
    "--config",
    type=_FILE,
    default=Path("config/gateway.yaml"),
    envvar="TALLYGATE_CONFIG",
    show_default=True,
    help="The configuration file.",
)
@click.option(
    "--explain", "request", nargs=2, metavar="METHOD PATH", help="Which route such a request takes."
)
@click.option("--host", default="", help="The request's Host, for --explain.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header, for --explain."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def routes(
    config: Path,
    request: tuple[str, str] | None,
    host: str,
    headers: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the routes with their prices, or explain what happens to one request.

    Exit codes: 0 done, 1 the configuration has problems or the request's target is refused.
    """
    try:
        book = load(config, os.environ).book
    except ConfigError as exc:
        _fail(config, exc, as_json=as_json)
    if request is None:
        _list(book, as_json=as_json)
        return
    _explain(book, request, host, headers, as_json=as_json)


def summary(book: Book) -> str:
    """One line: how many routes, which are free, what happens to the rest."""
    free = _free(book)
    names = ", ".join(free[:NAMES_MAX]) + (", …" if len(free) > NAMES_MAX else "")
    count = len({route.name for route in book.routes})
    parts = [
        f"{count} route{'s' * (count != 1)}",
        f"{len(free)} free" + (f" ({names})" * bool(free)),
    ]
    parts.append(f"unmatched: {_unmatched_text(book)}")
    return ", ".join([*parts, f"version {book.version}"])


def _free(book: Book) -> list[str]:
    """The names of routes that are free for some caller; a route may have several matches."""
    names = [route.name for route in book.routes if any(p.is_free for p in route.prices.values())]
    return list(dict.fromkeys(names))


def _unmatched_text(book: Book) -> str:
    from gateway.config.explain import prices_text

    if book.unmatched is None:
        return "refused (404)"
    return f"passed to {book.unmatched.upstream.name} ({prices_text(book.unmatched, book.meters)})"


def _fail(file: Path, exc: ConfigError, *, as_json: bool) -> NoReturn:
    """Print the problems and end with 1."""
    if as_json:
        problems = [problem._asdict() for problem in exc.problems]
        click.echo(json.dumps({"ok": False, "problems": problems}, indent=2))
    else:
        for problem in exc.problems:
            click.echo(problem, err=True)
        count = len(exc.problems)
        click.echo(f"{file}: {count} problem{'s' * (count != 1)}", err=True)
    sys.exit(1)


def _summary_json(loaded: Loaded) -> dict[str, Any]:
    book = loaded.book
    return {
        "ok": True,
        "version": book.version,
        "routes": len({route.name for route in book.routes}),
        "free": _free(book),
        "unmatched": "refuse" if book.unmatched is None else "pass",
        "warnings": [warning._asdict() for warning in loaded.warnings],
        "sources": [str(path) for path in loaded.sources],
    }


def _list(book: Book, *, as_json: bool) -> None:
    everything = [*book.routes, *([book.unmatched] if book.unmatched is not None else [])]
    if as_json:
        click.echo(json.dumps([_route_json(route, book) for route in everything], indent=2))
        return
    from gateway.config.explain import prices_text

    head = ("NAME", "METHODS", "PATH", "UPSTREAM", "PRICE")
    rows = [
        (
            route.name,
            _methods_text(route),
            f"{route.host or ''}{route.template}",
            route.upstream.name,
            prices_text(route, book.meters),
        )
        for route in everything
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _methods_text(route: Route) -> str:
    return ",".join(sorted(route.methods)) or "*"


def _route_json(route: Route, book: Book) -> dict[str, Any]:
    from gateway.config.words import price_text

    return {
        "name": route.name,
        "operation": route.operation,
        "methods": sorted(route.methods),
        "host": route.host,
        "template": route.template,
        "headers": dict(route.headers),
        "upstream": route.upstream.name,
        "prices": {kind: price_text(price, book.meters) for kind, price in route.prices.items()},
        "limits": [limit.id for limit in route.limits],
        "source": route.source,
    }


def _explain(
    book: Book, request: tuple[str, str], host: str, headers: tuple[str, ...], *, as_json: bool
) -> None:
    from gateway.config.explain import explain
    from gateway.core.malformed import Malformed

    method, target = request
    name, _, port = host.rpartition(":")
    bare_host = (name if port.isdigit() and name else host).lower()
    try:
        found = explain(book, method, target, bare_host, _headers(headers))
    except Malformed as exc:
        click.echo(f"{method} {target}: refused ({exc.status}): {exc.reason}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(_explanation_json(found, book), indent=2))
        return
    for line in _explanation_lines(method, target, found, book):
        click.echo(line)


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    """`Name:value` texts by lower-case name. Raises click.BadParameter."""
    headers = {}
    for text in given:
        name, mark, value = text.partition(":")
        if not mark or not name.strip():
            raise click.BadParameter(f"expected NAME:VALUE, found {text!r}", param_hint="--header")
        headers[name.strip().lower()] = value.strip()
    return headers


def _explanation_lines(method: str, target: str, found: Explanation, book: Book) -> list[str]:
    """What happens to a request, as text: the decision first, then why."""
    if found.own and method in ("GET", "HEAD"):
        return [f"{method} {target} -> the gateway's own {found.own}, never charged"]
    route = found.route
    if route is None:
        verdict = "refused (404 route_not_found)"
        if found.allowed:
            verdict = (
                f"refused (405 method_not_allowed; allowed: {', '.join(sorted(found.allowed))})"
            )
        lines = [f"{method} {target} -> {verdict}"]
    else:
        lines = [f"{method} {target} -> route {route.name!r} ({route.source})"]
        lines += _why_lines(found, route)
        lines += _cost_lines(found, route, book)
    others = [candidate for candidate in found.candidates if candidate.route is not route]
    for candidate in others:
        pattern = f"{_methods_text(candidate.route)} {candidate.route.template}"
        why = "; ".join(candidate.failed) or "another one is nearer or stands earlier"
        lines.append(f"  not {candidate.route.name!r} ({candidate.kind}: {pattern}): {why}")
    if not found.candidates:
        lines.append("  no route has this path")
    return lines


def _why_lines(found: Explanation, route: Route) -> list[str]:
    if found.by_default:
        return ["  because:    no route matches, and unmatched has action: pass"]
    from gateway.config.explain import kind_of

    reasons = [f"{kind_of(route)} path {route.template}", f"method {_methods_text(route)}"]
    if route.host is not None:
        reasons.append(f"host {route.host}")
    reasons += [f"header {n}" + ("" if v is None else f": {v}") for n, v in route.headers]
    lines = [f"  because:    {', '.join(reasons)}"]
    if found.parameters:
        shown = ", ".join(f"{name}={value}" for name, value in found.parameters.items())
        lines.append(f"  parameters: {shown}")
    return lines


def _cost_lines(found: Explanation, route: Route, book: Book) -> list[str]:
    from gateway.config.explain import prices_text, upstream_url

    limits = ", ".join(limit.id for limit in (*book.limits, *route.limits))
    project = route.project_param and found.parameters.get(route.project_param)
    lines = [
        f"  operation:  {route.operation}",
        f"  price:      {prices_text(route, book.meters)}",
        f"  limits:     {limits or 'none'}, and those of the account's plan",
        f"  upstream:   {upstream_url(route.upstream, found.target)}",
    ]
    if project or route.project:
        lines.append(f"  project:    {project or route.project}")
    return lines


def _explanation_json(found: Explanation, book: Book) -> dict[str, Any]:
    from gateway.config.explain import upstream_url

    route = found.route
    return {
        "path": found.target.canonical,
        "own": found.own or None,
        "route": None if route is None else _route_json(route, book),
        "by_default": found.by_default,
        "parameters": found.parameters,
        "allowed": sorted(found.allowed),
        "upstream_url": None if route is None else upstream_url(route.upstream, found.target),
        "not": [
            {"route": c.route.name, "kind": c.kind, "failed": list(c.failed)}
            for c in found.candidates
            if c.route is not route
        ],
    }
