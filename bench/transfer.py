"""What does a byte cost? One large download and upload, beside nginx.

    python -m bench.transfer [--gigabytes 1] [--rounds 3]

Processor seconds per GB (1,000,000,000 bytes) of tallygate and of nginx, and the
highest memory tallygate ever had. Downloads come from an nginx serving a file,
uploads go into a sink. nginx streams as we do: proxy_request_buffering off (with
it on, nginx would write the upload to a file first); for downloads it is measured
with proxy_buffering on (without temporary files) and off, and the cheaper counts.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.contestants import (
    PEERS,
    Contestant,
    Stage,
    setup_tallygate,
    start_nginx,
    start_tallygate,
)
from bench.gateway_config import bench_key
from bench.load import wait_until_ready
from bench.machine import facts, install
from bench.processes import BenchError, Fleet, free_port, two_cores, workshop
from bench.run import RESULTS

RATIO_MAX = 2.5
PEAK_RSS_MAX_MB = 150.0
CHUNK_BYTES = 1 << 20
PATH = "/transfer/large.bin"
SILENCE_MAX_S = 60.0
BUFFERING = {
    "nginx, buffering on": "proxy_max_temp_file_size 0;",
    "nginx, buffering off": "proxy_buffering off;",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One gateway and one direction."""

    name: str
    direction: str  # download, upload
    contestant: Contestant


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all ways round by round, print the ratios, write transfer.json."""
    options = parse(arguments)
    if missing := install(["nginx"]):
        print("cannot measure without", " and ".join(missing), file=sys.stderr)
        return 1
    size = round(options.gigabytes * 1e9)
    about = facts(options.python)
    with workshop() as fleet:
        try:
            ways = start_ways(fleet, options, size)
            costs = measure_all(ways, options.rounds, size)
        except (BenchError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        ours = [way for way in ways if way.contestant.name == "tallygate"]
        peaks = {way.direction: way.contestant.server.peak_rss_mb() for way in ours}
    print_costs(costs, peaks)
    result = {**about, "cpu_s_per_gb": costs, "peak_rss_mb": peaks}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "transfer.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


def start_ways(fleet: Fleet, options: argparse.Namespace, size: int) -> list[Way]:
    """Start both backends and, in front of each, the gateways to compare."""
    gateway_core, load_core = two_cores()
    os.sched_setaffinity(0, {load_core})
    file_port, sink_port = start_file_backend(fleet, load_core, size), free_port()
    command = [options.python, str(PEERS / "sink.py"), str(sink_port)]
    wait_until_ready(fleet.start("sink", command, load_core), sink_port, "/", None)
    stage = Stage(fleet, options.python, gateway_core, load_core, file_port, bench_key())
    ways = []
    for name, extra in BUFFERING.items():
        ways.append(Way(name, "download", nginx(stage, file_port, extra)))
    ways.append(Way("nginx", "upload", nginx(stage, sink_port, "proxy_request_buffering off;")))
    if not options.peers_only:
        for direction, port in (("download", file_port), ("upload", sink_port)):
            usual = setup_tallygate(stage, f"tallygate-{direction}")
            setup = replace(usual, backend_port=port, transfers=True)
            ways.append(Way("tallygate", direction, start_tallygate(stage, setup)))
    return ways


def start_file_backend(fleet: Fleet, core: int, size: int) -> int:
    """Start an nginx that serves a sparse file of `size` bytes; returns its port."""
    root = fleet.directory / "files"
    file = root / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.touch()
    os.truncate(file, size)
    port = free_port()
    answer = f"root {root}; sendfile on; sendfile_max_chunk 2m;"
    start_nginx(fleet, "backend", core, {"port": port, "answer": answer})
    return port


def nginx(stage: Stage, backend_port: int, extra: str) -> Contestant:
    """Start a bare nginx proxy with a few more directives."""
    port = free_port()
    values: dict[str, object] = {"port": port, "backend": backend_port, "extra": extra}
    name = f"nginx-{port}"
    server = start_nginx(stage.fleet, "nginx", stage.gateway_core, values, name)
    return Contestant(name, server, port)


def measure_all(ways: Sequence[Way], rounds: int, size: int) -> dict[str, dict[str, list[float]]]:
    """Processor seconds per GB: {direction: {name: [one per round]}}."""
    costs: dict[str, dict[str, list[float]]] = {"download": {}, "upload": {}}
    for number in range(1, rounds + 1):
        for way in ways:
            server = way.contestant.server
            server.settle()
            before = server.cpu_s()
            (download if way.direction == "download" else upload)(way.contestant.port, size)
            server.settle()
            cost = (server.cpu_s() - before) / (size / 1e9)
            costs[way.direction].setdefault(way.name, []).append(cost)
            print(f"round {number} {way.direction:<9} {way.name:<22}{cost:>7.2f} s/GB", flush=True)
    return costs


def download(port: int, size: int) -> None:
    """GET the file and count its bytes. Raises BenchError, OSError."""
    buffer = bytearray(CHUNK_BYTES)
    with connect(port) as client:
        client.sendall(head("GET", 0))
        received = read_head(client, b" 200 ")
        while received < size:
            count = client.recv_into(buffer)
            if count == 0:
                raise BenchError(f"the download ended after {received} of {size} bytes")
            received += count


def upload(port: int, size: int) -> None:
    """PUT `size` bytes and read what the sink says it got. Raises BenchError, OSError."""
    chunk = memoryview(bytes(CHUNK_BYTES))
    with connect(port) as client:
        client.sendall(head("PUT", size))
        for offset in range(0, size, CHUNK_BYTES):
            client.sendall(chunk[: min(CHUNK_BYTES, size - offset)])
        answer = b""
        while b'{"received"' not in answer or not answer.endswith(b"}\n"):
            data = client.recv(CHUNK_BYTES)
            if not data:
                raise BenchError(f"no whole answer to the upload: {answer[:300]!r}")
            answer += data
    if not answer.startswith(b"HTTP/1.1 200 ") or b'{"received": %d}' % size not in answer:
        raise BenchError(f"the upload was answered with {answer[:300]!r}")


def connect(port: int) -> socket.socket:
    """A connection that gives up after a minute of silence."""
    return socket.create_connection(("127.0.0.1", port), SILENCE_MAX_S)


def head(method: str, length: int) -> bytes:
    """A request head with the key and, for a body, its length."""
    lines = [f"{method} {PATH} HTTP/1.1", "Host: bench", f"Authorization: Bearer {bench_key()}"]
    if length:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def read_head(client: socket.socket, status: bytes) -> int:
    """Read the answer's head; returns how many bytes of the body came along."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = client.recv(65536)
        if not data:
            raise BenchError(f"the connection ended in the head: {answer[:300]!r}")
        answer += data
    if status not in answer.split(b"\r\n", 1)[0]:
        raise BenchError(f"answered with {answer[:300]!r}")
    return len(answer.partition(b"\r\n\r\n")[2])


def print_costs(costs: dict[str, dict[str, list[float]]], peaks: dict[str, float]) -> None:
    """The medians, the ratios to the cheapest nginx, and the highest memory."""
    print(f"\n{'direction':<11}{'gateway':<24}{'CPU s/GB':>9}")
    for direction, by_name in costs.items():
        medians = {name: statistics.median(runs) for name, runs in by_name.items()}
        for name, cost in medians.items():
            print(f"{direction:<11}{name:<24}{cost:>9.2f}")
        if "tallygate" in medians:
            ours = medians.pop("tallygate")
            ratio = ours / min(medians.values())
            word = "OK" if ratio <= RATIO_MAX else "MISSED"
            print(f"{direction:<11}{'tallygate / nginx':<24}{ratio:>9.2f}  <= {RATIO_MAX} {word}")
    for direction, peak in peaks.items():
        word = "OK" if peak < PEAK_RSS_MAX_MB else "MISSED"
        print(f"peak RSS, {direction}: {peak:.1f} MB, required < {PEAK_RSS_MAX_MB:.0f}: {word}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of each transfer (1)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--peers-only", action="store_true", help="without tallygate")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the gateway")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
