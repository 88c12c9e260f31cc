"""A gateway in front of a recorder, with a new account for each test.

One pair serves many tests: what belongs to a test is told apart by the account
that the gateway names to the backend in X-Account.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.configs import Caller, Config, config, pool
from tests.support.gateway import Gateway
from tests.support.raw import Answer, RawConnection, connected
from tests.support.recorder import Recorded, Recorder

BUDGET = 1_000_000  # coins of each account; no test comes near it
# What the log shows only when something went wrong that no test expects.
_BROKEN = re.compile(r"Traceback|Fatal error|internal_error|never retrieved|was never awaited")
FORWARD = {"account": "X-Account", "user": "X-User", "project": "X-Project"}


@dataclass(slots=True)
class Stage:
    gateway: Gateway
    recorder: Recorder
    _free: list[Caller]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def port(self) -> int:
        return self.gateway.port

    def newcomer(self) -> Caller:
        """An account that nobody has used."""
        with self._lock:
            return self._free.pop()

    def recorded(self, who: Caller) -> list[Recorded]:
        """What reached the backend for the account, in order."""
        return [r for r in self.recorder.of() if r.get("x-account") == who.account]

    def used(self, who: Caller) -> int:
        """The account's coins spent, once nothing of it is in flight."""
        figures = self.gateway.settled_usage(who)
        assert figures["used"] + figures["remaining"] == figures["limit"], figures
        return int(figures["used"])

    def connect(self) -> RawConnection:
        return RawConnection(self.port)

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        """Send bytes on a fresh connection and take the first answer."""
        with connected(self.port) as connection:
            connection.send(data)
            return connection.answer(method)

    def assert_refused(
        self, data: bytes, who: Caller, statuses: Sequence[int] = (400,), method: str = "GET"
    ) -> Answer | None:
        """One of these statuses or a bare close; closed, nothing forwarded, nothing charged."""
        with connected(self.port) as connection:
            connection.send(data)
            answer: Answer | None
            try:
                answer = connection.answer(method)
            except EOFError:
                answer = None
            assert connection.is_closed(), f"still open after {answer}"
            assert connection.unparsed == b"", connection.unparsed
        if answer is not None:
            assert answer.status in statuses, answer
            assert answer.is_refusal, answer
        assert self.recorded(who) == []
        assert self.used(who) == 0
        return answer

    def assert_forwarded(
        self, data: bytes, who: Caller, method: str = "GET"
    ) -> tuple[Answer, Recorded]:
        """Answered by the backend, which received exactly one whole request."""
        answer = self.ask(data, method)
        assert answer.get("x-recorder") == "yes", answer
        (request,) = self.recorded(who)
        assert request.complete
        return answer, request


@contextmanager
def stage(
    directory: Path,
    routes: Sequence[Config],
    *,
    accounts: int = 100,
    **more: Any,
) -> Iterator[Stage]:
    """A running pair; `more` are parts of the configuration."""
    callers = pool("acct", accounts)
    recorder = Recorder()
    plans = {"roomy": {"allowances": {"coins": {"amount": BUDGET, "per": "week"}}}}
    identify = {"forward": FORWARD, "failures_per_minute": 1_000_000, **more.pop("identify", {})}
    main: Config = {
        "url": f"http://127.0.0.1:{recorder.port}",
        "connect_timeout": "2s",
        **more.pop("main", {}),
    }
    built = config(
        main,
        routes=routes,
        callers={"roomy": callers, **more.pop("callers", {})},
        plans={**plans, **more.pop("plans", {})},
        identify=identify,
        accounts=more.pop("extra_accounts", {}),
        **more,
    )
    gateway = Gateway(built, directory).start()
    try:
        yield Stage(gateway, recorder, list(reversed(callers)))
        gateway.stop()
        broken = [line for line in gateway.log.splitlines() if _BROKEN.search(line)]
        assert not broken, broken[:3]
    finally:
        gateway.kill()
        recorder.stop()
