"""The tap: what an answer's body says about its price, read as it passes.

Question: which figures stand in the answer? Invariants: the client's bytes are
never changed or held back; what cannot be read (another compression, broken
JSON, more than the limit) is simply not there, and the price's rule for a
missing figure applies. A server-sent event stream is read event by event, and
the last event that has a figure counts. Must not know prices or accounts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import orjson

from gateway.core.figures import Figure, look_up

# One event of a stream; a longer one is passed on and not looked at.
EVENT_BYTES_MAX = 1_048_576


class AnswerTap:
    """Reads one answer. `feed` every piece of its body, then `finish`."""

    __slots__ = ("events", "_most", "_chunks", "_size", "_unpacker", "_is_stream", "_wanted",
                 "_line", "_data", "_data_size", "_found", "_document", "_is_blind",
                 "_is_begun")  # fmt: skip

    def __init__(
        self, figures: Iterable[Figure], content_type: str, encoding: str, most: int
    ) -> None:
        self.events = 0
        self._most = most
        self._chunks: list[bytes] = []
        self._size = 0
        coding = encoding.strip().lower()
        packed = coding not in ("", "identity")
        self._unpacker = zlib.decompressobj(47) if packed else None
        self._is_blind = packed and coding not in ("gzip", "x-gzip", "deflate")
        self._is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._wanted = [
            (figure, _last_key(figure)) for figure in figures if figure.source == "stream.json"
        ]
        self._line = b""
        self._is_begun = False
        self._data: list[bytes] = []
        self._data_size = 0
        self._found: dict[Figure, object] = {}
        self._document: object = None

    def feed(self, data: bytes) -> None:
        """A piece of the body, as the backend sent it."""
        if self._is_blind or not data:
            return
        if self._unpacker is not None:
            most = EVENT_BYTES_MAX if self._is_stream else self._most - self._size + 1
            try:
                while data:
                    self._plain(self._unpacker.decompress(data, max(most, 1)))
                    data = self._unpacker.unconsumed_tail
                    if self._unpacker.eof:
                        # gzip may come in several members (RFC 1952 2.2), one after the other.
                        data = self._unpacker.unused_data.lstrip(b"\0")
                        self._unpacker = zlib.decompressobj(47)
                    elif data and not self._is_stream:
                        self._is_blind = True  # more than may be kept
                        return
            except zlib.error:
                self._is_blind = True
        else:
            self._plain(data)

    def _plain(self, data: bytes) -> None:
        if self._is_stream:
            self._lines(data)
            return
        self._size += len(data)
        if self._size > self._most:
            self._is_blind = True
            self._chunks.clear()
        else:
            self._chunks.append(data)

    def finish(self) -> None:
        """The body has ended, or will not come."""
        if self._is_stream:
            self._lines(b"\n\n")  # what was said before a stream broke off was said
            return
        if self._chunks and not self._is_blind:
            try:
                self._document = orjson.loads(b"".join(self._chunks))
            except orjson.JSONDecodeError:
                self._document = None
        self._chunks.clear()

    def find(self, figure: Figure) -> object:
        """What stands at a figure of the answer's body; None where nothing does."""
        if figure.source == "stream.json":
            return self._found.get(figure)
        return look_up(self._document, figure.steps)

    # -- server-sent events (WHATWG HTML, 9.2.6) ---------------------------

    def _lines(self, data: bytes) -> None:
        text = self._line + data if self._line else data
        if len(text) > EVENT_BYTES_MAX and b"\n" not in data:
            text = b":"  # the rest of an endless line is a comment to us
        # A CR at the very end may be half of a CRLF: an empty line more would end the event.
        half = text[-1:] if text.endswith(b"\r") else b""
        text = text[: len(text) - len(half)]
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line = lines.pop() + half
        if lines and not self._is_begun:
            self._is_begun = True
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")  # a byte order mark
        for line in lines:
            if not line:
                self._end_event()
            elif line.startswith(b"data:") and self._data_size < EVENT_BYTES_MAX:
                self._data.append(line[5:])
                self._data_size += len(line)

    def _end_event(self) -> None:
        if not self._data:
            return
        data = b"\n".join(self._data)
        self._data.clear()
        self._data_size = 0
        self.events += 1
        is_escaped = b"\\u" in data
        wanted = [figure for figure, key in self._wanted if key in data or is_escaped]
        if not wanted:
            return
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        for figure in wanted:
            found = look_up(document, figure.steps)
            if found is not None:
                self._found[figure] = found


def _last_key(figure: Figure) -> bytes:
    """The last key of a path, as it stands in an event that has it; b"" where there is none."""
    keys = [step for step in figure.steps if isinstance(step, str)]
    return f'"{keys[-1]}"'.encode() if keys else b""
