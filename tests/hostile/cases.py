"""The raw requests of tests/corpora, and what happened to each at a gateway.

Every case is sent from a loopback address of its own (127.1.x.y), so that what
the backend received and what was metered can be told apart by case although
many run at once, and although the gateway pools its backend connections.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import h11

from tests.support.events import StoredEvent
from tests.support.gateway import Gateway
from tests.support.raw import Answer, RawConnection, parse_answers
from tests.support.recorder import Recorded, Recorder
from tests.support.until import until

CORPORA = Path(__file__).resolve().parents[1] / "corpora"
_AT_ONCE = 16
_FIRST_ANSWER_S = 1.5  # longer than the gateway's body_timeout in these runs
_HANG_S = 15.0  # a connection that is still open then hangs
_ANSWERS_MAX = 20


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    suite: str
    id: str
    expect: str
    raw: bytes

    @property
    def name(self) -> str:
        return f"{self.number:03}-{self.id}"

    @property
    def source(self) -> str:
        return f"127.1.{self.number // 250}.{self.number % 250 + 1}"

    @property
    def method(self) -> str:
        """The first request's method as far as there is one."""
        word = self.raw.lstrip(b"\r\n").split(b" ")[0]
        return word.decode("latin-1") if word.isalpha() and len(word) < 20 else "GET"

    @property
    def after(self) -> bytes:
        """The plain GET that follows on the same connection."""
        target = f"/after-{self.number}"
        return f"GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n".encode()

    @property
    def is_strict(self) -> bool:
        """Whether `expect` binds; rows for lenient parser modes are informational."""
        return "[mode" not in self.expect

    @property
    def must_be_refused(self) -> bool:
        return self.is_strict and self.expect.startswith("reject")

    @property
    def must_be_accepted(self) -> bool:
        return self.expect == "accept"


@dataclass(slots=True)
class Outcome:
    """All that is known of one case's run."""

    case: Case
    answers: list[Answer]
    left: bytes  # after the last answer
    hung: bool
    unreadable: str = ""  # why a strict client cannot read the answers
    recorded: list[Recorded] = field(default_factory=list)
    events: list[StoredEvent] = field(default_factory=list)

    @property
    def relayed(self) -> list[Answer]:
        """Answers that came from the backend."""
        return [a for a in self.answers if not a.is_refusal]

    @property
    def refusals(self) -> list[Answer]:
        return [a for a in self.answers if a.is_refusal]

    @property
    def forwarded(self) -> list[Recorded]:
        """Requests of the case itself that reached the backend whole."""
        return [r for r in self.recorded if r.complete and not r.target.startswith("/after-")]

    @property
    def charged(self) -> list[StoredEvent]:
        return [e for e in self.events if e.charges]

    def __repr__(self) -> str:
        return (
            f"<{self.case.name} sent={self.case.raw[:300]!r}\n"
            f"  answers={[(a.status, a.code) for a in self.answers]} left={self.left[:80]!r}\n"
            f"  recorded={[(r.method, r.target, r.body[:40], r.complete) for r in self.recorded]}\n"
            f"  unreadable={self.unreadable!r}\n"
            f"  events={[(e.method, e.path, e.status, e.outcome) for e in self.events]}>"
        )


def load_cases() -> list[Case]:
    lines = (CORPORA / "raw_http1_cases.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        Case(i, r["suite"], r["id"], r["expect"], base64.b64decode(r["raw_host_b64"]))
        for i, r in enumerate(rows)
    ]


def run_cases(gateway: Gateway, cases: Sequence[Case], recorder: Recorder | None) -> list[Outcome]:
    """Send every case and collect what became of it, in the order of the cases."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda case: _run(gateway.port, case), cases))
    gateway.flush()
    _settle(gateway)
    events: dict[str, list[StoredEvent]] = {}
    for event in gateway.events():
        events.setdefault(event.source, []).append(event)
    for outcome in outcomes:
        outcome.events = events.get(outcome.case.source, [])
        if recorder is not None:
            outcome.recorded = recorder.of(source=outcome.case.source)
    return outcomes


def _settle(gateway: Gateway) -> None:
    """Wait until no event has come for a while of several flushes."""
    seen: list[int] = []

    def count() -> bool:
        seen.append(len([e for e in gateway.events() if e.route != "harness-mark"]))
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]

    until(count, what="the end of the events")


def _run(port: int, case: Case) -> Outcome:
    connection = RawConnection(port, case.source)
    try:
        connection.send(case.raw)
        with suppress(h11.RemoteProtocolError):  # judged when all is there
            connection.try_answer(case.method, _FIRST_ANSWER_S)
        connection.send(case.after)
        try:
            connection.read_all(_HANG_S)
            hung = False
        except TimeoutError:
            hung = True
        return _read(case, connection, hung)
    finally:
        connection.close()


def _read(case: Case, connection: RawConnection, hung: bool) -> Outcome:
    """Take the answers apart. What is refused unread is answered as if it were no HEAD."""
    unreadable = ""
    for first in dict.fromkeys([case.method, "GET"]):
        methods = [first] + ["GET"] * _ANSWERS_MAX
        try:
            answers, left = parse_answers(connection.received, methods, closed=connection.eof)
        except h11.RemoteProtocolError as error:
            unreadable = f"{error}: {connection.received!r}"
            continue
        return Outcome(case, answers, left, hung)
    return Outcome(case, [], b"", hung, unreadable)


@dataclass(frozen=True, slots=True)
class Meant:
    """A request as the reference parser reads it."""

    method: str
    target: str
    body: bytes


def read_as_meant(data: bytes) -> list[Meant]:
    """The whole requests at the beginning of `data`, as h11 reads them."""
    found: list[Meant] = []
    while data:
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        wire.receive_data(data)
        request: h11.Request | None = None
        body = b""
        try:
            while not isinstance(event := wire.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        assert request is not None
        found.append(Meant(request.method.decode(), request.target.decode("latin-1"), body))
        data = wire.trailing_data[0]
    return found
