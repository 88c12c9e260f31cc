"""A request body that a price looks into: JSON, form fields, JUnit results.

Question: what does the body say, exactly once and within limits? Invariant: a
body that cannot be read for certain is `Unpriceable`, never free: broken JSON
or XML, an unknown or false compression, more than `most` bytes once unpacked.
Must not know routes or prices.
"""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from urllib.parse import parse_qs
from xml.parsers import expat

from gateway.core.figures import Figure, look_up
from gateway.core.pricing import Unpriceable
from gateway.proxy.multipart import read_parts

FIELDS_MAX = 1_000  # of a form
XML_SPACE = b" \t\r\n\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a document begins
URLENCODED = "application/x-www-form-urlencoded"
# A price that knows one of these need not have a form.
OTHER_SOURCES = frozenset(("request.json", "request.items", "request.junit"))
ENCODINGS = ("gzip", "x-gzip", "deflate")


class RequestBody:
    """One body, parsed at most once in each way. `data` is as the client sent it."""

    __slots__ = (
        "plain", "content_type", "media_type", "_document", "_fields", "_results", "_parts",
    )  # fmt: skip

    def __init__(self, data: bytes, content_type: str, encoding: str, most: int) -> None:
        """Raises Unpriceable when it cannot be unpacked."""
        self.plain = unpack(data, encoding, most)
        self.content_type = content_type
        self.media_type = content_type.partition(";")[0].strip().lower()
        self._document: object = _UNREAD
        self._fields: dict[str, list[str]] | None = None
        self._results: int | None = None
        self._parts: list[tuple[str, bytes]] | None = None

    def read(self, sources: frozenset[str]) -> None:
        """Parse what these figure sources will ask for. Raises Unpriceable."""
        if not self.plain.strip():
            return
        is_xml = any(data.lstrip(XML_SPACE).startswith(b"<") for _, data in self.parts())
        if "request.junit" in sources and (is_xml or self.is_multipart):
            self.results()
        elif sources & {"request.json", "request.items"}:
            self.document()
        elif "request.junit" in sources:
            raise Unpriceable("expected a JUnit XML document")
        if "request.form" in sources:
            if not (self.is_form or sources & OTHER_SOURCES):
                # A backend may read it as a form all the same.
                found = self.media_type[:60] or "none"
                raise Unpriceable(f"Content-Type: expected that of a form, found {found}")
            self.fields()

    @property
    def is_form(self) -> bool:
        return self.media_type == URLENCODED or self.is_multipart

    @property
    def is_multipart(self) -> bool:
        return self.media_type.startswith("multipart/")

    def document(self) -> object:
        """The JSON document; None for an empty body or an XML one."""
        if self._document is _UNREAD:
            text = self.plain.strip(XML_SPACE)
            is_none = not text or text.startswith(b"<")
            self._document = None if is_none else load_once(text)
        return self._document

    def items(self, figure: Figure) -> int | None:
        """How many entries the list at the path has; None where there is no list."""
        found = look_up(self.document(), figure.steps)
        return len(found) if isinstance(found, list) else None

    def fields(self) -> dict[str, list[str]]:
        """Form fields by name, from a urlencoded or multipart body; none in any other."""
        if self._fields is None:
            if not self.is_form:
                self._fields = {}
            elif self.is_multipart:
                self._fields = {}
                for name, data in self.parts():
                    self._fields.setdefault(name, []).append(data.decode("utf-8", "replace"))
            else:
                try:
                    text = self.plain.decode()
                    self._fields = parse_qs(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
                except ValueError as exc:
                    raise Unpriceable(f"expected a form: {exc}") from None
        return self._fields

    def results(self) -> int | None:
        """Test cases in the JUnit documents of the body; None where there is none."""
        if self._results is None:
            if any(d[:4].find(b"\0") >= 0 or d[:2] in UTF_16 for _, d in self.parts()):
                raise Unpriceable("expected documents in UTF-8")
            found = [d for _, d in self.parts() if d.lstrip(XML_SPACE).startswith(b"<")]
            if not found:
                return None
            self._results = sum(count_results(document) for document in found)
        return self._results

    def parts(self) -> list[tuple[str, bytes]]:
        """The parts of a multipart body as (name, data); of any other, the body itself."""
        if self._parts is None:
            self._parts = [("", self.plain)]
            if self.is_multipart:
                self._parts = read_parts(self.plain, self.content_type)
        return self._parts


def load_once(text: bytes) -> object:
    """A JSON document in which every key stands once; numbers with a point are exact.

    A backend may take the first of two equal keys where we would take the last.
    Raises Unpriceable.
    """
    try:
        return json.loads(
            text.decode(), object_pairs_hook=_once, parse_float=Decimal, parse_constant=_refuse
        )
    except (ValueError, RecursionError) as exc:
        raise Unpriceable(f"expected a JSON document: {exc}") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


class _Unread:
    """Marks a document that nobody has asked for."""


_UNREAD = _Unread()


def unpack(data: bytes, encoding: str, most: int) -> bytes:
    """The body without its Content-Encoding. Raises Unpriceable."""
    coding = encoding.strip().lower()
    if coding in ("", "identity"):
        return data
    if coding not in ENCODINGS:
        known = "gzip, deflate or no compression"
        raise Unpriceable(f"Content-Encoding: expected {known}, found {coding[:40]!r}")
    # deflate is zlib's format (RFC 9110 8.4.1.2); 47 takes either and checks the sums.
    unpacker = zlib.decompressobj(47)
    try:
        plain = unpacker.decompress(data, most + 1)
        done = unpacker.eof and not unpacker.unused_data
    except zlib.error as exc:
        raise Unpriceable(f"expected a whole {coding} body: {exc}") from None
    if len(plain) > most:
        raise Unpriceable(f"expected at most {most} bytes once unpacked")
    if not done:
        raise Unpriceable(f"expected one whole {coding} body")
    return plain


def count_results(document: bytes) -> int:
    """The `testcase` elements of a JUnit XML document. Raises Unpriceable.

    Nothing is built and no entity is expanded: a document type is refused.
    """
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += name.rpartition(":")[2] == "testcase"

    def refuse(*_: object) -> None:
        raise Unpriceable("expected JUnit XML without a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document.lstrip(), True)
    except expat.ExpatError as exc:
        raise Unpriceable(f"expected a JUnit XML document: {exc}") from None
    return count
