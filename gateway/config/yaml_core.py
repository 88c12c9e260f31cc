"""YAML text -> values with marks, by the YAML 1.2 core schema.

PyYAML's C parser reads the syntax; what scalars mean is decided here, since
PyYAML's own schema is YAML 1.1: `on` and `no` would be booleans, 012 ten, 1:30
ninety, 1_000 a thousand and of two equal keys the last would win silently.
Numbers with a point become Decimal, from their text, so no float exists.
Tags, repeated keys, recursive and exploding aliases are problems. Must not
know files, the environment or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

import yaml

from gateway.config.nodes import Items, Mapping, Scalar, Value
from gateway.config.problems import Expected, Mark, Problems, quoted

DEPTH_MAX = 64  # nested collections; a configuration needs eight
ALIASED_VALUES_MAX = 20_000  # values that aliases may stand for in one file (billion laughs)
NUMBER_CHARS_MAX = 40  # longer digits stay text, and no price or port

_TEXT_TAG = "tag:yaml.org,2002:str"

Substitute: TypeAlias = Callable[[str], str]
Event: TypeAlias = yaml.Event
Tagged: TypeAlias = yaml.ScalarEvent | yaml.CollectionStartEvent

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_NUMBER_START = frozenset("0123456789+-")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def resolve(text: str) -> Scalar:
    """What a plain scalar means: null, a boolean, a number or its text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START or len(text) > NUMBER_CHARS_MAX:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _DECIMAL.fullmatch(text):
        return Decimal(text)
    return text


def parse(text: str, file: str, substitute: Substitute, problems: Problems) -> Mapping | None:
    """The mapping of one document; None when the text is not YAML at all.

    Every mistake goes to `problems`. An empty document is an empty mapping.
    """
    reader = _Reader(text, file, substitute, problems)
    try:
        return reader.document()
    except _TooMuch as exc:
        problems.add(exc.mark, f"expected fewer values, found {exc}")
    except yaml.MarkedYAMLError as exc:
        line, column = _syntax_error(text, exc)
        what = _syntax_text(text, line, exc)
        problems.add(Mark(file, line, column), f"expected YAML, found an error: {what}")
    except yaml.YAMLError as exc:
        line, column = _unreadable(text)
        what = getattr(exc, "reason", None) or str(exc)
        problems.add(Mark(file, line, column), f"expected YAML, found an error: {what}")
    return None


def _syntax_text(text: str, line: int, error: yaml.MarkedYAMLError) -> str:
    """What is wrong, in the parser's words but for the commonest mistakes."""
    lines = text.splitlines() or [""]
    here = lines[line - 1]
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "a tab; YAML is indented with spaces"
    what = " ".join(part for part in (error.problem, error.context) if part)
    if error.problem and error.problem.startswith("did not find expected"):
        what += " (is this line indented as far as its neighbours?)"
    return what


def _syntax_error(text: str, error: yaml.MarkedYAMLError) -> tuple[int, int]:
    """Where it is; what was not closed says more than the line behind the last."""
    lines = text.splitlines() or [""]
    for mark in (error.problem_mark, error.context_mark):
        if mark is not None and mark.line < len(lines):
            return mark.line + 1, mark.column + 1
    return len(lines), len(lines[-1]) + 1


def _unreadable(text: str) -> tuple[int, int]:
    """Line and column of the first character that YAML forbids."""
    found = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    before = text[: found.start()] if found else ""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _TooMuch(Exception):
    """The document would cost more to build than any configuration needs."""

    def __init__(self, what: str, mark: Mark) -> None:
        super().__init__(what)
        self.mark = mark


