"""Figures of prices: does what they name exist, and do they say what is asked there?

A figure that is counted must be a number, one that is looked up must be a text.
What is declared (settings, plans, caller kinds, parameters of the path) has to
know the names and values that a price compares with. Marks are found by
searching the document below a place, since a figure may be a key or a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from gateway.config.draft import Draft, Where
from gateway.config.nodes import Items, Step, Value, locate
from gateway.config.nodes import Mapping as Node
from gateway.config.problems import Mark, quoted, shown
from gateway.config.quantities import parse_amount
from gateway.core.book import CallerKind
from gateway.core.figures import COUNTED, Figure, parse_figure
from gateway.core.pricing import Condition
from gateway.core.pricing import Test as Trial

Wanted = Callable[[Step, Value], bool]
ConditionModel = Mapping[Figure, tuple[frozenset[str], frozenset[str]]]

_NO_NUMBER = frozenset(("request.method", "caller.kind", "account.plan"))
_BYTES = frozenset(("request.bytes", "answer.bytes", "socket.bytes", "bytes"))
_SECONDS = frozenset(("open.seconds",))


def compile_condition(draft: Draft, model: ConditionModel, path: Where) -> Condition:
    """All tests of a mapping."""
    for figure, (any_of, none_of) in model.items():
        check_text(draft, figure, any_of | none_of, path)
    return condition_of(model)


def condition_of(model: ConditionModel) -> Condition:
    """The same where the names are checked elsewhere."""
    return tuple(Trial(figure, any_of, none_of) for figure, (any_of, none_of) in model.items())


def check_number(draft: Draft, figure: Figure, path: Where) -> None:
    """A figure that is counted: one that can be a number."""
    texts = _declared(draft, figure) if figure.source == "account.setting" else None
    if figure.source in _NO_NUMBER or (texts is not None and not all(map(_is_number, texts))):
        wanted = "a figure that is a number, such as request.json:steps or answer.bytes"
        draft.problems.expected(place_of(draft, path, figure), wanted, quoted(str(figure)))


def check_text(draft: Draft, figure: Figure, texts: Iterable[str], path: Where) -> None:
    """A figure that is looked up, and the texts that it is compared with."""
    if figure.source in COUNTED:
        wanted = "a figure that is a text, such as request.json:model"
        hint = "how much of something is counted in `of:`"
        draft.problems.expected(place_of(draft, path, figure), wanted, quoted(str(figure)), hint)
        return
    known = _declared(draft, figure)
    for text in sorted(texts) if known is not None else ():
        if text not in (known or ()):
            hint = draft.problems.nearest(text, known or ())
            mark = _find(draft, path, _mentions(text))
            draft.problems.expected(mark, f"a value of {figure}", quoted(text), hint)


def check_names(
    draft: Draft, figures: Iterable[Figure], parameters: Iterable[str], path: Where
) -> None:
    """Settings and parameters of the path that figures name are there."""
    known = {"account.setting": list(draft.config.settings), "request.path": list(parameters)}
    kinds = {"account.setting": "a setting", "request.path": "a {parameter} of the path"}
    for figure in sorted(figures, key=str):
        names = known.get(figure.source)
        if names is not None and figure.name not in names:
            mark = place_of(draft, path, figure)
            draft.problems.unknown(mark, kinds[figure.source], figure.name, names)


def check_unit(draft: Draft, figures: Iterable[Figure], path: Where) -> None:
    """`1GB` is for bytes and `1h` for seconds, of figures that are counted here."""
    found = locate(draft.root, path)
    if found.missing is not None or not isinstance(found.value, str):
        return
    last = found.value[-1:]
    if last not in ("B", "s", "m", "h", "d"):
        return
    fitting = _BYTES if last == "B" else _SECONDS
    for figure in figures:
        if figure.source in COUNTED and figure.source not in fitting:
            wanted = "a number"
            if figure.source in _BYTES:
                wanted = "a number or a size such as 1GB"
            elif figure.source in _SECONDS:
                wanted = "a number or a duration such as 1h"
            hint = f"so many {figure} are counted"
            draft.problems.expected(found.mark, wanted, shown(found.value), hint)


def place_of(draft: Draft, path: Where, figure: Figure) -> Mark:
    """Where a figure is written below a place."""
    return _find(
        draft, path, lambda key, value: _is_figure(key, figure) or _is_figure(value, figure)
    )


def place_of_entry(draft: Draft, path: Where, name: str, entry: str) -> Mark:
    """Where `name: entry` is written below a place."""
    return _find(draft, path, lambda key, value: key == name and value == entry)


def place_of_text(draft: Draft, path: Where, text: str) -> Mark:
    """Where a text is written below a place, as a value."""
    return _find(draft, path, lambda key, value: value == text)


def _find(draft: Draft, path: Where, wanted: Wanted) -> Mark:
    found = locate(draft.root, path)
    if found.missing is None and path and wanted(path[-1], found.value):
        return found.mark
    return _search(found.value, wanted) or found.mark


def _search(value: Value, wanted: Wanted) -> Mark | None:
    """The first entry that is wanted, depth first; a key's own mark where it is the key."""
    entries: list[tuple[Step, Value, Mark]] = []
    if isinstance(value, Node):
        entries = [
            (key, entry, value.keys_at[key] if wanted(key, None) else value.values_at[key])
            for key, entry in value.items()
        ]
    elif isinstance(value, Items):
        entries = [
            (index, entry, at)
            for index, (entry, at) in enumerate(zip(value, value.items_at, strict=True))
        ]
    for step, entry, mark in entries:
        if wanted(step, entry):
            return mark
        inner = _search(entry, wanted)
        if inner is not None:
            return inner
    return None


def _mentions(text: str) -> Wanted:
    return lambda key, value: text in (key, value)


def _is_figure(value: Step | Value, figure: Figure) -> bool:
    if not isinstance(value, str) or not value.startswith(figure.source):
        return False
    try:
        return parse_figure(value) == figure
    except ValueError:
        return False


def _declared(draft: Draft, figure: Figure) -> list[str] | None:
    """The texts that a figure can be; None where that is not declared."""
    if figure.source == "account.plan":
        return list(draft.config.plans)
    if figure.source == "caller.kind":
        return list(get_args(CallerKind))
    setting = draft.config.settings.get(figure.name)
    return setting.values if figure.source == "account.setting" and setting else None


def _is_number(text: str) -> bool:
    try:
        parse_amount(text)
    except ValueError:
        return False
    return True
