"""What the journal and the store cost: `python -m bench.journal [EVENTS]`.

Prints microseconds of CPU time per event for each part, in the worst and the best case of the
store's sums, and how long an event loop waits while the shipper works beside it. Touches
nothing but a temporary directory. Claims drawn from it: docs/decisions/0003-journal.md.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import uvloop

from gateway.core.book import JournalSettings
from gateway.journal.recovery import recover
from gateway.journal.shipper import Shipper
from gateway.journal.writer import Journal
from gateway.store.sink import SqliteSink

EVENTS = 100_000
SEGMENT_BYTES = 1 << 25
LINE = b"x" * 297 + b"\n"
BESIDE_S = 5.0
START_US = 1_763_650_000_000_000
WEEK_US = 1_763_251_200_000_000
# name, accounts, routes: one busy customer, and every event another sum
SHAPES = (("1 account, 5 routes", 1, 5), ("100 accounts, 60 routes", 100, 60))


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for title, cost_us in raw_writes(home):
            print(f"{title:<44}{cost_us:8.2f} us per write")
        for number, (title, accounts, routes) in enumerate(SHAPES):
            made = list(islice(requests(accounts, routes), 20_000))
            journal_and_ship(home / str(number), title, made, events)
        for shipping in (False, True):
            beside_a_busy_loop(home / f"loop-{shipping}", made, shipping)


def raw_writes(home: Path) -> list[tuple[str, float]]:
    """The candidates, each on a fresh file, as a journal meets them."""
    path = home / "raw"

    def appended(fd: int) -> Callable[[int], object]:
        return lambda number: os.write(fd, LINE)

    def reserved(fd: int) -> Callable[[int], object]:
        os.posix_fallocate(fd, 0, SEGMENT_BYTES)
        return lambda number: os.pwrite(fd, LINE, number * len(LINE))

    def mapped(fd: int) -> Callable[[int], object]:
        os.posix_fallocate(fd, 0, SEGMENT_BYTES)
        area, size = mmap.mmap(fd, SEGMENT_BYTES), len(LINE)
        return lambda number: area.__setitem__(slice(number * size, number * size + size), LINE)

    found = []
    for title, prepare in (
        ("os.write, O_APPEND", appended),
        ("os.pwrite, reserved", reserved),
        ("mmap, reserved", mapped),
    ):
        append = os.O_APPEND if prepare is appended else 0
        costs = []
        for _ in range(5):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | append, 0o600)
            write = prepare(fd)
            costs.append(cpu_us(lambda: [write(n) for n in range(100_000)], 100_000))  # noqa: B023
            os.close(fd)
            path.unlink()
        found.append((title, min(costs)))
    return found


def journal_and_ship(home: Path, title: str, made: list[tuple[Any, ...]], events: int) -> None:
    sink, journal = opened(home)

    def write() -> None:
        for fields in islice(cycle(made), events):
            write_event(journal, fields)

    print(f"{title + ': open and close':<44}{cpu_us(write, events):8.2f} us per event")
    shipper = Shipper(str(home / "journal"), sink, journal)
    shipper.start()
    cost_us = cpu_us(lambda: shipper.stop(drain=True), events)
    print(f"{title + ': ship a backlog':<44}{cost_us:8.2f} us per event")
    journal.close()
    size = sum(path.stat().st_size for path in home.glob("store.db*"))
    print(f"{title + ': store with its WAL':<44}{size / events:8.0f} bytes per event")
    sink.close()


def beside_a_busy_loop(home: Path, made: list[tuple[Any, ...]], shipping: bool) -> None:
    """Journal as fast as one loop can, each event in a callback of its own."""
    sink, journal = opened(home)
    shipper = Shipper(str(home / "journal"), sink, journal)
    if shipping:
        shipper.start()
    began_cpu_s = time.process_time()
    waits_s = uvloop.run(busy(journal, made))
    used_s = time.process_time() - began_cpu_s
    shipped = shipper.stop(drain=False) if shipping else False
    journal.close()
    sink.close()
    waits_s.sort()
    named = {f"p{part}": waits_s[len(waits_s) * part // 1_000] * 1e6 for part in (500, 990, 999)}
    title = f"busy loop, {'shipping' if shipping else 'not shipping'}"
    figures = " ".join(f"{name} {value:.0f}" for name, value in named.items())
    print(
        f"{title:<44}{used_s / len(waits_s) * 1e6:8.2f} us per event,"
        f" {len(waits_s) / BESIDE_S:.0f} events/s, waits in us: {figures}"
        f" max {waits_s[-1] * 1e6:.0f}{', all shipped' if shipped else ''}"
    )


async def busy(journal: Journal, made: list[tuple[Any, ...]]) -> list[float]:
    """Times between callbacks, in seconds."""
    waits_s: list[float] = []
    events = cycle(made)
    end_s = last_s = time.perf_counter()
    end_s += BESIDE_S
    while last_s < end_s:
        write_event(journal, next(events))
        sum(range(400))  # the rest of a request, in the interpreter
        await asyncio.sleep(0)
        now_s = time.perf_counter()
        waits_s.append(now_s - last_s)
        last_s = now_s
    return waits_s


def opened(home: Path) -> tuple[SqliteSink, Journal]:
    home.mkdir()
    sink = SqliteSink.open(home / "store.db")
    settings = JournalSettings(str(home / "journal"), sync="interval", max_bytes=1 << 34)
    found = recover(settings.dir, sink)
    return sink, Journal.open(settings, found.journal_id, found.next_seq)


def write_event(journal: Journal, fields: tuple[Any, ...]) -> None:
    journal.write_open(fields[0], fields[1], fields[2], fields[10], (("coins", 1),))
    journal.write_close(fields)


def requests(accounts: int, routes: int) -> Any:
    """Endless events as the request path hands them over."""
    number = 0
    while True:
        account, route = number * 7919 % accounts, number * 104_729 % routes
        event_id = f"0198f3c2-7b1e-7c3a-9d21-{number:012x}"
        yield (
            *(event_id, START_US + number * 40, f"account-{account}", f"user-{account}", "web"),
            *(f"key_{account}", "api_key", "192.0.2.1", "backend", f"Operation {route}"),
            *(f"route-{route}", "GET", f"/items/{number}", 200, "charged"),
            *((("coins", 1, WEEK_US),), 123, 456, 1234, 1200, event_id, "abcdef012345"),
        )
        number += 1


def cpu_us(work: Callable[[], object], times: int) -> float:
    """CPU time of all threads."""
    began_s = time.process_time()
    work()
    return (time.process_time() - began_s) * 1e6 / times


if __name__ == "__main__":
    main()
