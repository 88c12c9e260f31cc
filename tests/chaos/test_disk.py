"""No room for the journal: requests are refused, and what was let in is recorded."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos, Form
from tests.chaos.scene import Scene, Servers
from tests.support.gateway import Gateway
from tests.support.until import until

REFUSED = Excuse(frozenset({"journal_full"}))
SMALL = {"segment_size": "64KiB", "max_size": "128KiB"}


def _wait_full(gateway: Gateway) -> None:
    until(
        lambda: gateway.admin("/readyz").body,
        lambda body: b"journal full" in body,
        what="a full journal",
        deadline_s=60,
    )


class Disk:
    """A small file system of its own that something else fills."""

    def __init__(self, at: Path, trouble: str) -> None:
        self.trouble = trouble
        self._ballast = at / "ballast"
        self._is_over = threading.Event()
        self._filler = threading.Thread(target=self._fill, daemon=True)
        self.at = at

    def fill(self) -> None:
        """All of it, and again whatever becomes free."""
        self._is_over.clear()
        self._filler = threading.Thread(target=self._fill, daemon=True)
        self._filler.start()

    def _fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            while not self._is_over.wait(0.005):
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    continue

    def free(self) -> None:
        self._is_over.set()
        self._filler.join()
        self._ballast.unlink()


def _mounted(at: Path) -> str:
    """What stands in the way of a file system there; "" when it is there."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tallygate-chaos", str(at)]
    try:
        return subprocess.run(mount, capture_output=True, text=True).stderr.strip()
    except FileNotFoundError as error:
        return str(error)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """Without a file system of its own where none may be mounted: `trouble` says why."""
    at = tmp_path_factory.mktemp("disk")
    made = Disk(at, _mounted(at))
    yield made
    if not made.trouble:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.fixture(scope="module")
def small(
    servers: Servers, form: Form, disk: Disk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Gateways with little room; the first has its data on the disk."""
    home = tmp_path_factory.mktemp("small")
    made = Scene(servers, home, casts=2 * form.rounds, scale=form.scale, journal=SMALL)
    made.gateways[0].data_dir.symlink_to(disk.at)
    try:
        yield made.start()
        made.stop()
    finally:
        made.close()


def test_a_journal_that_may_not_grow_further(chaos: Chaos, small: Scene) -> None:
    """The store is away for longer than the journal has room."""

    def freeze() -> None:
        small.store.freeze()
        for gateway in small.gateways:
            _wait_full(gateway)

    calls = chaos.play(small, "journal full (store frozen)", freeze, small.store.thaw, REFUSED)
    assert [call for call in calls if call.code == "journal_full"]


def test_a_disk_that_is_full(chaos: Chaos, small: Scene, disk: Disk) -> None:
    if disk.trouble:
        pytest.skip(f"a file system cannot be mounted here: {disk.trouble}")

    def fill() -> None:
        disk.fill()
        _wait_full(small.gateways[0])

    calls = chaos.play(small, "disk of one gateway full", fill, disk.free, REFUSED)
    assert [call for call in calls if call.code == "journal_full"]
