"""Whatever stands in a file: it loads or is refused with a place, and nothing else happens."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ConfigError, load
from tests.config.test_demo import DEMO

_LINES = DEMO.read_text("utf-8").splitlines()
_JUNK = st.sampled_from(
    ["", "null", "[]", "{}", "{a: 1}", "[x]", "-1", "1e9", "on", "'", '"', "*a", "&a", "!!x",
     "${X}", "${", "\t", "- ", ": ", "0x", "ü", "\u2028", "{coins: }", "free", "GET /{", "1/s",
     "<<"]
)  # fmt: skip
_EDITS = st.lists(
    st.tuples(st.integers(0, len(_LINES) - 1), st.integers(0, 80), st.integers(0, 40), _JUNK),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_EDITS)
def test_a_damaged_demo(edits: list[tuple[int, int, int, str]]) -> None:
    lines = list(_LINES)
    for number, start, length, junk in edits:
        line = lines[number]
        lines[number] = line[:start] + junk + line[start + length :]
    _load_or_refuse("\n".join(lines))


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text(text: str) -> None:
    _load_or_refuse(text)


def _load_or_refuse(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(text, "utf-8")
        try:
            load(path, {})
        except ConfigError as exc:
            assert exc.problems
            count = len(text.splitlines()) + 1
            assert all(1 <= problem.line <= count for problem in exc.problems)
