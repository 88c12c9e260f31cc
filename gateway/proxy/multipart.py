"""multipart/form-data (RFC 7578), read so strictly that nobody can read it otherwise.

Question: which parts does a form have? A price counts what a backend will find, so what
two parsers could take apart differently is refused: other line ends, a boundary inside of
a part, encodings and parts of parts, folded, repeated or extended headers. Linear in the
body's size. Must not know prices.
"""

from __future__ import annotations

import re

from gateway.core.pricing import Unpriceable

PARTS_MAX = 1_000
HEAD_MAX = 4_096  # bytes of a part's head
LINES_MAX = 16
PLAIN_CODINGS = (b"7bit", b"8bit", b"binary")

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_BOUNDARY = re.compile(r"""boundary=(?:"([0-9A-Za-z'()+_,./:=? -]{1,70})"|([^\s;"]{1,70}))""", re.I)
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_PARAMETER = re.compile(
    rb";[ \t]*(" + _TOKEN + rb')=(?:"((?:[^"\\\x00-\x1f]|\\["\\])*)"|(' + _TOKEN + rb"))[ \t]*"
)


def read_parts(data: bytes, content_type: str) -> list[tuple[str, bytes]]:
    """The parts as (name, content), in order. Raises Unpriceable."""
    mark = b"--" + _boundary(content_type)
    sections = (b"\r\n" + data).split(b"\r\n" + mark)
    if len(sections) > PARTS_MAX + 2:
        raise Unpriceable(f"expected at most {PARTS_MAX} parts")
    first, *parts, last = sections if len(sections) > 1 else (b"?", b"?")
    if first or last[:2] != b"--" or last[2:].strip(b"\r\n"):
        raise Unpriceable("expected a whole multipart/form-data body, nothing around its parts")
    if data.count(mark) != len(parts) + 1:
        raise Unpriceable("expected the boundary at the beginning of lines that end with CRLF")
    return [_part(part) for part in parts]


def _boundary(content_type: str) -> bytes:
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Unpriceable("Content-Type: expected multipart/form-data or no multipart body")
    found = _BOUNDARY.findall(content_type)
    if len(found) != 1 or content_type.lower().count("boundary") != 1:
        raise Unpriceable("Content-Type: expected one boundary")
    boundary = found[0][0] or found[0][1]
    if not boundary.isascii() or boundary.endswith(" "):
        raise Unpriceable("Content-Type: expected one boundary")
    return bytes(boundary, "ascii")


def _part(section: bytes) -> tuple[str, bytes]:
    """The section begins behind its boundary."""
    if not section.startswith(b"\r\n"):
        raise Unpriceable("expected a line's end behind each boundary")
    head, mark, content = section[2:].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not mark or len(head) > HEAD_MAX or len(lines) > LINES_MAX:
        raise Unpriceable("expected a short head and a blank line in each part")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            raise Unpriceable("expected headers in each part, each on one line and once")
        headers[found[1].lower()] = found[2]
    _refuse_nested(headers)
    return _name(headers.get(b"content-disposition", b"")), content


def _refuse_nested(headers: dict[bytes, bytes]) -> None:
    """What has to be taken apart once more, and mostly is not."""
    coding = headers.get(b"content-transfer-encoding", b"binary").strip().lower()
    if coding not in PLAIN_CODINGS:
        raise Unpriceable("expected parts without Content-Transfer-Encoding")
    kind = headers.get(b"content-type", b"").strip().lower()
    if kind.startswith((b"multipart/", b"message/")):
        raise Unpriceable("expected parts that have no parts")


def _name(disposition: bytes) -> str:
    kind, _, _ = disposition.partition(b";")
    rest = disposition[len(kind) :]
    if kind.strip().lower() != b"form-data":
        raise Unpriceable("Content-Disposition: expected form-data in each part")
    names: list[bytes] = []
    at = 0
    while at < len(rest):
        found = _PARAMETER.match(rest, at)
        if found is None:
            raise Unpriceable('Content-Disposition: expected parameters such as name="field"')
        if found[1].lower() in (b"name", b"name*"):
            names.append(found[1] + b"=" + (found[2] if found[3] is None else found[3]))
        at = found.end()
    if len(names) != 1 or names[0][:5].lower() != b"name=":
        raise Unpriceable("Content-Disposition: expected one name in each part")
    try:
        return re.sub(rb"\\(.)", rb"\1", names[0][5:]).decode()
    except UnicodeDecodeError:
        raise Unpriceable("Content-Disposition: expected a name in UTF-8") from None