class _Reader:
    """Builds values from the C parser's events; one per document."""

    def __init__(self, text: str, file: str, substitute: Substitute, problems: Problems) -> None:
        self._next: Callable[[], Event | None] = yaml.CSafeLoader(text).get_event
        self._file = file
        self._substitute = substitute
        self._problems = problems
        self._anchors: dict[str, tuple[Value, Mark, int]] = {}
        self._open: set[str] = set()  # anchors whose collection is not finished
        self._values = 0  # built so far, aliases counted at their size
        self._aliased = 0

    def document(self) -> Mapping:
        """The first document's mapping. Raises yaml.YAMLError for syntax errors."""
        self._next()  # stream start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return Mapping(Mark(self._file, 1, 1))
        value, mark = self._value(self._need(), 0)
        self._next()  # document end
        extra = self._next()
        if not isinstance(extra, yaml.StreamEndEvent) and extra is not None:
            self._problems.expected(self._mark(extra), "one YAML document", "a second one")
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self._problems.expected(mark, "a mapping of keys such as 'routes:'", _kind(value))
        return Mapping(mark)

    def _need(self) -> Event:
        event = self._next()
        assert event is not None  # the parser raises before it runs dry
        return event

    def _mark(self, event: Event) -> Mark:
        mark = event.start_mark
        assert mark is not None  # the C parser marks every event
        return Mark(self._file, mark.line + 1, mark.column + 1)

    def _value(self, event: Event, depth: int) -> tuple[Value, Mark]:
        mark = self._mark(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor or "", mark)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        self._values += 1
        before = self._values
        anchor = event.anchor
        if anchor is not None:
            self._open.add(anchor)
        value: Value
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, mark)
        else:
            self._refuse_tag(event, mark)
            if depth >= DEPTH_MAX:
                raise _TooMuch(f"collections nested more than {DEPTH_MAX} deep", mark)
            if isinstance(event, yaml.MappingStartEvent):
                value = self._mapping(mark, depth)
            else:
                value = self._items(mark, depth)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = (value, mark, self._values - before + 1)
        return value, mark

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Scalar:
        text: str = event.value
        plain = not event.style  # "": neither quoted nor a block
        if event.tag is not None:
            self._refuse_tag(event, mark)
            plain = plain and event.tag != _TEXT_TAG
        if "${" in text:
            try:
                text = self._substitute(text)
            except Expected as exc:
                found = exc.found or quoted(text)
                self._problems.expected(mark, exc.expected, found, exc.hint)
                self._problems.settle(mark)
        return resolve(text) if plain else text

    def _mapping(self, mark: Mark, depth: int) -> Mapping:
        mapping = Mapping(mark)
        while True:
            event = self._need()
            if isinstance(event, yaml.MappingEndEvent):
                return mapping
            key_at = self._mark(event)
            key: str | None = None
            if isinstance(event, yaml.ScalarEvent):
                self._refuse_tag(event, key_at)
                key = event.value
            else:
                found, _ = self._value(event, depth + 1)
                self._problems.expected(key_at, "a key that is a text", _kind(found))
            value, value_at = self._value(self._need(), depth + 1)
            if key is None:
                continue
            if key in mapping:
                first = mapping.keys_at[key]
                self._problems.expected(
                    key_at, "each key once", f"{quoted(key)} again", f"first at {first}"
                )
            else:
                mapping.put(key, value, key_at, value_at)

    def _items(self, mark: Mark, depth: int) -> Items:
        items = Items(mark)
        while True:
            event = self._need()
            if isinstance(event, yaml.SequenceEndEvent):
                return items
            items.put(*self._value(event, depth + 1))

    def _alias(self, anchor: str, mark: Mark) -> tuple[Value, Mark]:
        if anchor in self._open:
            self._problems.expected(mark, "an alias of something finished", f"*{anchor} in itself")
            self._problems.settle(mark)
            return None, mark
        if anchor not in self._anchors:
            self._problems.expected(mark, "an alias of an anchor above it", f"*{anchor}")
            self._problems.settle(mark)
            return None, mark
        value, value_at, size = self._anchors[anchor]
        self._values += size
        self._aliased += size
        if self._aliased > ALIASED_VALUES_MAX:
            raise _TooMuch(f"aliases that stand for more than {ALIASED_VALUES_MAX:,}", mark)
        return value, value_at

    def _refuse_tag(self, event: Tagged, mark: Mark) -> None:
        tag = event.tag
        if tag is not None and tag not in ("!", _TEXT_TAG):
            self._problems.expected(mark, "a value without a tag", f"the tag {quoted(tag)}")


def _kind(value: Value) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Items) else quoted(str(value))
