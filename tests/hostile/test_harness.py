"""The harness itself, without a gateway: what the other tests rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.cases import load_cases, read_as_meant
from tests.hostile.normalisers import readings
from tests.support import scripts
from tests.support.raw import connected, exchange, head, parse_answers
from tests.support.recorder import Recorder


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    started = Recorder()
    yield started
    started.stop()


def test_recorder_keeps_every_byte(recorder: Recorder) -> None:
    data = head("POST", "/a?b=%2f", "Content-Length: 5", "X-A: 1", "x-a: 2") + b"hello"
    assert exchange(recorder.port, data, "POST").body == b"recorded"
    (request,) = recorder.requests
    assert (request.target, request.body, request.all("X-A")) == ("/a?b=%2f", b"hello", ["1", "2"])
    assert recorder.raw == {1: data}


def test_recorder_notes_what_is_ambiguous(recorder: Recorder) -> None:
    with connected(recorder.port) as connection:
        connection.send(head("POST", "/", "Content-Length: 5", "Content-Length: 6") + b"hello!")
        assert connection.is_closed()
    assert len(recorder.errors) == 1


def test_recorder_does_not_take_a_part_for_the_whole(recorder: Recorder) -> None:
    with connected(recorder.port) as connection:
        connection.send(head("POST", "/", "Content-Length: 50") + b"hello")
        connection.shut_write()
        assert connection.is_closed()
    assert [(r.complete, r.body) for r in recorder.requests] == [(False, b"hello")]
    assert recorder.errors == []


def test_scripts_decide_by_path(recorder: Recorder) -> None:
    cut = scripts.OK + b"Content-Length: 9\r\n\r\nab"
    recorder.scripts["/cut"] = scripts.sends(cut, close=True)
    recorder.scripts["/reset"] = scripts.resets_after(b"")
    with connected(recorder.port) as connection:
        connection.send(head("GET", "/cut?x"))
        assert connection.is_closed()
        assert connection.answer().complete is False
    with connected(recorder.port) as connection:
        connection.send(head("GET", "/reset"))
        assert connection.is_closed() and connection.reset


def test_pipelined_answers_are_taken_apart() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No\r\n\r\nrest"
    answers, left = parse_answers(data, ["GET", "GET"], closed=True)
    assert ([a.status for a in answers], left) == ([200, 204], b"rest")


def test_readings_find_the_known_tricks() -> None:
    for path in ("//paid", "/x/%2e%2e/paid", "/%5cpaid", "/paid;a=b", "/x\\..\\paid"):
        assert "/paid" in readings(path), path
    for path in ("/", "/free", "/paidx", "/x/paid"):
        assert "/paid" not in readings(path), path


def test_corpus_is_whole() -> None:
    cases = load_cases()
    assert len(cases) == 321
    assert len({case.source for case in cases}) == 321
    assert sum(1 for case in cases if read_as_meant(case.raw)) > 100
