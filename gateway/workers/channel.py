"""Messages between the supervisor and one worker, over a pair of sockets that both inherit.

Invariants: messages are whole and handled in the order in which they were sent; what is
asked is answered once, or the asker is told that nobody will; the end of either process is
the end of the channel. Messages are pickles, which only ever come from the process that has
the other end: a book of prices goes as it is. Must not know what they mean.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

LENGTH_BYTES = 4
ASK_S = 1.0  # a worker answers within a turn of its loop


class Message(NamedTuple):
    """`kind`: tell, ask, answer (the argument is the value) or failed (it is the reason)."""

    kind: str
    number: int  # of the question
    what: str
    argument: Any


# Answers a question; what it gives for something that was only told is not looked at.
Serve = Callable[[str, Any], Awaitable[Any]]


class ChannelClosed(Exception):
    """The other process has ended."""


class NotAnswered(Exception):
    """The other process could not do it; the text says why."""


class Channel:
    """One end. `run` serves until the other end is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """The channel over one end of a pair, which it owns from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def receive(self) -> Message:
        """The next message, for who does not serve yet. Raises ChannelClosed."""
        try:
            head = await self._reader.readexactly(LENGTH_BYTES)
            body = await self._reader.readexactly(int.from_bytes(head))
        except (OSError, asyncio.IncompleteReadError):
            raise ChannelClosed from None
        return Message(*pickle.loads(body))

    async def run(self, serve: Serve) -> None:
        """Handle what comes, until the other process has ended."""
        try:
            while True:
                message = await self.receive()
                if message.kind == "tell":
                    await serve(message.what, message.argument)
                elif message.kind == "ask":
                    # Whoever answers may have to ask in turn: the next message is not held up.
                    task = asyncio.get_running_loop().create_task(self._answer(serve, message))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    self._take_answer(message)
        except ChannelClosed:
            pass
        finally:
            for question in self._questions.values():
                if not question.done():
                    question.set_exception(ChannelClosed())
            self._writer.close()

    async def _answer(self, serve: Serve, message: Message) -> None:
        try:
            value = await serve(message.what, message.argument)
        except Exception as error:  # whatever it is, the asker is waiting to hear of it
            self._send("failed", message.number, "", f"{type(error).__name__}: {error}")
        else:
            self._send("answer", message.number, "", value)

    def _take_answer(self, message: Message) -> None:
        question = self._questions.pop(message.number, None)
        if question is None or question.done():
            return  # too late
        if message.kind == "failed":
            question.set_exception(NotAnswered(message.argument))
        else:
            question.set_result(message.argument)

    def tell(self, what: str, argument: Any = None) -> None:
        """Send, and do not wait; nothing happens when the other process has ended."""
        self._send("tell", 0, what, argument)

    async def ask(self, what: str, argument: Any = None, timeout_s: float = ASK_S) -> Any:
        """The answer. Raises ChannelClosed, NotAnswered, TimeoutError."""
        if self._writer.is_closing():
            raise ChannelClosed
        self._asked += 1
        number = self._asked
        question = asyncio.get_running_loop().create_future()
        self._questions[number] = question
        self._send("ask", number, what, argument)
        try:
            return await asyncio.wait_for(question, timeout_s)
        finally:
            self._questions.pop(number, None)

    def _send(self, kind: str, number: int, what: str, argument: Any) -> None:
        if self._writer.is_closing():
            return
        body = pickle.dumps((kind, number, what, argument), pickle.HIGHEST_PROTOCOL)
        self._writer.write(len(body).to_bytes(LENGTH_BYTES) + body)

    async def close(self) -> None:
        """Send what is left, and end."""
        try:
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()
        except OSError:
            return  # the other process was faster
