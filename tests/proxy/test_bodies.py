"""Request bodies that a price looks into: read for certain, or refused."""

from __future__ import annotations

import gzip
import zlib

import pytest

from gateway.core.figures import parse_figure
from gateway.core.pricing import Unpriceable
from gateway.proxy.bodies import RequestBody, count_results, unpack

MOST = 10_000
JUNIT = b"""<?xml version="1.0"?>
<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>
<testsuite><testcase name="c"><skipped/></testcase></testsuite></testsuites>"""


def body(data: bytes, content_type: str = "application/json", coding: str = "") -> RequestBody:
    return RequestBody(data, content_type, coding, MOST)


def test_json_is_parsed_once() -> None:
    found = body(b'\xef\xbb\xbf {"tests": [1, 2, 3]}')
    assert found.items(parse_figure("request.items:tests")) == 3
    assert found.document() is found.document()
    assert found.items(parse_figure("request.items:")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"a":NaN}',
        b"[1,]",
        b"{} {}",
        b"\xff\xfe",
        b'{"a":1,"a":1}',
        b'[{"b":{"c":1,"c":2}}]',
        '{"a":1}'.encode("utf-16"),
        b"[" * 100_000,
    ],
)
def test_broken_json_has_no_price(data: bytes) -> None:
    with pytest.raises(Unpriceable, match="expected a JSON document"):
        body(data).read(frozenset({"request.json"}))


@pytest.mark.parametrize("coding", ["gzip", "GZIP ", "x-gzip", "deflate"])
def test_compressed_bodies_are_read(coding: str) -> None:
    packed = zlib.compress(b'{"n": 1}') if coding == "deflate" else gzip.compress(b'{"n": 1}')
    assert body(packed, coding=coding).document() == {"n": 1}


@pytest.mark.parametrize(
    ("data", "coding", "why"),
    [
        (b"{}", "br", "expected gzip"),
        (b"{}", "gzip, gzip", "expected gzip"),
        (b"{}", "gzip", "whole gzip body"),
        (gzip.compress(b"{}")[:-4], "gzip", "one whole gzip body"),
        (gzip.compress(b"{}") + b"{}", "gzip", "one whole gzip body"),
        (gzip.compress(b" " * (MOST + 1)), "gzip", f"at most {MOST} bytes"),
        (gzip.compress(b"\0" * 10**8), "gzip", f"at most {MOST} bytes"),
    ],
)
def test_what_cannot_be_unpacked_has_no_price(data: bytes, coding: str, why: str) -> None:
    with pytest.raises(Unpriceable, match=why):
        unpack(data, coding, MOST)


def test_junit_counts_every_result_whatever_its_status() -> None:
    assert count_results(JUNIT) == 3
    assert body(JUNIT, "application/xml").results() == 3
    assert body(JUNIT).document() is None


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><testsuite><testcase name="&a;"/></testsuite>',
        b"<testsuite><testcase>",
        b"<testsuite></testsuite><testcase/>",
        b"",
    ],
)
def test_junit_that_is_not_certain_has_no_price(document: bytes) -> None:
    with pytest.raises(Unpriceable):
        count_results(document)


def test_forms_and_multipart_uploads() -> None:
    form = body(b"n=3&n=4&name=a%20b", "application/x-www-form-urlencoded")
    assert form.fields() == {"n": ["3", "4"], "name": ["a b"]}
    upload = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="r.xml"\r\n'
        b"Content-Type: application/xml\r\n\r\n" + JUNIT + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\nmine\r\n--x--\r\n'
    )
    found = body(upload, "multipart/form-data; boundary=x")
    assert found.results() == 3
    assert found.fields()["title"] == ["mine"]


@pytest.mark.parametrize("data", [b"", b"--x\r\n", b"nothing", b"--x\r\n\r\na\r\n--y--\r\n"])
def test_a_broken_multipart_body_has_no_price(data: bytes) -> None:
    found = body(data, "multipart/form-data; boundary=x")
    if data:
        with pytest.raises(Unpriceable, match="multipart"):
            found.parts()


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/json", "application/x-www-form-urlencoded2"]
)
def test_what_is_no_form_has_no_form_price(content_type: str) -> None:
    with pytest.raises(Unpriceable, match="expected that of a form"):
        body(b"n=3", content_type).read(frozenset({"request.form"}))


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"],
)
def test_a_form_is_one_in_any_spelling(content_type: str) -> None:
    found = body(b"n=3&m=", content_type)
    found.read(frozenset({"request.form"}))
    assert found.fields() == {"n": ["3"], "m": [""]}


def test_multipart_is_one_in_any_spelling() -> None:
    parts = b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n3\r\n--b--\r\n'
    found = body(parts, "Multipart/Form-Data; boundary=b")
    assert found.fields() == {"n": ["3"]}
