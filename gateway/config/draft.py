"""A configuration while it is compiled: models, document and what was found wrong.

Places are given as paths of keys and indexes and looked up only for a problem,
so that a right configuration pays nothing for its marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.models import Config
from gateway.config.nodes import Mapping, Step, locate
from gateway.config.problems import Expected, Mark, Problems, shown

Where = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """What the compilers work on."""

    config: Config
    root: Mapping
    texts: dict[str, str]  # of the files, as they were read
    problems: Problems

    def at(self, *path: Step) -> Mark:
        """Where a value stands, or the nearest thing around it."""
        return locate(self.root, path).mark

    def key_at(self, *path: Step) -> Mark:
        """Where the key of a value stands."""
        return locate(self.root, path).key_mark

    def has(self, *path: Step) -> bool:
        return locate(self.root, path).missing is None

    def has_lost(self, *path: Step) -> bool:
        """Whether the mapping there lost an entry to a mistake: what it says is unknown."""
        value = locate(self.root, path).value
        return isinstance(value, Mapping) and self.problems.has_lost(value.mark)

    def expected(self, path: Where, expected: str, hint: str = "") -> None:
        """A problem with the value at `path`, which is shown as found."""
        found = locate(self.root, path)
        self.problems.expected(found.mark, expected, shown(found.value), hint)

    def refuse(self, path: Where, exc: Expected) -> None:
        found = locate(self.root, path)
        text = exc.found or shown(found.value)
        self.problems.expected(found.mark, exc.expected, text, exc.hint)

    def absent(self, path: Where, expected: str, hint: str = "") -> None:
        """Something is missing in the mapping at `path`."""
        found = locate(self.root, path)
        mark = found.value.mark if isinstance(found.value, Mapping) else found.mark
        self.problems.absent(mark, expected, hint)

    def each_once(self, kind: str, entries: Iterable[tuple[str, Where]]) -> None:
        """A problem for every name that came before, with the place of the first."""
        first: dict[str, Where] = {}
        for name, path in entries:
            if name in first:
                hint = f"first at {self.at(*first[name])}"
                self.expected(path, f"each {kind} once", hint)
            else:
                first[name] = path
