"""Document -> models, with every mistake at its line.

A document with mistakes is judged again without the entries that hold them, so
that what depends on the rest (names, prices, templates) is judged in the same
run. Must not know files or the compiled book.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.models import Config
from gateway.config.nodes import Found, Items, Mapping, Path, Step, drop, locate
from gateway.config.problems import Expected, Problems, did_you_mean, quoted, shown

_SECRETS = frozenset({"secret"})  # keys whose values are never shown
_EXPECTED = {  # pydantic's error types -> what was expected
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "list_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "too_short": "at least one entry",
    "too_long": "fewer entries",
}


def validate(root: Mapping, problems: Problems) -> Config | None:
    """The models of a document; parts with mistakes are left out.

    None when nothing could be saved. Takes entries with mistakes out of `root`.
    """
    errors = _errors(root)
    if isinstance(errors, Config):
        return errors
    for error in errors:
        _report(root, error, problems)
    _prune(root, [_present(root, error) for error in errors], problems)
    # What is missing now is missing because of the pruning: its mapping goes too, and so on.
    for length in (None, None, 3, 2, 1):
        errors = _errors(root)
        if isinstance(errors, Config):
            return errors
        _prune(root, [_present(root, error)[:length] for error in errors], problems)
    errors = _errors(root)
    return errors if isinstance(errors, Config) else None


def _errors(root: Mapping) -> Config | list[ErrorDetails]:
    try:
        return Config.model_validate(root)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    for error in errors:
        error["loc"] = _written(root, error["loc"])
    return errors


def _written(root: Mapping, loc: tuple[Step, ...]) -> tuple[Step, ...]:
    """A location as the document has it.

    One entry may stand for a list of one, and a union has tags in <>: neither
    an index nor a tag is written there.
    """
    path: list[Step] = []
    for step in loc:
        found = locate(root, path)
        is_list = found.missing is None and isinstance(found.value, Items)
        if isinstance(step, str) and step[:1] == "<" and step[-1:] == ">" and step != "<<":
            continue
        if step == 0 and isinstance(step, int) and found.missing is None and not is_list:
            continue
        path.append(step)
    return tuple(path)


def _prune(root: Mapping, paths: list[Path], problems: Problems) -> None:
    """Take out the entries at `paths`, items of lists from the last to the first."""
    unique = {tuple(path) for path in paths if path}
    for path in sorted(unique, key=lambda path: [_order(step) for step in path], reverse=True):
        mark = drop(root, path)
        if mark is not None:
            problems.lose(mark)


def _order(step: Step) -> tuple[int, str]:
    return (step, "") if isinstance(step, int) else (-1, step)


def _present(root: Mapping, error: ErrorDetails) -> list[Step]:
    """The part of an error's location that the document has."""
    path: list[Step] = []
    for step in error["loc"]:
        if locate(root, [*path, step]).missing is not None:
            break
        path.append(step)
    return path


def _report(root: Mapping, error: ErrorDetails, problems: Problems) -> None:
    loc = error["loc"]
    found = locate(root, loc)
    kind = error["type"]
    if problems.is_settled(found.mark):
        return
    if kind == "missing":
        key = str(loc[-1])
        what = _description(loc)
        problems.expected(found.mark, f"the key {key!r}", "none", what)
    elif kind == "extra_forbidden":
        _unknown_key(loc, found, problems)
    else:
        is_key = found.missing == "[key]"
        value: object = loc[-2] if is_key else found.value
        expected, text, hint = _mismatch(error, value)
        if any(step in _SECRETS for step in loc):
            text = "a value that is not shown"
        problems.expected(found.key_mark if is_key else found.mark, expected, text, hint)


def _mismatch(error: ErrorDetails, value: object) -> tuple[str, str, str]:
    """Expected, found and hint of a value that is not what it should be."""
    context: dict[str, Any] = error.get("ctx") or {}
    kind = error["type"]
    reason = context.get("error")
    if isinstance(reason, Expected):
        return reason.expected, reason.found or shown(value), reason.hint
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        return _either(known), shown(value), hint
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"a number of {bound}", shown(value), ""
    hint = ""
    if kind == "string_type" and isinstance(value, int) and not isinstance(value, bool):
        hint = f'write "{value}" for the text'
    if kind == "int_type" and isinstance(value, str) and value.isdigit():
        hint = "without quotes"
    if kind == "bool_type" and str(value).lower() in ("yes", "no", "on", "off"):
        word = "true" if str(value).lower() in ("yes", "on") else "false"
        hint = f"did you mean {word}? YAML 1.2 has no other words for it"
    return _EXPECTED.get(kind, error["msg"]), shown(value), hint


def _unknown_key(loc: tuple[Step, ...], found: Found, problems: Problems) -> None:
    key = str(loc[-1])
    model = model_at(loc[:-1])
    known = list(model.model_fields) if model is not None else []
    hint = problems.nearest(key, known)
    if key == "<<":
        hint = "YAML 1.2 has no merge keys; write the keys out"
    where = f" of {_place(loc[:-1])}" if len(loc) > 1 else ""
    problems.expected(found.key_mark, f"a known key{where}", quoted(key), hint)


def _place(loc: tuple[Step, ...]) -> str:
    """`routes`, `server`, `upstreams.demo.tls`: where a key stands, for people."""
    return ".".join(str(step) if isinstance(step, str) else f"[{step}]" for step in loc).replace(
        ".[", "["
    )


def _description(loc: tuple[Step, ...]) -> str:
    model = model_at(loc[:-1])
    field = model.model_fields.get(str(loc[-1])) if model is not None else None
    text = (field.description or "") if field is not None else ""
    return text.rstrip(".").split(". ")[0]


def model_at(loc: tuple[Step, ...]) -> type[BaseModel] | None:
    """The model whose keys stand at a location, None when none does."""
    annotation: Any = Config
    for step in loc:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(step))
            if field is None:
                return None
            annotation = _inner(field.annotation)
            continue
        if isinstance(step, str) and typing.get_origin(annotation) is list:
            annotation = _inner(typing.get_args(annotation)[0])  # one entry for a list of one
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                field = annotation.model_fields.get(step)
                if field is None:
                    return None
                annotation = _inner(field.annotation)
                continue
        arguments = typing.get_args(annotation)
        if not arguments:
            return None
        annotation = _inner(arguments[-1])  # list[X] or dict[K, X]
    if typing.get_origin(annotation) is list:
        annotation = _inner(typing.get_args(annotation)[0])
    return (
        annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    )


def _inner(annotation: Any) -> Any:
    """Without Annotated and Optional."""
    while True:
        origin = typing.get_origin(annotation)
        arguments = typing.get_args(annotation)
        if origin is typing.Annotated:
            annotation = arguments[0]
        elif type(None) in arguments or origin in (typing.Union, types.UnionType):
            # Of several forms the mapping is the one that has keys.
            kept = [entry for entry in arguments if entry is not type(None)]
            annotation = next((x for x in kept if _has_keys(x)), kept[0])
        else:
            return annotation


def _has_keys(annotation: Any) -> bool:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
