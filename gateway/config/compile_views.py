"""Views -> the book's; their paths and the names they use are checked here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.config.draft import Draft, Where
from gateway.config.models_views import ViewModel
from gateway.config.problems import did_you_mean
from gateway.core.book import View
from gateway.core.routes import TemplateError, parse_template

# What stands inside {...}: names joined by points, and parameters in inner braces.
_INNER = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_OUTER = re.compile(r"\{((?:[^{}]|\{[A-Za-z0-9_-]+\})+)\}")
PLAIN = ("plan", "account", "title", "month", "time", "seats", "overage", "cap")
METER_FIGURES = ("used", "remaining", "limit", "overage", "in_flight", "period_start", "period_end",
                 "projected", "overage_cost", "title")  # fmt: skip


def compile_views(draft: Draft) -> tuple[View, ...]:
    views = []
    for index, model in enumerate(draft.config.views):
        path: Where = ("views", index)
        _check_path(draft, model, path)
        for text in _texts([model.body, list(model.headers.values())]):
            _check_names(draft, model, text, path)
        parameters = tuple((name, tuple(values)) for name, values in model.parameters.items())
        for name, values in parameters:
            if not values or len(set(values)) < len(values):
                draft.expected((*path, "parameters", name), "different values, the default first")
        views.append(
            View(
                model.path,
                model.body,
                tuple(model.headers.items()),
                parameters,
                str(draft.at(*path)),
            )
        )
    paths = ((m.path, ("views", i, "path")) for i, m in enumerate(draft.config.views))
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
    api = draft.config.usage_api
    ours = {api.path, api.activity_path or f"{api.path}/activity"} if api.enabled else set()
    if model.path in ours:
        hint = "move it with usage_api: {path: ...}, or switch it off with enabled: false"
        draft.expected((*path, "path"), "a path that is not the usage API's", hint)


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


def _check_names(draft: Draft, model: ViewModel, text: str, path: Where) -> None:
    """Every {name} of a text is one that there is, whichever value its parameters have."""
    for found in _OUTER.finditer(text):
        for name in _expanded(model, found[1]):
            wrong = _wrong(draft, model, name)
            if wrong is not None:
                expected, hint = wrong
                draft.expected(path, f"{expected}, in {found[0]}", hint)
                break


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


def _wrong(draft: Draft, model: ViewModel, name: str) -> tuple[str, str] | None:
    """What was expected instead of a name, and a hint; None for a right one."""
    head, _, rest = name.partition(".")
    path_names = [n.removesuffix("...") for n in _INNER.findall(model.path)]
    if "{" in name:
        return "parameters of the view in inner braces", ""
    if not rest:
        known = [*PLAIN, *model.parameters, *path_names]
        return None if name in known else ("a known name", did_you_mean(name, known))
    if head == "meter":
        meter, _, figure = rest.rpartition(".")
        meters = draft.config.meters
        if meter not in meters:
            return "meter.NAME.FIGURE with a known meter", did_you_mean(meter, list(meters))
        if figure not in METER_FIGURES:
            return f"one of {', '.join(METER_FIGURES)}", did_you_mean(figure, METER_FIGURES)
        return None
    if head == "requests":
        return None if "." in rest else ("requests.OPERATION.OUTCOME", "")
    if head == "setting":
        settings = draft.config.settings
        return None if rest in settings else ("a known setting", did_you_mean(rest, list(settings)))
    known = ["meter", "requests", "setting"]
    return f"a name that begins with {', '.join(known)}", did_you_mean(head, known)
