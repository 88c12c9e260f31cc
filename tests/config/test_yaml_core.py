"""YAML is read by the 1.2 core schema, and what YAML allows but nobody means is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.config.nodes import Items, Mapping, Scalar, locate
from gateway.config.problems import Problems
from gateway.config.yaml_core import ALIASED_VALUES_MAX, DEPTH_MAX, parse, resolve


def read(text: str) -> tuple[Mapping | None, list[str]]:
    problems = Problems()
    value = parse(text, "f", lambda text: text, problems)
    return value, [str(problem) for problem in problems.sorted()]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("NO", "NO"), ("y", "y"),
        ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"), ("2026-01-05", "2026-01-05"),
        ("012", 12), ("0o14", 12), ("0x1F", 31), ("-5", -5), ("+5", 5), ("0", 0),
        ("true", True), ("True", True), ("FALSE", False), ("tRUE", "tRUE"),
        ("", None), ("~", None), ("null", None), ("Null", None), ("none", "none"),
        ("1.5", Decimal("1.5")), ("0.10", Decimal("0.10")), ("1e3", Decimal("1e3")),
        (".5", ".5"), ("5.", "5."), (".inf", ".inf"), (".nan", ".nan"), ("1e9999", "1e9999"),
        ("1" * 41, "1" * 41), ("1.2.3", "1.2.3"), ("\u0661", "\u0661"), ("-", "-"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, meaning: Scalar) -> None:
    found = resolve(text)
    assert found == meaning and type(found) is type(meaning)
    if text:
        value, problems = read(f"a: {text}" if text not in "-=" else f"a: '{text}'")
        assert problems == [] and value == {"a": meaning}


@pytest.mark.parametrize(
    "text", ['a: "12"', "a: '12'", "a: !!str 12", "a: |-\n  12", "a: >-\n  12"]
)
def test_quoted_scalars_are_text(text: str) -> None:
    assert read(text) == ({"a": "12"}, [])


def test_numbers_never_become_floats() -> None:
    value, _ = read("a: [0.1, 1e-7, 3.0]")
    assert value is not None
    entries = value["a"]
    assert entries == [Decimal("0.1"), Decimal("1e-7"), Decimal("3.0")]
    assert isinstance(entries, Items) and {type(entry) for entry in entries} == {Decimal}


def test_keys_are_texts_as_written() -> None:
    assert read("on: 1\n404: 2\nnull: 3\n1.50: 4")[0] == {"on": 1, "404": 2, "null": 3, "1.50": 4}


def test_marks_are_where_an_editor_shows_them() -> None:
    root, _ = read("a:\n  - x: 1\n    é: [t, u]\n")
    assert root is not None

    def place(*path: str | int) -> tuple[tuple[int, int], tuple[int, int]]:
        found = locate(root, path)
        assert found.missing is None
        return found.key_mark[1:], found.mark[1:]

    assert place("a", 0) == ((2, 5), (2, 5))
    assert place("a", 0, "x") == ((2, 5), (2, 8))
    assert place("a", 0, "é") == ((3, 5), (3, 8))
    assert place("a", 0, "é", 1) == ((3, 12), (3, 12))
    assert locate(root, ("a", 5)).missing == 5
    assert locate(root, ("a", 0, "y", "z")).missing == "y"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1: expected each key once, found 'a' again (first at f:1:1)"),
        ("a: {b: 1, 'b': 2}",
         "f:1:11: expected each key once, found 'b' again (first at f:1:5)"),
        ("a: !!python/object/apply:os.system [ls]",
         "f:1:4: expected a value without a tag, found the tag"
         " 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !secret x", "f:1:4: expected a value without a tag, found the tag '!secret'"),
        ("a: !!int '5'",
         "f:1:4: expected a value without a tag, found the tag 'tag:yaml.org,2002:int'"),
        ("? [x]\n: 1", "f:1:3: expected a key that is a text, found a list"),
        ("- a", "f:1:1: expected a mapping of keys such as 'routes:', found a list"),
        ("words", "f:1:1: expected a mapping of keys such as 'routes:', found 'words'"),
        ("a: *x", "f:1:4: expected an alias of an anchor above it, found *x"),
        ("a: &x [*x]", "f:1:8: expected an alias of something finished, found *x in itself"),
        ("a: 1\n---\nb: 2", "f:2:1: expected one YAML document, found a second one"),
        ("a: " + "[" * (DEPTH_MAX + 1),
         f"f:1:{DEPTH_MAX + 3}: expected fewer values, found collections nested more than"
         f" {DEPTH_MAX} deep"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str) -> None:
    assert read(text)[1][0] == message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("b: 1\na: [1, 2\n", "f:2:4:"),
        ("a: 1\n b: 2", "f:2:3:"),
        ("a:\n\t- x", "f:2:1:"),
        ('a: "x', "f:1:6:"),
        ("a: b: c", "f:1:5:"),
        ("a: @x", "f:1:4:"),
        ("a: 1\nb: \x07", "f:2:4:"),
    ],
)
def test_syntax_errors_have_a_place(text: str, place: str) -> None:
    value, problems = read(text)
    assert value is None
    assert len(problems) == 1 and problems[0].startswith(f"{place} expected YAML, found an error:")


def test_the_first_of_two_equal_keys_counts() -> None:
    assert read("a: 1\na: 2")[0] == {"a": 1}


def test_aliases_share_a_value() -> None:
    value, problems = read("a: &x {b: 1}\nc: *x\nd: [*x, *x]")
    assert problems == []
    assert value == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}


def test_billion_laughs_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 30):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    value, problems = read("\n".join(lines))
    assert value is None
    assert len(problems) == 1
    assert f"aliases that stand for more than {ALIASED_VALUES_MAX:,}" in problems[0]
    assert problems[0].startswith("f:5:")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null"])
def test_nothing_is_an_empty_mapping(text: str) -> None:
    assert read(text) == ({}, [])
