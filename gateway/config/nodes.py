"""YAML values that remember where they stand.

A document is plain dictionaries, lists and scalars; the dictionaries and lists
are subclasses that also keep the marks of what they hold, so a model can be
validated from them and every mistake still finds its line. Must not know files
or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias, Union

from gateway.config.problems import Mark

Scalar: TypeAlias = str | int | Decimal | bool | None
Value: TypeAlias = Union[Scalar, "Mapping", "Items"]
Step: TypeAlias = str | int
Path: TypeAlias = Sequence[Step]


class Mapping(dict[str, Value]):
    """A YAML mapping: values by key, `keys_at` and `values_at` their marks."""

    __slots__ = ("mark", "keys_at", "values_at")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}

    def put(self, key: str, value: Value, key_at: Mark, value_at: Mark) -> None:
        self[key] = value
        self.keys_at[key] = key_at
        self.values_at[key] = value_at

    def take(self, key: str) -> None:
        del self[key], self.keys_at[key], self.values_at[key]


class Items(list[Value]):
    """A YAML sequence; `items_at` are the marks of its values."""

    __slots__ = ("mark", "items_at")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.items_at: list[Mark] = []

    def put(self, value: Value, at: Mark) -> None:
        self.append(value)
        self.items_at.append(at)


class Found:
    """Where a path of keys and indexes ends in a document."""

    __slots__ = ("value", "mark", "key_mark", "missing")

    def __init__(self, value: Value, mark: Mark) -> None:
        self.value = value
        self.mark = mark  # of the value
        self.key_mark = mark  # of its key, where it has one
        self.missing: Step | None = None  # the first step that is not there


def locate(root: Mapping, path: Path) -> Found:
    """Follow `path` as far as the document has it.

    A text leads to the equal item of a list. The first step that is not there
    ends the walk and is kept as `missing`.
    """
    found = Found(root, root.mark)
    for step in path:
        value = found.value
        if isinstance(value, Mapping) and isinstance(step, str) and step in value:
            found.key_mark = value.keys_at[step]
            found.mark = value.values_at[step]
            found.value = value[step]
        elif isinstance(value, Items) and (index := _index(value, step)) is not None:
            found.key_mark = found.mark = value.items_at[index]
            found.value = value[index]
        else:
            found.missing = step
            break
    return found


def drop(root: Mapping, path: Path) -> Mark | None:
    """Take the entry at `path` out; the mark of the collection that lost it."""
    holder = locate(root, path[:-1])
    if holder.missing is not None:
        return None
    value, step = holder.value, path[-1]
    if isinstance(value, Mapping) and isinstance(step, str) and step in value:
        value.take(step)
    elif isinstance(value, Items) and (index := _index(value, step)) is not None:
        del value[index]
        del value.items_at[index]
    else:
        return None
    return value.mark


def _index(items: Items, step: Step) -> int | None:
    if isinstance(step, int):
        return step if step < len(items) else None
    return items.index(step) if step in items else None
