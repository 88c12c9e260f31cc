"""Draft -> Book: the one place that puts the compiled parts together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping

from gateway.config.compile_access import (
    compile_accounts,
    compile_identify,
    compile_keys,
    compile_members,
    compile_operators,
)
from gateway.config.compile_limits import compile_limits, compile_meters
from gateway.config.compile_plans import compile_plans, compile_settings
from gateway.config.compile_prices import check_counters
from gateway.config.compile_routes import (
    compile_routes,
    compile_unmatched,
    compile_upstreams,
    each_match,
    pattern_of,
    usage_api,
)
from gateway.config.compile_views import compile_views
from gateway.config.draft import Draft, Where
from gateway.config.environment import read_secret
from gateway.config.fields import parse_database_url, parse_state_url
from gateway.config.models import ListenerModel, RetentionModel
from gateway.config.problems import Expected
from gateway.config.sources import Document
from gateway.core.book import (
    STATEMENTS,
    Archive,
    Book,
    ErrorBody,
    JournalSettings,
    Listener,
    ResponseHeaders,
    Retention,
    Route,
    ServerLimits,
    StateSettings,
    StoreSettings,
    TlsFiles,
)
from gateway.core.pricing import Price
from gateway.core.refusals import KINDS
from gateway.core.routes import RouteTable
from gateway.core.state_url import read_state_url

# Sections that need a restart, and that each machine may have its own of.
MACHINE = frozenset({"listeners", "data_dir", "journal", "store", "state", "workers"})
CLUSTER_GROUPS = 16  # a few for each node, so that a further node has some to take over


def compile_book(draft: Draft, version: str, rules_version: str) -> Book | None:
    """The book of a draft; None when anything was wrong."""
    config = draft.config
    upstreams = compile_upstreams(draft)
    plans = compile_plans(draft)
    settings = compile_settings(draft)
    operators = compile_operators(draft)
    accounts = compile_accounts(draft)
    routes = compile_routes(draft, upstreams)
    unmatched = compile_unmatched(draft, upstreams)
    check_counters(draft, _priced(draft, routes, unmatched))
    views = compile_views(draft)
    limits = compile_limits(draft, config.limits, ("limits",), "all")
    identify = compile_identify(draft)
    keys = compile_keys(draft)
    _check_names_once(draft)
    _check_listeners(draft)
    errors = _errors(draft)
    journal = _journal(draft)
    store = _store(draft)
    state = _state(draft, store)
    _check_workers(draft)
    if len(draft.problems):
        return None
    admin = config.listeners.admin
    matched = each_match(draft, routes)
    return Book(
        version=version,
        meters=compile_meters(draft),
        upstreams=upstreams,
        routes=matched,
        table=RouteTable.compile((pattern_of(route), route) for route in matched),
        unmatched=unmatched,
        plans=plans,
        settings=settings,
        roles=tuple(config.roles),
        members=compile_members(draft),
        views=views,
        operators=operators,
        money_rounding=config.money.rounding,
        default_plan=config.default_plan,
        accounts=accounts,
        keys=keys,
        limits=limits,
        identify=identify,
        errors=errors,
        trusted_proxies=tuple(config.trusted_proxies),
        proxy_listener=_listener(config.listeners.proxy),
        admin_listener=None if admin is None else _listener(admin),
        server=_server(draft),
        data_dir=config.data_dir,
        journal=journal,
        store=store,
        state=state,
        usage_api=usage_api(draft),
        response_headers=ResponseHeaders(**config.response_headers.model_dump()),
        workers=config.workers,
        rules_version=rules_version,
    )


def version_of(document: Document) -> str:
    """12 hex digits over all files and the variables that were filled in."""
    digest = hashlib.sha256()
    for text in (*document.texts.values(), *document.substituted):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(encoded) + encoded)
    return digest.hexdigest()[:12]


def rules_version_of(document: Document) -> str:
    """12 hex digits over the sections that a reload can change, with the variables filled in."""
    rules = [entry for entry in sorted(document.root.items()) if entry[0] not in MACHINE]
    return hashlib.sha256(json.dumps(rules, default=str).encode()).hexdigest()[:12]


def _listener(model: ListenerModel) -> Listener:
    tls = None if model.tls is None else TlsFiles(model.tls.cert_file, model.tls.key_file)
    return Listener(model.address.host, model.address.port, tls)


def _server(draft: Draft) -> ServerLimits:
    model = draft.config.server
    return ServerLimits(
        head_timeout_s=model.head_timeout / 1e6,
        body_timeout_s=model.body_timeout / 1e6,
        write_timeout_s=model.write_timeout / 1e6,
        keepalive_timeout_s=model.keepalive_timeout / 1e6,
        max_line_bytes=model.max_line,
        max_header_bytes=model.max_header,
        max_headers=model.max_headers,
        max_body_bytes=model.max_body,
        max_connections=model.max_connections,
        max_connections_per_address=model.max_connections_per_address,
        drain_timeout_s=model.drain_timeout / 1e6,
    )


def _journal(draft: Draft) -> JournalSettings:
    config = draft.config
    model = config.journal
    if model.segment_size * 2 > model.max_size:
        key = "segment_size" if draft.has("journal", "segment_size") else "max_size"
        mark = draft.at("journal", key)
        found = f"{model.segment_size} and {model.max_size} bytes"
        wanted = "a segment_size of at most half the max_size"
        draft.problems.expected(mark, wanted, found)
    return JournalSettings(
        dir=model.dir or os.path.join(config.data_dir, "journal"),
        sync=model.sync,
        sync_interval_s=model.sync_interval / 1e6,
        segment_bytes=model.segment_size,
        max_bytes=model.max_size,
        on_full=model.on_full,
    )


def _store(draft: Draft) -> StoreSettings:
    model = draft.config.store
    path = model.path or os.path.join(draft.config.data_dir, "tallygate.db")
    url = _secret_url(draft, "store", ("path", "url", "url_file"), parse_database_url)
    return StoreSettings(path, url, _retention(model.retention))


def _retention(model: RetentionModel | None) -> Retention | None:
    if model is None:
        return None
    archive = None if model.archive is None else Archive(model.archive.dir, model.archive.format)
    return Retention(model.events, archive)


def _state(draft: Draft, store: StoreSettings) -> StateSettings:
    model = draft.config.state
    url = _secret_url(draft, "state", ("url", "url_file"), parse_state_url)
    if url and not store.url:
        key = "url" if model.url is not None else "url_file"
        mark = draft.key_at("state", key)
        hint = "what gateways share needs a store that they share"
        draft.problems.expected(mark, "store.url beside it", "none", hint)
    is_cluster = bool(url) and read_state_url(url).kind == "cluster"
    groups = model.groups or (CLUSTER_GROUPS if is_cluster else 1)
    timeout_s = model.timeout / 1_000_000
    return StateSettings(url, timeout_s, model.lease, model.when_away, model.prefix, groups)


def _check_workers(draft: Draft) -> None:
    """Several processes decide as one only on what they share."""
    if draft.config.workers == 1:
        return
    lacking = [
        f"{section}.url"
        for section in ("store", "state")
        if not (draft.has(section, "url") or draft.has(section, "url_file"))
    ]
    if lacking:
        found = f"{draft.config.workers} workers without {' and '.join(lacking)}"
        hint = "each worker is a process, and balances are in a process unless they are shared"
        mark = draft.at("workers")
        draft.problems.expected(mark, "store.url and state.url beside several workers", found, hint)


def _secret_url(
    draft: Draft, section: str, keys: tuple[str, ...], parse: Callable[[str], str]
) -> str:
    """The URL that a section names itself or by a file; "" where it names none."""
    model = getattr(draft.config, section)
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) > 1:
        expected = f"one of {', '.join(keys[:-1])} and {keys[-1]}"
        draft.problems.expected(draft.key_at(section, given[1]), expected, " and ".join(given))
        return ""
    try:
        if model.url is not None:
            return parse(model.url)
        if model.url_file is not None:
            return parse(read_secret(model.url_file).decode())
    except (Expected, UnicodeDecodeError) as exc:
        wrong = exc if isinstance(exc, Expected) else Expected("a file of UTF-8 text")
        draft.refuse((section, given[0]), wrong)
    return ""


def _priced(
    draft: Draft, routes: Mapping[int, Route], unmatched: Route | None
) -> Iterator[tuple[Where, Price]]:
    """Every price with its place."""
    places: list[tuple[Where, Route]] = [(("routes", i), route) for i, route in routes.items()]
    if unmatched is not None:
        places.append((("unmatched",), unmatched))
    for path, route in places:
        for kind, price in route.prices.items():
            own: Where = (*path, "callers", kind, "price")
            yield own if draft.has(*own) else (*path, "price"), price


def _check_names_once(draft: Draft) -> None:
    api = usage_api(draft)
    keys = ("path", "activity_path", "export_path")
    named = ((path, ("usage_api", key)) for path, key in zip(api.paths, keys, strict=False))
    draft.each_once("path", named)
    if len(set(api.paths)) < len(set(api.paths[:3])) + len(STATEMENTS):
        below = ", ".join(f"{api.summary_path}/{name}" for name in STATEMENTS)
        draft.expected(("usage_api",), "other paths than those of its statements", below)
    if len(set(draft.config.roles)) < len(draft.config.roles) or not draft.config.roles:
        draft.expected(("roles",), "at least one role, each once")


def _check_listeners(draft: Draft) -> None:
    listeners = draft.config.listeners
    admin = listeners.admin
    if admin is not None and admin.address.port and admin.address == listeners.proxy.address:
        draft.expected(("listeners", "admin"), "another address than the proxy's")


def _errors(draft: Draft) -> dict[str, ErrorBody]:
    errors = {}
    for code, model in draft.config.errors.items():
        if code not in KINDS:
            mark = draft.key_at("errors", code)
            draft.problems.unknown(mark, "a refusal code", code, KINDS)
        content_type = model.content_type or model.body.content_type
        errors[code] = ErrorBody(model.status, content_type, model.body.text)
    return errors
