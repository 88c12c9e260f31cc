"""Tables line up, and no cell can command a terminal."""

from __future__ import annotations

import pytest

from gateway.cli.output import CELL_CHARS_MAX, cell_text, print_fields, print_table, width


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "N"), [("a", 1), ("longer", 22), ("日本", None)])
    assert capsys.readouterr().out == "NAME    N\na       1\nlonger  22\n日本    -\n"


def test_fields_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("id", "x"), ("longer", True)])
    assert capsys.readouterr().out == "id:      x\nlonger:  yes\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (0, "0"),
        (False, "no"),
        (["a", "b"], "a,b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\x0ab"),
        ("a\u202eb", "a\\x202eb"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_long_cells_are_cut() -> None:
    text = cell_text("x" * 1000)
    assert width(text) == CELL_CHARS_MAX
    assert text.endswith("…")
