"""The gateway's command line with a clock that can be stepped: `python -m tests.chaos.stepped`.

At SIGUSR1 it is set off from the machine's by so many seconds as the file `clock` in the
working directory says. Monotonic time goes on as it did, as when an operator sets the time.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

_true_ns = time.time_ns
_off_ns = 0


def _now_ns() -> int:
    return _true_ns() + _off_ns


def _step(*_: object) -> None:
    global _off_ns
    _off_ns = int(Path("clock").read_text()) * 1_000_000_000


def main() -> None:
    time.time_ns = _now_ns
    time.time = lambda: _now_ns() / 1e9
    signal.signal(signal.SIGUSR1, _step)
    from gateway.cli.main import main as run  # after the clock is another one

    run()


if __name__ == "__main__":
    main()
