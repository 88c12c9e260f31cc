"""The backend of the upload measurement: reads a body, throws it away, says how long it was.

    python sink.py PORT

Only Content-Length is understood: the benchmark's client sends nothing else.
A body that ends early is an error of the measurement, seen as a missing answer.
"""

from __future__ import annotations

import asyncio
import sys

BUFFER_BYTES = 1 << 20


class Sink(asyncio.BufferedProtocol):
    """One connection. Bodies are read into one buffer, over and over."""

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._head = b""
        self._length = 0
        self._missing = 0  # bytes of the body still to come
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Always the same memory, whatever size is suggested."""
        del sizehint
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of a head or of a body."""
        if not self._missing:
            self._head += self._view[:nbytes]
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._length = content_length(head)
            self._missing, nbytes = self._length, len(body)
        self._missing -= nbytes
        if self._missing <= 0:
            self._answer()

    def _answer(self) -> None:
        body = f'{{"received": {self._length - self._missing}}}\n'.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        assert self._transport is not None
        self._transport.write(head.encode() + b"\r\n\r\n" + body)


def content_length(head: bytes) -> int:
    """The declared length, 0 when there is none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


async def main(port: int) -> None:
    """Serve until told to end."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
