"""The servers that keep the shared state, behind one small interface.

A call is tried once: the client library's own retries would run a script twice after a
lost reply, where the line (link.py) sends the same batch again and the script knows it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from gateway.state.shared.link import Reply, Restarted, StateUnavailable

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError as error:  # pragma: no cover - the extra is not installed
    raise ImportError(f"expected redis: pip install 'tallygate[redis]' ({error})") from None

SCRIPT = (files(__package__) / "run.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as the server names it


class RedisServer:
    """Redis or Valkey at a URL, one server. Implements link.Server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`timeout_s` is for a connection, and for the reply to a call."""
        self._timeout_s = timeout_s
        # The library would put each write and each read into a task for a timeout of its own.
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            redis_connect_func=self._connected,
        )
        self._line: Any = None  # the connection that batches go over
        self._run_id = ""  # of the process that was connected to last
        self._ran_on = ""  # of the process that batches went to last

    async def _connected(self, connection: Any) -> None:
        """The library connects anew by itself; whether to the same process, we have to know."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        info = await connection.read_response()
        self._run_id = _run_id(info.decode())

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        words = (len(keys), *keys, *arguments)
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._line is None:
                    await self._connect()
                try:
                    reply: Reply = await self._evaluate(words)
                except NoScriptError:
                    await self._line.send_command("SCRIPT", "LOAD", SCRIPT)
                    await self._line.read_response()
                    reply = await self._evaluate(words)
            return reply
        except (RedisError, OSError, TimeoutError) as error:
            await self._hang_up()
            raise StateUnavailable(f"{type(error).__name__}: {error}") from error

    async def _connect(self) -> None:
        self._line = await self._redis.connection_pool.get_connection()
        before, self._ran_on = self._ran_on, self._run_id
        if before not in ("", self._run_id):
            raise Restarted("another process of the server answers now")

    async def _evaluate(self, words: tuple[str | int | bytes, ...]) -> Reply:
        """On the one connection that batches go over: what the library does for every command
        costs more than the command."""
        line = self._line
        packed = line.pack_command("EVALSHA", SHA, *words)
        await line.send_packed_command(packed, check_health=False)
        reply: Reply = await line.read_response()
        return reply

    async def _hang_up(self) -> None:
        """The reply may yet come: nobody else may read it."""
        line, self._line = self._line, None
        if line is not None:
            await line.disconnect(nowait=True)
            await self._redis.connection_pool.release(line)

    async def command(self, *words: str | int) -> Any:
        """One command of the server. Raises StateUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
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
        await self._hang_up()
        await self._redis.aclose()


def _run_id(info: str) -> str:
    lines = [line.partition(":") for line in info.splitlines()]
    return next(value for name, _, value in lines if name == "run_id")
