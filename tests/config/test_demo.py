"""config/gateway.yaml, the one that operators copy: it loads, and so does every option in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import load
from gateway.core.book import CredentialSource
from tests.config.writing import HASH, Folder

DEMO = Path(__file__).resolve().parents[2] / "config" / "gateway.yaml"

# An option that is commented out -> the line that it stands beside or replaces.
INSTEAD = {
    "proxy: {address": "  proxy: ${HOST",
    "unmatched: {action: pass": "unmatched: {action: refuse}",
    "callers: {api_key": "    callers: [api_key, anonymous]",
    "- {id: ci": "keys: []",
    "- cookie: {name: session, verified_by": "    - cookie: {name: session, account",
}
_OPTION = re.compile(r"^( *)#( *)((?:- )?[a-z_-]+:(?: [^`].*)?|- \{.*|     routes: .*)$")


def uncommented(text: str) -> str:
    """The demo with every option in force; of two that exclude each other, the later."""
    lines: list[str] = []
    for number, line in enumerate(text.splitlines()):
        found = _OPTION.match(line) if number else None  # the first line is the title
        if found is None or found[3].startswith("more conditions"):
            lines.append(line)
            continue
        option = found[1] + (found[2] if found[1] == "" and len(found[2]) > 1 else "") + found[3]
        for start, other in INSTEAD.items():
            if found[3].startswith(start):
                replaced = [i for i, earlier in enumerate(lines) if earlier.startswith(other)]
                assert len(replaced) == 1, other
                lines[replaced[0]] = "keys:" if other == "keys: []" else ""
        lines.append(option)
    return "\n".join(lines) + "\n"


def everything(folder: Folder) -> str:
    """The uncommented demo, with files and a hash that exist."""
    secret = folder.write("cookie", "0123456789abcdef")
    folder.write("routes/a.yaml", "routes: [{match: GET /included, upstream: demo, price: free}]\n")
    folder.write("plans.yaml", "plans: {included: {}}\n")
    text = uncommented(DEMO.read_text("utf-8"))
    for old, new in (
        ("/run/secrets/cookie", str(secret)),
        ("sha256:9f86d0…", HASH),
        ("{account: public}", "{account: demo}"),
        ("(yes)", "(no)"),
    ):
        text = text.replace(old, new)
    return text


def test_the_demo_loads_with_only_the_warnings_it_should() -> None:
    loaded = load(DEMO, {})
    assert [route.name for route in loaded.book.routes] == [
        "list-items", "get-item", "import", "status",
    ]  # fmt: skip
    assert loaded.book.proxy_listener.port == 8080
    for warning in loaded.warnings:
        assert "'status'" in warning.message
    assert load(DEMO, {"PORT": "1234"}).book.proxy_listener.port == 1234


def test_every_option_of_the_demo_works_together(folder: Folder) -> None:
    book = folder.load(everything(folder), {"BACKEND_URL": "https://backend.test"}).book
    assert book.proxy_listener.tls is not None
    assert book.store.path == "./data/tallygate.db"
    assert book.server.max_body_bytes == 100_000_000
    assert book.server.max_connections_per_address == 100
    demo = book.upstreams["demo"]
    assert (demo.total_timeout_s, demo.max_connections) == (300.0, 1024)
    assert demo.ca_file == "/etc/ssl/internal-ca.pem"
    assert demo.request_headers.remove == {b"x-debug"}
    assert demo.response_headers.set == ((b"X-Served-By", b"tallygate"),)
    assert book.identify.sources[2] == CredentialSource("query", "api_key")
    assert book.identify.sources[3].secret == b"0123456789abcdef"
    assert book.identify.anonymous_account == "demo"
    assert {limit.name for limit in book.plans["free"].limits} == {"hourly", "burst", "parallel"}
    (key,) = book.keys.values()
    assert key.id == "ci" and key.routes == frozenset({"list-items"})
    status = next(route for route in book.routes if route.name == "status")
    assert set(status.prices) == {"api_key", "browser"}
    assert book.unmatched is not None and not book.unmatched.prices["api_key"].is_free
    assert set(book.errors) == {"key_invalid", "rate_limited"}
    assert "included" in book.plans and book.routes[-1].name == "GET /included"


def test_nothing_that_looks_like_an_option_stays_a_comment() -> None:
    text = uncommented(DEMO.read_text("utf-8"))
    left = [
        line.strip() for line in text.splitlines()[1:] if re.match(r" *# *(- )?[a-z_]+: [^`]", line)
    ]
    assert left == []


@pytest.mark.parametrize(
    "option",
    ["host: api.example.com", 'headers: {X-Version: "2"}', 'project: "fixed"',
     "callers: {api_key: {price: {coins: 1}}, browser: {price: free}}"],
)  # fmt: skip
def test_conditions_of_a_route(folder: Folder, option: str) -> None:
    text = DEMO.read_text("utf-8").replace("    max_body: 10MB\n", f"    {option}\n")
    assert len(folder.load(text).book.routes) == 4


def test_the_cookie_that_the_backend_judges(folder: Folder) -> None:
    text = DEMO.read_text("utf-8").replace(
        "    # - cookie: {name: session, account: ui, verified_by: backend}",
        "    - cookie: {name: session, account: demo, verified_by: backend}",
    )
    assert folder.load(text).book.identify.sources[-1] == CredentialSource(
        "cookie", "session", "demo"
    )
