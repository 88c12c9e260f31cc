"""${VAR}, its default and its escape; secrets from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.environment import SECRET_BYTES_MAX, read_secret, substitute
from gateway.config.problems import Expected
from tests.config.writing import BASE, Folder

ENV = {"A": "1", "LONG_name2": "x y", "EMPTY": "", "TRICK": "a: b # c", "BRACED": "${A}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}", "1"), ("<${A}${A}>", "<11>"), ("${LONG_name2}", "x y"), ("${A:-9}", "1"),
        ("${NO:-9}", "9"), ("${NO:-}", ""), ("${EMPTY:-9}", "9"), ("${NO:-a:-b}", "a:-b"),
        ("$${A}", "${A}"), ("$$${A}", "$${A}"), ("$A", "$A"), ("cost $5", "cost $5"),
        ("${BRACED}", "${A}"), ("${TRICK}", "a: b # c"), ("${NO:-http://h:1/p?q}", "http://h:1/p?q"),
    ],
)  # fmt: skip
def test_substitute(text: str, filled: str) -> None:
    assert substitute(text, ENV) == filled


@pytest.mark.parametrize(
    ("text", "found"),
    [("${NO}", "an unset variable"), ("${EMPTY}", "an empty variable"), ("${", None),
     ("${A", None), ("${1X}", None), ("${A-b}", None), ("${}", None), ("${A:=b}", None)],
)  # fmt: skip
def test_refused(text: str, found: str | None) -> None:
    with pytest.raises(Expected) as caught:
        substitute(text, ENV)
    assert caught.value.found == found


def test_a_variable_may_be_a_number_where_it_is_plain(folder: Folder) -> None:
    text = "server: {max_headers: '${N}'}\n"
    assert folder.problems(text, {"N": "7"}) == [
        "c.yaml:1:23: expected a whole number, found '7' (without quotes)"
    ]
    block = "server:\n  max_headers: ${N:-9}\n"
    assert folder.load(block, {"N": "7"}).book.server.max_headers == 7
    assert folder.load(block).book.server.max_headers == 9


def test_a_variable_cannot_add_structure(folder: Folder) -> None:
    env = {"T": "x\naccounts: {evil: {}}", "L": "[a, b]"}
    text = BASE + "default_plan: free\nresponse_headers:\n  via: ${L}\n"
    assert folder.problems(text, env) == [
        "c.yaml:7:8: expected one word without spaces, found '[a, b]'"
    ]
    problems = folder.problems(BASE + "data_dir: ${T}\n", env)
    assert problems == [
        "c.yaml:5:11: expected one line of 1 to 200 characters, found 'x\\naccounts: {evil: {}}'"
    ]


def test_an_unset_variable_is_one_problem(folder: Folder) -> None:
    text = "upstreams:\n  demo: {url: 'http://${HOST}'}\nserver:\n  max_headers: ${N}\n"
    assert folder.problems(text) == [
        "c.yaml:2:15: expected the environment variable HOST to be set, found an unset variable"
        " (${HOST:-default} gives a default)",
        "c.yaml:4:16: expected the environment variable N to be set, found an unset variable"
        " (${N:-default} gives a default)",
    ]


def test_what_an_unset_variable_names_is_not_judged(folder: Folder) -> None:
    text = BASE + "routes:\n  - {match: GET /a, upstream: '${UP}', price: free}\n"
    (problem,) = folder.problems(text)
    assert problem.startswith("c.yaml:6:31: expected the environment variable UP to be set")


def test_the_version_follows_variables_and_texts(folder: Folder) -> None:
    text = "data_dir: ${D:-./data}\n"
    version = folder.load(text).book.version
    assert len(version) == 12 and int(version, 16) >= 0
    assert folder.load(text, {"D": "./data"}).book.version == version
    assert folder.load(text, {"D": "./other"}).book.version != version
    assert folder.load(text + "default_plan:\n").book.version != version


def test_secret_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"  key of bytes \xff\n")
    assert read_secret(str(file)) == b"key of bytes \xff"
    file.write_bytes(b" \n")
    with pytest.raises(Expected, match="a secret"):
        read_secret(str(file))
    file.write_bytes(b"x" * (SECRET_BYTES_MAX + 1))
    with pytest.raises(Expected, match="at most"):
        read_secret(str(file))
    with pytest.raises(Expected, match="can be read"):
        read_secret(str(tmp_path))
