"""The servers that keep the shared state, behind one small interface.

A call is tried once: the client library's own retries would run a script twice after a
lost reply, where the line (link.py) sends the same batch again and the script knows it.
And it has to be known which process answers: another one may know less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from typing import Any

from gateway.core.state_url import StateUrl, read_state_url
from gateway.state.shared.link import Broken, Reply, Restarted, StateUnavailable

try:
    import hiredis
    from redis.asyncio import Redis
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AskError,
        ConnectionError,
        MovedError,
        NoScriptError,
        RedisError,
        ResponseError,
        TryAgainError,
    )
except ImportError as error:  # pragma: no cover - the extra is not installed
    raise ImportError(f"expected redis: pip install 'tallygate[redis]' ({error})") from None

_pack: Any = hiredis.pack_command  # its type says that it takes one word
SCRIPT = (files(__package__) / "run.lua").read_text()
_ERRORS = (RedisError, OSError, TimeoutError)


class _Another(ConnectionError):
    """The connection found another process than the one before."""


class Elsewhere(StateUnavailable):
    """Another node of the Cluster has the slot. Nothing was done."""

    def __init__(self, text: str, host: str, port: int) -> None:
        super().__init__(text)
        self.address = (host, port)


class Moving(StateUnavailable):
    """The slot is on its way to another node. Nothing was done."""


class RedisServer:
    """Redis or Valkey at a URL: one server, or the one that Sentinels name.

    Implements groups.GroupServer. One call at a time on one connection, so it is known
    which process each call is for. The connection is the library's; a call by the
    library's client costs more processor time than a whole batch.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """`timeout_s` is for a connection, and for the reply to a call."""
        self._redis, self._sentinel = _client(read_state_url(url), timeout_s, self._connected)
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._is_closed = False
        self._lock = asyncio.Lock()
        self._digests: dict[str, str] = {}  # of scripts, as the server names them
        self._process = ""  # that was connected to last
        self._ran_on = ""  # that the last batch was for

    async def _connected(self, connection: Any) -> None:
        """Another connection may be to another process."""
        await connection.on_connect()
        found = await _process_of(connection)
        before, self._process = self._process, found
        if before not in ("", found):
            raise _Another("another server process answers now")

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        reply: Reply = await self._call(lambda: self._run(keys, arguments))
        return reply

    async def _run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        try:
            # Somebody else's call may have found that out.
            if self._ran_on not in ("", self._process):
                raise _Another("another server process answers now")
            reply: Reply = await self._evaluate(SCRIPT, keys, arguments)
            return reply
        except _Another as error:
            raise Restarted(str(error)) from error
        finally:
            self._ran_on = self._process

    async def script(self, text: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        return await self._call(lambda: self._evaluate(text, keys, arguments))

    async def command(self, *words: str | int) -> Any:
        return await self._call(lambda: self._execute(*words))

    async def process(self) -> str:
        # What was told when it was connected to may have changed since: asked again.
        async def ask() -> str:
            return await _process_of(await self._connect())

        process: str = await self._call(ask)
        return process

    async def remove(self, pattern: str) -> None:
        cursor = 0
        while True:
            cursor, keys = await self.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            if keys:
                await self.command("UNLINK", *keys)
            if not cursor:
                return

    async def close(self) -> None:
        """When the other end has said good-bye too, or its timeout is over. Calls fail then."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_ERRORS):
                await connection.disconnect()
        if self._sentinel is not None:
            with suppress(*_ERRORS):
                await self._sentinel.aclose()

    # -- one call after the other ---------------------------------------------

    async def _call(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The timeout is of all of it: who has the connection may be waiting for its own."""
        try:
            async with asyncio.timeout(self._timeout_s), self._lock:
                try:
                    return await work()
                except (ResponseError, Restarted):
                    raise
                except BaseException:
                    # A reply may yet come, and nobody may take it for that of another call.
                    await self._hang_up()
                    raise
        except _ERRORS as error:
            raise _unavailable(error, self._timeout_s) from error

    async def _connect(self) -> Any:
        if self._is_closed:
            raise ConnectionError("the connection was closed")
        if self._connection is None:
            self._connection = self._redis.connection_pool.make_connection()
        if not self._connection.is_connected:
            await self._connection.connect()
        return self._connection

    async def _hang_up(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _execute(self, *words: str | int) -> Any:
        connection = await self._connect()
        await connection.send_command(*words, check_health=False)
        return await self._redis.parse_response(connection, str(words[0]))

    async def _evaluate(
        self, text: str, keys: Sequence[str], arguments: Sequence[str | int | bytes]
    ) -> Any:
        connection = await self._connect()
        digest = self._digests.get(text)
        if digest is None:
            digest = self._digests[text] = sha1(text.encode(), usedforsecurity=False).hexdigest()
        packed = _pack(("EVALSHA", digest, len(keys), *keys, *arguments))
        await connection.send_packed_command(packed, check_health=False)
        try:
            return await connection.read_response()
        except NoScriptError:
            await self._execute("SCRIPT", "LOAD", text)
            await connection.send_packed_command(packed, check_health=False)
            return await connection.read_response()


def _client(
    url: StateUrl, timeout_s: float, connected: Callable[[Any], Coroutine[Any, Any, None]]
) -> tuple[Any, Any]:
    """The client, and what it asks where the server is, if it does."""
    options: dict[str, Any] = {
        # Calls have a timeout of ours: the library puts each write and each read into a task.
        "socket_timeout": None,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    address = url.at(*url.hosts[0])
    if url.kind != "sentinel":
        return Redis.from_url(address, **options, redis_connect_func=connected), None
    options |= {"ssl": True} if url.is_tls else {}
    given = {**parse_url(address), **options}
    for name in ("host", "port", "connection_class"):
        given.pop(name, None)
    make: Any = Sentinel  # its constructor has no types
    sentinels = make(url.hosts, sentinel_kwargs=_for_sentinels(url, given), **given)
    return sentinels.master_for(url.service, redis_connect_func=connected), sentinels


def _for_sentinels(url: StateUrl, given: dict[str, Any]) -> dict[str, Any]:
    """As for the server, but for the names and the database, which are the server's."""
    options = {name: v for name, v in given.items() if name not in ("username", "password", "db")}
    for name, value in url.options:
        if name.startswith("sentinel_"):
            options[name.removeprefix("sentinel_")] = value
    return options


def _unavailable(error: Exception, timeout_s: float) -> StateUnavailable:
    if isinstance(error, TimeoutError) and not str(error):  # of ours, which has no text
        return StateUnavailable(f"TimeoutError: no answer within {timeout_s:g} s")
    if isinstance(error, MasterNotFoundError):  # its text is all that was tried
        return StateUnavailable("no Sentinel that answers knows the server")
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MovedError):
        hint = "another node has it; redis+cluster:// is the URL of a Cluster"
        return Elsewhere(f"{text} ({hint})", error.host, error.port)
    if isinstance(error, AskError | TryAgainError):
        return Moving(text)
    if isinstance(error, ResponseError) and "script" in text:
        return Broken(text)
    return StateUnavailable(text)


async def _process_of(connection: Any) -> str:
    """Which process it is, and whose writes it has."""
    found = ""
    for section, figure in (("server", "run_id"), ("replication", "master_replid")):
        await connection.send_command("INFO", section)
        found += _figure((await connection.read_response()).decode(), figure)[:16]
    return found


def _figure(info: str, name: str) -> str:
    lines = [line.partition(":") for line in info.splitlines()]
    return next(value for key, _, value in lines if key == name)
