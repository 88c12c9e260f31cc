"""What is wrong with a configuration, and where.

Every mistake becomes a `Problem` at a `Mark`; all of them are collected, sorted
by file and line and raised together as one `ConfigError`. Must not know what a
configuration means, only how a mistake is said.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

SHOWN_CHARS_MAX = 60  # of a found value; a line must stay readable
SUGGESTIONS_MAX = 200  # difflib costs about a millisecond per 1,000 known names


class Mark(NamedTuple):
    """A place in a file; line and column count from 1, as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """One mistake (or one warning); its text is `file:line:column: message`."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` has every reason, sorted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Expected(ValueError):
    """A value that is not what it should be, before anyone knows where it stands.

    `found` replaces the shown value where the value itself says too little.
    """

    def __init__(self, expected: str, *, found: str | None = None, hint: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found
        self.hint = hint


class Problems:
    """The mistakes found so far."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}
        self._settled: set[Mark] = set()
        self._incomplete: set[Mark] = set()
        self._suggestions = 0

    def __len__(self) -> int:
        return len(self._found)

    def add(self, mark: Mark, message: str) -> None:
        """Note a mistake, unless the value at `mark` is known to be lost already."""
        if mark not in self._settled:
            self._found.setdefault(Problem(*mark, message))

    def settle(self, mark: Mark) -> None:
        """Say nothing more of the value at `mark`: what stands there is unknown."""
        self._settled.add(mark)

    def is_settled(self, mark: Mark) -> bool:
        return mark in self._settled

    def lose(self, mark: Mark) -> None:
        """The mapping at `mark` has lost an entry to an earlier mistake."""
        self._incomplete.add(mark)

    def has_lost(self, mark: Mark) -> bool:
        return mark in self._incomplete

    def absent(self, mark: Mark, expected: str, hint: str = "") -> None:
        """Something that should stand in the mapping at `mark` does not."""
        if mark not in self._incomplete:
            self.expected(mark, expected, "nothing", hint)

    def expected(self, mark: Mark, expected: str, found: str, hint: str = "") -> None:
        """Note a mistake in the usual form."""
        tail = f" ({hint})" if hint else ""
        self.add(mark, f"expected {expected}, found {found}{tail}")

    def unknown(self, mark: Mark, kind: str, name: str, known: Iterable[str]) -> None:
        """A name that nothing stands for, with the nearest one that is known."""
        names = list(known)
        if not names:
            self.expected(mark, f"the name of {kind}", quoted(name), "none is defined")
            return
        self.expected(mark, f"the name of {kind}", quoted(name), self.nearest(name, names))

    def nearest(self, name: str, known: Iterable[str]) -> str:
        """ "did you mean ...?", or "known: ..." for a short list, or nothing."""
        self._suggestions += 1
        names = sorted(set(known))
        if self._suggestions <= SUGGESTIONS_MAX:
            close = did_you_mean(name, names)
            if close:
                return close
        return f"known: {', '.join(names)}" if 0 < len(names) <= 8 else ""

    def sorted(self) -> tuple[Problem, ...]:
        return tuple(sorted(self._found))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "did you mean ...?" for the nearest known name, "" when none is near."""
    by_folded = {text.casefold(): text for text in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"did you mean {by_folded[close[0]]}?" if close else ""


def quoted(text: str) -> str:
    """A text as it is shown: one line, escaped, shortened."""
    shown = repr(text)
    if len(shown) > SHOWN_CHARS_MAX:
        shown = shown[: SHOWN_CHARS_MAX - 2] + "…'"
    return shown


def shown(value: object) -> str:
    """Any configured value as it is shown after `found`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return f"the number {str(value)[:SHOWN_CHARS_MAX]}"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return f"a {type(value).__name__}"
