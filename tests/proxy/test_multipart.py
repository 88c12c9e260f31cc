"""A form that two parsers could take apart differently has no price."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from gateway.core.pricing import Unpriceable
from gateway.proxy.bodies import RequestBody
from gateway.proxy.multipart import PARTS_MAX, read_parts

TYPE = "multipart/form-data; boundary=x"


def part(content: bytes, *lines: str, name: str = "n") -> bytes:
    head = [f'Content-Disposition: form-data; name="{name}"', *lines]
    return b"--x\r\n" + "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("data", "content_type", "found"),
    [
        (form(part(b"3"), part(b"a\r\nb", name="m")), TYPE, [("n", b"3"), ("m", b"a\r\nb")]),
        (form(part(b"", 'Content-Type: text/plain; charset="utf-8"')), TYPE, [("n", b"")]),
        (form(part(b"-", "Content-Transfer-Encoding: 8BIT")), TYPE, [("n", b"-")]),
        (form(part(b"-", name='a\\"b')), TYPE, [('a"b', b"-")]),
        (form(part(b"-", name="na=?utf-8?q?a?=")), TYPE, [("na=?utf-8?q?a?=", b"-")]),
        (form(), TYPE, []),
        (form(part(b"1")).replace(b"--x", b"--a b"), 'multipart/form-data; boundary="a b"',
         [("n", b"1")]),
    ],
)  # fmt: skip
def test_parts(data: bytes, content_type: str, found: list[tuple[str, bytes]]) -> None:
    assert read_parts(data, content_type) == found


@pytest.mark.parametrize(
    "data",
    [
        b"", b"--x", b"--x\r\n", b"nothing", b"--x--more", b"a" + form(part(b"1")),
        form(part(b"1")) + b"after", form(part(b"1")).replace(b"\r\n", b"\n"),
        form(part(b"a\n--x\nb")), form(part(b"a--x")), form(part(b"a\r\n--xy")),
        form(part(b"1", "Content-Transfer-Encoding: quoted-printable")),
        form(part(b"1", "Content-Transfer-Encoding: base64")),
        form(part(b"1", "Content-Type: message/rfc822")),
        form(part(b"1", "Content-Type: Multipart/mixed; boundary=Q")),
        form(part(b"1", " folded")), form(part(b"1", "A: 1", "a: 2")), form(part(b"1", "no colon")),
        form(part(b"1", "A : 1")), form(b"--x\r\n\r\n1\r\n"),
        form(b"--x\r\nContent-Disposition: attachment; name=n\r\n\r\n1\r\n"),
        form(b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n"),
        form(b'--x\r\nContent-Disposition: form-data; name="a"; name="b"\r\n\r\n1\r\n'),
        form(b"--x\r\nContent-Disposition: form-data; name*=utf-8''a\r\n\r\n1\r\n"),
        form(b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n'),
        form(b"--x\r\nContent-Disposition: form-data; name=((((\r\n\r\n1\r\n"),
        form(*[part(b"1")] * (PARTS_MAX + 1)),
    ],
)  # fmt: skip
def test_what_could_be_read_otherwise_is_refused(data: bytes) -> None:
    with pytest.raises(Unpriceable):
        read_parts(data, TYPE)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed; boundary=x", "multipart/form-data", "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x; boundary=y", "multipart/form-data; boundary*=x",
        'multipart/form-data; boundary="x ', "multipart/form-data; boundary=é",
    ],
)  # fmt: skip
def test_a_boundary_stands_once(content_type: str) -> None:
    with pytest.raises(Unpriceable):
        read_parts(form(part(b"1")), content_type)


@pytest.mark.parametrize(
    "content",
    ["<a><testcase/></a>".encode("utf-16"), "<a/>".encode("utf-16-be"), "<a/>".encode("utf-32-le")],
)
def test_results_in_another_encoding_are_refused_not_skipped(content: bytes) -> None:
    data = form(part(b"<a><testcase/></a>"), part(content, name="m"))
    with pytest.raises(Unpriceable, match="UTF-8"):
        RequestBody(data, TYPE, "", 10_000).read(frozenset({"request.junit"}))


@pytest.mark.parametrize(
    "data",
    [
        form(part(b"1", name="=?utf-8?q?a?= " * 17_000)),
        form(b"--x\r\nContent-Disposition: form-data; " + b"a=b; " * 50_000 + b"\r\n\r\n1\r\n"),
        form(b"--x\r\n" + b"A: " + b"\\" * 250_000 + b"\r\n\r\n1\r\n"),
        b"--x\r\n" * 50_000,
        form(part(b"\r\n" * 120_000)),
    ],
)
def test_no_form_takes_long(data: bytes) -> None:
    """Seconds of a parser that looks back, where this one needs milliseconds."""
    began_s = time.process_time()
    with suppress(Unpriceable):
        read_parts(data, TYPE)
    assert time.process_time() - began_s < 1.0
