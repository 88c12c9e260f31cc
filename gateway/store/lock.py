"""One gateway on a data directory: who may write?

Invariant: at most one process holds the lock; the kernel lets go of it when the process
dies, so a stale lock file means nothing. Must not be put on a network file system.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from gateway.store.base import StoreError


class DataLocked(StoreError):
    """Another process has the data directory; `pid` names it, 0 when it did not say."""

    def __init__(self, directory: Path, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{directory}: in use by {who}: stop that gateway, or give this one another data_dir"
        )
        self.pid = pid


class DataLock:
    """`with DataLock(data_dir): ...`; held until close or the end of the process."""

    def __init__(self, directory: str | Path) -> None:
        """Raises DataLocked, or OSError when the directory cannot be written."""
        home = Path(directory)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(self._fd, 20, 0).strip()
            os.close(self._fd)
            raise DataLocked(home, int(text) if text.isdigit() else 0) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    @property
    def fd(self) -> int:
        """A process that inherits it holds the lock, too."""
        return self._fd

    def close(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def __enter__(self) -> DataLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
