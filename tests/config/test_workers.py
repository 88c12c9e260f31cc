"""How many processes serve, and what they need for it."""

from __future__ import annotations

import pytest

from tests.config.writing import BASE, Folder

SHARED = "store: {url: postgresql://127.0.0.1/t}\nstate: {url: redis://127.0.0.1}\n"
HINT = " (each worker is a process, and balances are in a process unless they are shared)"
LACKING = [
    ("", "store.url and state.url"),
    ("store: {path: here.db}\n", "store.url and state.url"),
    ("store: {url: postgresql://127.0.0.1/t}\n", "state.url"),
]


def test_one_process_unless_more_are_asked_for(folder: Folder) -> None:
    assert folder.load(BASE).book.workers == 1
    assert folder.load(BASE + "workers: 1\n").book.workers == 1
    assert folder.load(BASE + "workers: 64\n" + SHARED).book.workers == 64


def test_the_urls_may_be_in_files(folder: Folder) -> None:
    store = folder.write("store.url", "postgresql://127.0.0.1/t")
    state = folder.write("state.url", "redis://127.0.0.1")
    text = f"workers: 2\nstore: {{url_file: {store}}}\nstate: {{url_file: {state}}}\n"
    assert folder.load(BASE + text).book.workers == 2


@pytest.mark.parametrize(("text", "lacking"), LACKING)
def test_several_need_what_they_share(folder: Folder, text: str, lacking: str) -> None:
    assert folder.problems(BASE + "workers: 3\n" + text) == [
        "c.yaml:5:10: expected store.url and state.url beside several workers,"
        f" found 3 workers without {lacking}{HINT}"
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", "a number of at least 1, found the number 0"),
        ("65", "a number of at most 64, found the number 65"),
        ("auto", "a whole number, found 'auto'"),
        ("1.5", "a whole number, found the number 1.5"),
    ],
)
def test_a_number_that_is_none(folder: Folder, value: str, expected: str) -> None:
    assert folder.problems(BASE + SHARED + f"workers: {value}\n") == [
        f"c.yaml:7:10: expected {expected}"
    ]


def test_a_url_that_is_wrong_is_not_a_lacking_one(folder: Folder) -> None:
    text = "workers: 3\nstore: {url: nowhere}\nstate: {url: redis://127.0.0.1}\n"
    assert not [problem for problem in folder.problems(BASE + text) if "workers" in problem]
