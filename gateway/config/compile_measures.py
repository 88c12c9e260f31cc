"""What a route says beside its price: when it is charged, what it requires and sends.

Only checks: whether the settings, values, figures and names are there.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.compile_figures import check_names, compile_condition
from gateway.config.draft import Draft, Where
from gateway.config.fields import parse_header_value
from gateway.config.models_routes import MeasureModel, RouteModel
from gateway.config.problems import Expected, quoted
from gateway.core.outcomes import OUTCOMES
from gateway.core.pricing import Price
from gateway.core.routes import TemplateError, parse_template

# What `requests.OPERATION.` of a view can end in, beside the outcomes.
TOTALS = frozenset(("total", "blocked"))


def check_measures(
    draft: Draft, model: MeasureModel, prices: Mapping[str, Price], path: Where
) -> None:
    """What `charge_when`, `outcomes` and the figures of all prices name is there."""
    compile_condition(draft, model.charge_when, (*path, "charge_when"))
    for name, condition in model.outcomes.items():
        where: Where = (*path, "outcomes", name)
        compile_condition(draft, condition, where)
        if name in OUTCOMES | TOTALS:
            mark = draft.key_at(*where)
            draft.problems.expected(mark, "a name that no other outcome has", quoted(name))
        if not condition:
            draft.expected(where, "a condition", "without one nothing would ever be charged")
    figures = {figure for price in prices.values() for figure in price.figures()}
    matches = model.match if isinstance(model, RouteModel) else []
    each = [set(_parameters(match.template)) for match in matches]
    check_names(draft, figures, set.intersection(*each) if each else (), path)
    if isinstance(model, RouteModel):
        _check_requires(draft, model, path)
        _check_send(draft, model, path)


def _parameters(template: str) -> list[str]:
    try:
        segments = parse_template(template)
    except TemplateError:  # said where the template is compiled
        return []
    return [segment.text for segment in segments if segment.kind != "literal"]


def _check_requires(draft: Draft, model: RouteModel, path: Where) -> None:
    settings = draft.config.settings
    for name, value in model.requires.items():
        where: Where = (*path, "requires", name)
        known = settings.get(name)
        if known is None:
            draft.problems.unknown(draft.key_at(*where), "a setting", name, settings)
        elif value not in known.values:
            hint = draft.problems.nearest(value, known.values)
            draft.problems.expected(draft.at(*where), f"a value of {name}", quoted(value), hint)


def _check_send(draft: Draft, model: RouteModel, path: Where) -> None:
    """Headers are each set once, with values that a header can hold."""
    forward = draft.config.identify.forward
    places: list[tuple[str, Where]] = [
        (header, ("identify", "forward", what)) for what, header in forward.items()
    ]
    places += [(header, (*path, "send", header)) for header in model.send]
    # Backends fold '-', '_' and '.' in header names: such twins are one header.
    folded = ((h.lower().replace("_", "-").replace(".", "-"), where) for h, where in places)
    draft.each_once("header", folded)
    for header, name in model.send.items():
        where: Where = (*path, "send", header)
        known = draft.config.settings.get(name)
        if known is None:
            draft.problems.unknown(draft.at(*where), "a setting", name, draft.config.settings)
            continue
        for value in known.values:
            try:
                parse_header_value(value)
            except Expected:
                wanted = "a setting whose values can stand in a header"
                draft.problems.expected(draft.at(*where), wanted, quoted(value))
