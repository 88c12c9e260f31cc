"""The servers that keep the shared state, behind one small interface.

A call is tried once: the client library's own retries would run a script twice after a
lost reply, where the line (link.py) sends the same batch again and the script knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from gateway.state.shared.link import Reply, StateUnavailable

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError, NoScriptError, RedisError
except ImportError as error:  # pragma: no cover - the extra is not installed
    raise ImportError(f"expected redis: pip install 'tallygate[redis]' ({error})") from None

SCRIPT = (files(__package__) / "run.lua").read_text()


class RedisServer:
    """Redis or Valkey at a URL, one server. Implements link.Server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`timeout_s` is for a connection, and for the reply to a call."""
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            redis_connect_func=self._connected,
        )
        self._sha = ""
        self._run_id = ""  # of the process that was connected to last

    async def _connected(self, connection: Any) -> None:
        """The library connects anew by itself; whether to the same process, we have to know."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        info = await connection.read_response()
        before, self._run_id = self._run_id, _run_id(info.decode())
        if before not in ("", self._run_id):
            raise ConnectionError("another server process answers now")

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        try:
            if not self._sha:
                self._sha = await self._redis.script_load(SCRIPT)
            try:
                reply: Reply = await self._redis.evalsha(self._sha, len(keys), *keys, *arguments)
            except NoScriptError:
                await self._redis.script_load(SCRIPT)
                reply = await self._redis.evalsha(self._sha, len(keys), *keys, *arguments)
            return reply
        except (RedisError, OSError, TimeoutError) as error:
            raise StateUnavailable(f"{type(error).__name__}: {error}") from error

    async def command(self, *words: str | int) -> Any:
        """One command of the server. Raises StateUnavailable."""
        try:
            return await self._redis.execute_command(*words)
        except (RedisError, OSError, TimeoutError) as error:
            raise StateUnavailable(f"{type(error).__name__}: {error}") from error

    async def run_id(self) -> str:
        """Of the server's process. Raises StateUnavailable."""
        await self.command("PING")
        return self._run_id

    async def remove(self, pattern: str) -> None:
        """All keys of a pattern, a few at a time. Raises StateUnavailable."""
        cursor = 0
        while True:
            cursor, keys = await self.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            if keys:
                await self.command("UNLINK", *keys)
            if not cursor:
                return

    async def close(self) -> None:
        await self._redis.aclose()


def _run_id(info: str) -> str:
    lines = [line.partition(":") for line in info.splitlines()]
    return next(value for name, _, value in lines if name == "run_id")
