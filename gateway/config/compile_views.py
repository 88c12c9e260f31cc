"""Views -> the book's; their paths and the names they use are checked here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gateway.config.compile_figures import place_of_text
from gateway.config.compile_measures import TOTALS
from gateway.config.compile_routes import own_paths, shape
from gateway.config.draft import Draft, Where
from gateway.config.models_views import ViewModel
from gateway.config.problems import Mark
from gateway.config.references import unnamed_route
from gateway.core.book import View
from gateway.core.outcomes import OUTCOMES
from gateway.core.routes import TemplateError, parse_template

# What stands inside {...}: names joined by points, and parameters in inner braces.
_INNER = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_OUTER = re.compile(r"\{((?:[^{}]|\{[A-Za-z0-9_-]+\})+)\}")
PLAIN = ("plan", "account", "title", "month", "time", "seats", "overage", "cap")
METER_FIGURES = ("used", "remaining", "limit", "overage", "in_flight", "period_start", "period_end",
                 "projected", "overage_cost", "title")  # fmt: skip
_HEADS = ("meter", "requests", "setting")


def compile_views(draft: Draft) -> tuple[View, ...]:
    """The views, after the routes whose operations they name."""
    names = _Names(draft)
    views = []
    for index, model in enumerate(draft.config.views):
        path: Where = ("views", index)
        _check_path(draft, model, path)
        _check_parameters(draft, model, path)
        names.check(model, path)
        headers = tuple(model.headers.items())
        draft.each_once("header", ((h.lower(), (*path, "headers", h)) for h, _ in headers))
        parameters = tuple((name, tuple(values)) for name, values in model.parameters.items())
        source = str(draft.at(*path))
        views.append(View(model.path, model.body, headers, parameters, source))
    paths = ((shape(m.path), ("views", i, "path")) for i, m in enumerate(draft.config.views))
    draft.each_once("view", paths)
    return tuple(views)


def _check_path(draft: Draft, model: ViewModel, path: Where) -> None:
    try:
        segments = parse_template(model.path)
    except TemplateError as exc:
        draft.expected((*path, "path"), "GET and a path template", exc.message)
        return
    if any(segment.kind == "rest" for segment in segments):
        draft.expected((*path, "path"), "a path without {rest...}")
    if shape(model.path) in map(shape, own_paths(draft)):
        hint = "move it with usage_api: {path: ...}, or switch it off with enabled: false"
        draft.expected((*path, "path"), "a path that is not the usage API's", hint)


def _check_parameters(draft: Draft, model: ViewModel, path: Where) -> None:
    taken = {*PLAIN, *_INNER.findall(model.path)}
    for name, values in model.parameters.items():
        where: Where = (*path, "parameters", name)
        if not values or len(set(values)) < len(values):
            draft.expected(where, "different values, the default first")
        if name in taken:
            mark = draft.key_at(*where)
            draft.problems.expected(mark, "another name", repr(name), f"{{{name}}} has a meaning")


class _Names:
    """What placeholders may name."""

    def __init__(self, draft: Draft) -> None:
        config = draft.config
        self._draft = draft
        self._operations = {
            route.operation or route.name or unnamed_route(route.match[0].text, route.host)
            for route in config.routes
        }
        if config.unmatched.action == "pass":
            self._operations.add(config.unmatched.operation or "Other")
        declared = {name for route in config.routes for name in route.outcomes}
        self._outcomes = sorted(OUTCOMES | TOTALS | declared | set(config.unmatched.outcomes))
        # A route with a mistake is left out: then nobody knows all operations.
        self._is_complete = not len(draft.problems)

    def check(self, model: ViewModel, path: Where) -> None:
        """Every {name} of the texts is one that there is, whatever the parameters are."""
        for part, value in (("body", model.body), ("headers", model.headers)):
            for text in _texts(value):
                mark = place_of_text(self._draft, (*path, part), text)
                for found in _OUTER.finditer(text):
                    for name in _expanded(model, found[1]):
                        self._check(model, name, found[0], mark)

    def _check(self, model: ViewModel, name: str, written: str, mark: Mark) -> None:
        problems, config = self._draft.problems, self._draft.config

        def known(kind: str, text: str, names: Iterable[str]) -> None:
            entries = list(names)
            if text not in entries:
                hint = problems.nearest(text, entries)
                problems.expected(mark, kind, f"{text!r} in {written}", hint)

        head, _, rest = name.partition(".")
        own = [*model.parameters, *_INNER.findall(model.path)]
        if "{" in name:
            known("a parameter of the view in inner braces", _INNER.findall(name)[0], own)
        elif not rest:
            known("the name of a figure or parameter", name, [*PLAIN, *own])
        elif head == "meter":
            meter, _, figure = rest.rpartition(".")
            known("the name of a meter", meter, config.meters)
            known("a figure of a meter", figure, METER_FIGURES)
        elif head == "requests":
            operation, _, outcome = rest.rpartition(".")
            known("an outcome", outcome, self._outcomes)
            if self._is_complete:
                known("the operation of a route", operation, self._operations)
        elif head == "setting":
            known("the name of a setting", rest, config.settings)
        else:
            known("a figure", head, _HEADS)


def _texts(value: object) -> Iterator[str]:
    """Every text of a body."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _expanded(model: ViewModel, name: str) -> list[str]:
    """The names that a name with inner {parameters} can be."""
    inner = _INNER.search(name)
    if inner is None:
        return [name]
    values = model.parameters.get(inner[1])
    if values is None:
        return [name]
    return [
        result
        for value in values
        for result in _expanded(model, name[: inner.start()] + value + name[inner.end() :])
    ]
