"""Which configurations are the same: as texts, and in what gateways of one state need to share."""

from __future__ import annotations

import pytest

from tests.config.writing import BASE, Folder

RULES = """\
plans: {b: {}, a: {}}
response_headers: {via: "${NAME:-here}"}
"""
OWN = "listeners: {proxy: 127.0.0.1:1, admin: 127.0.0.1:2}\ndata_dir: ./one\n"


def _rules(folder: Folder, text: str, **env: str) -> str:
    return folder.load(text, env).book.rules_version


@pytest.mark.parametrize(
    "other",
    [
        RULES + OWN.replace("one", "two").replace(":1", ":3"),
        OWN + RULES,
        RULES + "journal: {sync: always}\n",
        "# a comment\n" + RULES,
        RULES.replace("{via: ", "{via:    "),
        "plans: {b: {}, a: {}}\nresponse_headers: {via: here}\n",
    ],
    ids=["ports and folders", "order of sections", "journal", "comment", "spaces", "variable"],
)
def test_the_rules_are_the_same_in_another_text(folder: Folder, other: str) -> None:
    before = folder.load(RULES + OWN).book
    book = folder.load(other).book
    assert book.rules_version == before.rules_version
    assert book.version != before.version


def test_the_rules_are_the_same_in_several_files(folder: Folder) -> None:
    whole = _rules(folder, BASE + "limits: {x: 1/s}\n")
    folder.write("limits.yaml", "limits: {x: 1/s}\n")
    assert _rules(folder, BASE + "include: limits.yaml\n") == whole


@pytest.mark.parametrize(
    ("other", "env"),
    [
        (RULES + "limits: {x: 1/s}\n", {}),
        # Where several plans fit, their order may count.
        (RULES.replace("b: {}, a: {}", "a: {}, b: {}"), {}),
        (RULES, {"NAME": "there"}),
    ],
    ids=["a further section", "order within a section", "a variable's value"],
)
def test_other_rules(folder: Folder, other: str, env: dict[str, str]) -> None:
    assert _rules(folder, other, **env) != _rules(folder, RULES)
