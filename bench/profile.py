"""Where do the microseconds go? Samples the gateway under load and sums them by group.

    python -m bench.profile [--seconds 10] [--top 15]

Uses perf (Debian: linux-perf) with the cpu-clock event. In the kernel the call chain
tells a socket's write from the journal's; user code is told by the library a sample
fell into. Needs the right to see the kernel (root, or perf_event_paranoid < 2).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import Stage, backend_body, prove, start, start_backend
from bench.gateway_config import bench_key, measured_path
from bench.load import Load, Measured, measure, run_wrk
from bench.machine import facts, install
from bench.processes import BenchError, Fleet, two_cores, workshop
from bench.run import RESULTS

FREQUENCY_HZ = 1_999  # not a divisor of any timer's
# The first pattern found in a sample's kernel call chain names its group.
KERNEL_GROUPS = (
    (
        "kernel: files (journal, store)",
        r"ext4|xfs|btrfs|overlay|file_write_iter|fsync|jbd2|page_cache",
    ),
    ("kernel: send", r"tcp_sendmsg|sock_sendmsg|sock_write_iter|unix_stream_sendmsg"),
    ("kernel: receive", r"tcp_recvmsg|sock_recvmsg|sock_read_iter"),
    ("kernel: epoll", r"ep_poll|epoll|ep_send_events"),
    ("kernel: futex (threads)", r"futex"),
)
# The first pattern found in the library's name (or name:symbol) names the group.
USER_GROUPS = (
    ("parsers (aiohttp, httptools)", r"_http_parser|httptools|llhttp"),
    ("aiohttp, multidict, yarl", r"_http_writer|multidict|yarl|_websocket|frozenlist|propcache"),
    ("hashing (SHA-256, CRC-32)", r"_hashlib|libcrypto|_sha|libz\.|zlib"),
    ("sqlite", r"sqlite"),
    ("uvloop", r"uvloop"),
    ("json", r"orjson|_json"),
    (
        "garbage collection",
        r"python[^:]*:(gc_|_?PyGC|collect|deduce_unreachable|subtract_refs|visit_)",
    ),
    ("interpreter", r"python"),
    ("nginx, Lua", r"nginx|[Ll]uajit|ndk_|perf-\d+\.map"),
    ("libc", r"libc\.|libc-|libpthread|ld-linux|\[vdso\]"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: thread, the innermost symbol and its library, the kernel's call chain."""

    thread: int
    symbol: str
    library: str
    chain: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile the full product under the usual load; prints the groups, writes profile.json."""
    options = parse(arguments)
    perf = shutil.which("perf")
    if perf is None:
        print("perf is missing (Debian: apt-get install linux-perf); no profile", file=sys.stderr)
        return 1
    if missing := install(["nginx", "wrk"]):
        print("cannot measure without", " and ".join(missing), file=sys.stderr)
        return 1
    about = facts(options.python)
    with workshop() as fleet:
        try:
            run, samples, main_thread = sample(fleet, perf, options)
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    groups = print_groups(samples, main_thread, run, options.top)
    if options.contestant != "tallygate":
        return 0
    about.update(cpu_us=run.cpu_us, samples=len(samples), share=groups)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "profile.json").write_text(json.dumps(about, indent=2) + "\n")
    return 0


def sample(
    fleet: Fleet, perf: str, options: argparse.Namespace
) -> tuple[Measured, list[Sample], int]:
    """One run of load with perf watching: the run, its samples, the main thread's id."""
    gateway_core, load_core = two_cores()
    os.sched_setaffinity(0, {load_core})
    body = backend_body(316)
    port = start_backend(fleet, load_core, body)
    stage = Stage(fleet, options.python, gateway_core, load_core, port, bench_key())
    gateway = start(options.contestant, stage)
    path = measured_path(stage.routes)
    prove(gateway, stage, path, body)
    load = Load(options.connections, load_core, stage.key)
    run_wrk(gateway.url(path), load, 3)
    data = fleet.directory / "perf.data"
    pids = ",".join(str(pid) for pid in gateway.server.pids())
    command = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY_HZ)]
    command += ["-g", "-p", pids, "-o", str(data)]
    recorder = fleet.start("perf", command, load_core)
    run = measure(gateway.server, gateway.url(path), load, options.seconds)
    fleet.end(recorder)
    if not data.exists() or data.stat().st_size == 0:
        raise BenchError(f"perf recorded nothing: {recorder.tail()}")
    return run, list(read_samples(perf, data)), gateway.server.pids()[0]


def read_samples(perf: str, data: Path) -> Iterator[Sample]:
    """The samples of a perf file. Raises BenchError when perf cannot read it."""
    command = [perf, "script", "-i", str(data), "-F", "tid,ip,sym,dso"]
    text = subprocess.run(command, capture_output=True, text=True, check=False)
    if text.returncode != 0:
        raise BenchError(f"perf script failed: {text.stderr.strip()[-500:]}")
    for block in text.stdout.split("\n\n"):
        lines = block.strip("\n").splitlines()
        if len(lines) < 2 or not lines[0].strip().isdigit():
            continue
        frames = [match.groups() for line in lines[1:] if (match := _FRAME.match(line))]
        if frames:
            symbol, library = frames[0]
            chain = " ".join(symbol for symbol, where in frames if is_kernel(where))
            yield Sample(int(lines[0]), symbol, library, chain)


_FRAME = re.compile(r"\s*[0-9a-f]+ (.*) \((.*)\)$")


def is_kernel(library: str) -> bool:
    """Whether perf means the kernel or one of its modules."""
    return library.startswith("[kernel") or library.endswith((".ko", ".ko.xz"))


def group_of(sample_: Sample) -> str:
    """The group a sample belongs to."""
    if is_kernel(sample_.library):
        for group, pattern in KERNEL_GROUPS:
            if re.search(pattern, sample_.chain):
                return group
        return "kernel: other (entry, scheduling)"
    text = f"{sample_.library}:{sample_.symbol}"
    for group, pattern in USER_GROUPS:
        if re.search(pattern, text):
            return group
    return "other"


def print_groups(
    samples: Sequence[Sample], main_thread: int, run: Measured, top: int
) -> dict[str, float]:
    """Print microseconds per request by group and the top symbols; returns shares by group."""
    groups: collections.Counter[str] = collections.Counter()
    symbols: collections.Counter[str] = collections.Counter()
    for one in samples:
        where = "" if one.thread == main_thread else ", other threads"
        groups[group_of(one) + where] += 1
        symbols[f"{one.symbol} ({Path(one.library).name})"] += 1
    total = len(samples) or 1
    print(f"{run.cpu_us:.1f} us of CPU per request, {run.rps:.0f} req/s, {len(samples)} samples\n")
    print(f"{'group':<50}{'share':>7}{'us/req':>9}")
    for group, count in groups.most_common():
        print(f"{group:<50}{count / total:>7.1%}{count / total * run.cpu_us:>9.2f}")
    print(f"\n{'symbol':<50}{'share':>7}")
    for symbol, count in symbols.most_common(top):
        print(f"{symbol:<50}{count / total:>7.1%}")
    return {group: round(count / total, 4) for group, count in groups.most_common()}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10, help="of load (10)")
    parser.add_argument("--connections", type=int, default=32, help="of the load (32)")
    parser.add_argument("--top", type=int, default=15, help="symbols to print (15)")
    parser.add_argument("--contestant", default="tallygate", help="whom to profile")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the gateway")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
