"""kill -9 at any moment: what was acknowledged is in the store exactly once.

A child journals and ships, and names each event on a pipe after its close was written,
as the gateway sends the last byte then. It is killed at a random moment; recovery must
find every event that was named.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.usage.audit import audit
from tests.journal.making import ship, store, stored

CHILD = """
import os, sys
from pathlib import Path
from gateway.journal.recovery import recover
from gateway.journal.shipper import Shipper
from gateway.journal.writer import Journal
from gateway.store.sink import SqliteSink
from tests.journal.making import event, plain, settings

home, first = Path(sys.argv[1]), int(sys.argv[2])
sink = SqliteSink.open(home / "store.db")
found = recover(str(home / "journal"), sink)
journal = Journal.open(settings(home), found.journal_id, found.next_seq)
shipper = Shipper(str(home / "journal"), sink, journal, pause_s=0.002)
shipper.start()
os.write(1, b"ready\\n")
for number in range(first, first + 1_000_000):
    made = event(number)
    journal.write_open(made.id, made.time_us, made.account, made.route, (("coins", 1),))
    journal.write_close(plain(made))
    os.write(1, made.id.encode() + b"\\n")
"""


def run_and_kill(home: Path, first: int, after_s: float) -> list[str]:
    """Ids that the child acknowledged."""
    command = [sys.executable, "-c", CHILD, str(home), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        os.set_blocking(child.stdout.fileno(), False)
        said, end = b"", time.monotonic() + after_s
        while time.monotonic() < end:
            said += child.stdout.read() or b""
            time.sleep(0.0005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        said += child.stdout.read() or b""
    complete = said[: said.rfind(b"\n") + 1]
    return complete.decode().split()


def test_every_acknowledged_event_is_in_the_store_once(tmp_path: Path) -> None:
    chance = random.Random(4711)
    acknowledged: list[str] = []
    for round_ in range(12):
        acknowledged += run_and_kill(tmp_path, round_ * 1_000_000, chance.uniform(0, 0.15))
    ship(tmp_path)
    found = stored(tmp_path)
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    # at most the event whose close was written and not yet acknowledged, per round
    assert len(found) - len(acknowledged) <= 12
    with store(tmp_path) as sink:
        snapshot = sink.snapshot()
        report = audit(snapshot)
        snapshot.close()
    assert report.is_clean, report.differences
    assert report.events == len(found) > 1_000


@pytest.mark.slow
def test_many_more_kills(tmp_path: Path) -> None:
    chance = random.Random()
    for round_ in range(40):
        home = tmp_path / str(round_)
        acknowledged = run_and_kill(home, 0, chance.uniform(0, 0.3))
        ship(home)
        assert set(acknowledged) <= set(stored(home))
