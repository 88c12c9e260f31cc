"""Lines of several processes that write to one file stay whole."""

from __future__ import annotations

import io
import json
import sys

import pytest

from gateway.log import LogThread


class Writes(io.StringIO):
    """A file that is not buffered: each write is one of the system's."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def test_a_line_and_its_end_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Writes()
    monkeypatch.setattr(sys, "stderr", file)
    log = LogThread(worker=7)
    log("first", figure=1)
    log("second", level="warning")
    log.close()
    assert [text[-1] for text in file.written] == ["\n", "\n"]
    assert [json.loads(text)["event"] for text in file.written] == ["first", "second"]
