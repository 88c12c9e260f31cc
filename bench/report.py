"""What came out? Medians, the table, the required ratios, the two result files.

Invariant: latest.json has exactly the agreed shape and only medians of complete,
error-free runs; everything else goes into latest-details.json.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.load import Measured

FIELDS = ("rps", "p50_ms", "p99_ms", "cpu_us", "rss_mb")
DIGITS = {"rps": 0, "p50_ms": 3, "p99_ms": 3, "cpu_us": 2, "rss_mb": 1}


@dataclass(frozen=True, slots=True)
class Requirement:
    """The gateway's CPU per request divided by a peer's, and what is asked of it."""

    peer: str
    at_most: float
    aim: float
    strict: bool = False  # below, not at most

    def holds(self, ratio: float) -> bool:
        """Whether the ratio is good enough."""
        return ratio < self.at_most if self.strict else ratio <= self.at_most


REQUIREMENTS = (
    Requirement("openresty", 3.5, 2.5),
    Requirement("caddy", 0.85, 0.6, strict=True),
    Requirement("aiohttp_naive", 1 / 3, 1 / 4),
)


def medians(rounds: Sequence[Measured]) -> dict[str, float]:
    """The median of each figure over the rounds, in the agreed shape."""
    return {
        name: round(statistics.median(getattr(run, name) for run in rounds), DIGITS[name])
        for name in FIELDS
    }


def print_table(results: Mapping[str, Sequence[Measured]], errors: Mapping[str, str]) -> None:
    """Print medians and spread, then the ratios with OK or MISSED."""
    head = ("contestant", "req/s", "p50 ms", "p99 ms", "CPU us/req", "(min-max)", "RSS MB")
    print("\n{:<14}{:>10}{:>9}{:>9}{:>12}{:>16}{:>9}".format(*head))
    for name, rounds in results.items():
        m = medians(rounds)
        cpu = [run.cpu_us for run in rounds]
        print(
            f"{name:<14}{m['rps']:>10.0f}{m['p50_ms']:>9.2f}{m['p99_ms']:>9.2f}"
            f"{m['cpu_us']:>12.1f}{f'({min(cpu):.1f}-{max(cpu):.1f})':>16}{m['rss_mb']:>9.1f}"
        )
    for name, error in errors.items():
        print(f"{name:<14}  ERROR: {error}")
    for line in ratio_lines(results):
        print(line)


def ratio_lines(results: Mapping[str, Sequence[Measured]]) -> list[str]:
    """One line for each required ratio that can be told."""
    if "tallygate" not in results:
        return ["", "tallygate was not measured: no ratios"]
    ours = medians(results["tallygate"])["cpu_us"]
    lines = ["", f"{'CPU per request, tallygate / peer':<36}{'ratio':>7}  required"]
    for requirement in REQUIREMENTS:
        if requirement.peer not in results:
            lines.append(f"  / {requirement.peer:<32}{'-':>7}  not measured")
            continue
        ratio = ours / medians(results[requirement.peer])["cpu_us"]
        sign = "<" if requirement.strict else "<="
        verdict = "OK" if requirement.holds(ratio) else "MISSED"
        lines.append(
            f"  / {requirement.peer:<32}{ratio:>7.3f}  {sign} {requirement.at_most:.3g}"
            f" (aim {requirement.aim:.3g})  {verdict}"
        )
    if "nginx" in results:
        ratio = ours / medians(results["nginx"])["cpu_us"]
        lines.append(f"  / {'nginx':<32}{ratio:>7.3f}  for information")
    return lines


def write_results(
    directory: Path,
    results: Mapping[str, Sequence[Measured]],
    errors: Mapping[str, str],
    facts: Mapping[str, object],
) -> None:
    """Write latest.json and latest-details.json."""
    directory.mkdir(parents=True, exist_ok=True)
    latest = {name: medians(rounds) for name, rounds in results.items()}
    details = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "errors": dict(errors),
        "rounds": {
            name: [dataclasses.asdict(run) for run in rounds] for name, rounds in results.items()
        },
    }
    (directory / "latest.json").write_text(json.dumps(latest, indent=2) + "\n")
    (directory / "latest-details.json").write_text(json.dumps(details, indent=2) + "\n")
