"""One configuration in several files: what is merged, and what must not stand twice."""

from __future__ import annotations

import os

from gateway.config import load
from tests.config.writing import BASE, Folder


def test_lists_are_joined_and_mappings_united(folder: Folder) -> None:
    folder.write("more/b.yaml", "routes:\n  - {match: GET /b, upstream: two, price: free}\n")
    folder.write("more/a.yaml", "routes:\n  - {match: GET /a, upstream: demo, price: {coins: 1}}\n")
    folder.write("up.yaml", "upstreams: {two: {url: http://two}}\nlimits: {x: 1/s}\n")
    loaded = folder.load(
        BASE + "include: [more/*.yaml, up.yaml]\n"
        "routes:\n  - {match: GET /main, upstream: demo, price: free}\nlimits: {y: 2/s}\n"
    )
    assert [route.name for route in loaded.book.routes] == ["GET /main", "GET /a", "GET /b"]
    assert set(loaded.book.upstreams) == {"demo", "two"}
    assert [limit.id for limit in loaded.book.limits] == ["all/y", "all/x"]
    names = [str(path.relative_to(folder.path)) for path in loaded.sources]
    assert names == ["c.yaml", "more/a.yaml", "more/b.yaml", "up.yaml"]
    assert loaded.book.routes[1].source == f"{folder.path}/more/a.yaml:2:5"


def test_paths_are_relative_to_the_including_file(folder: Folder) -> None:
    folder.write("d/one.yaml", "include: two.yaml\n")
    folder.write("d/two.yaml", "server: {max_headers: 7}\n")
    assert folder.load("include: d/one.yaml\n").book.server.max_headers == 7
    here = os.getcwd()
    try:
        os.chdir(folder.path)
        assert load(folder.path / "c.yaml", {}).book.server.max_headers == 7
    finally:
        os.chdir(here)


def test_a_section_may_be_split_but_not_repeated(folder: Folder) -> None:
    folder.write("s.yaml", "server: {max_headers: 7, max_line: 9KB}\ndata_dir: ./x\nkeys: {}\n")
    text = (
        "include: s.yaml\nserver:\n  max_headers: 8\n  max_header: 1KB\ndata_dir: ./y\nkeys: []\n"
    )
    assert folder.problems(text) == [
        "s.yaml:1:10: expected each name once, found 'max_headers' again (first at c.yaml:3:3)",
        "s.yaml:2:1: expected each name once, found 'data_dir' again (first at c.yaml:5:1)",
        "s.yaml:3:7: expected a list, as at c.yaml:6:7, found an empty mapping",
    ]


def test_definitions_in_two_files_name_both_places(folder: Folder) -> None:
    folder.write("s.yaml", "accounts: {b: {plan: free}, acme: {plan: free}}\n")
    assert folder.problems(BASE + "include: s.yaml\n") == [
        "s.yaml:1:29: expected each name once, found 'acme' again (first at c.yaml:4:12)"
    ]


def test_problems_of_all_files_at_once(folder: Folder) -> None:
    folder.write("a.yaml", "routes:\n  - {match: GET /a, upstream: nope, price: free}\n")
    folder.write("b.yaml", "server: {max_headers: x}\n")
    assert [p.split(" ")[0] for p in folder.problems("include: [a.yaml, b.yaml]\nx: 1\n")] == [
        "a.yaml:2:31:", "b.yaml:1:23:", "c.yaml:2:1:",
    ]  # fmt: skip


def test_syntax_errors_of_all_files_at_once(folder: Folder) -> None:
    folder.write("a.yaml", "a: [\n")
    (folder.path / "b.yaml").write_bytes("ü: 1\nx: ".encode() + b"\xff\n")
    problems = folder.problems("include: [a.yaml, b.yaml, gone.yaml]\n")
    assert [p.split(": ")[0] for p in problems] == ["a.yaml:1:5", "b.yaml:2:4", "c.yaml:1:27"]
    assert problems[1].endswith("expected UTF-8 text, found the byte 0xff")
    assert problems[2].endswith("gone.yaml: No such file or directory")


def test_cycles(folder: Folder) -> None:
    folder.write("a.yaml", "include: b.yaml\n")
    folder.write("b.yaml", "server: {max_headers: 7}\ninclude: [a.yaml]\n")
    (problem,) = folder.problems("include: a.yaml\n")
    assert problem == (
        "b.yaml:2:11: expected files that do not include themselves, found 'a.yaml' again"
        " (c.yaml -> a.yaml -> b.yaml)"
    )
    (own,) = folder.problems("include: ./c.yaml\n")
    assert own.startswith("c.yaml:1:10: expected files that do not include themselves")


def test_a_file_included_twice(folder: Folder) -> None:
    folder.write("a.yaml", "include: s.yaml\n")
    folder.write("s.yaml", "")
    assert folder.problems("include:\n  - a.yaml\n  - s.yaml\n") == [
        "c.yaml:3:5: expected each file once, found 's.yaml' again (first at a.yaml:1:10)"
    ]


def test_what_include_may_hold(folder: Folder) -> None:
    assert folder.problems("include: [1, {a: b}, '${NO}']\n")[:2] == [
        "c.yaml:1:11: expected the name of a file, found the number 1",
        "c.yaml:1:14: expected the name of a file, found a mapping",
    ]
    assert folder.load("include:\n").sources == (folder.path / "c.yaml",)


def test_a_pattern_without_files_is_a_warning(folder: Folder) -> None:
    text = BASE + "include: [routes.d/*.yaml]\nunmatched: {action: refuse}\n"
    assert folder.warnings(text)[-1] == "c.yaml:5:11: no file matches 'routes.d/*.yaml'"


def test_sections_without_entries_are_not_there(folder: Folder) -> None:
    book = folder.load(BASE + "keys:\nroutes:\n#  - x\ndefault_plan:\n").book
    assert book.keys == {} and book.routes == () and book.default_plan is None
