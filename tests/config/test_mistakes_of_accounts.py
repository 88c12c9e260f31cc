"""Settings, roles, operators, and what accounts have of their own: every kind of mistake."""

from __future__ import annotations

import pytest

from tests.config.pricing import SHOP
from tests.config.writing import HASH, Folder

METERS = SHOP.replace("plans: {free: {}}\n", "")
PLANS = """\
plans: {p: {allowances: {coins: {amount: 1, per: week, settable: true}, \
uc: {amount: 1, per: month}}, limits: {l: {settable: {to: 100}}, hourly: 5/hour}}, \
f: {billing: free}}
"""
SETTINGS = SHOP.split("\n")[2]  # the line of SHOP that has them

# What is wrong, a section (line 5), the problems.
SECTIONS: dict[str, tuple[str, list[str]]] = {
    "a range for everybody": (
        "limits: {l: {settable: {to: 10}}}\n",
        ["5:24: expected no `settable:` here, found a mapping (only a plan's limits can be each "
         "account's own)"],
    ),
    "a role twice": (
        "roles: [a, a]\n",
        ["5:8: expected at least one role, each once, found a list"],
    ),
    "no roles": (
        "roles: []\n",
        ["5:8: expected at least one role, each once, found an empty list"],
    ),
    "a token itself": (
        "admin: {tokens: [{name: ops, role: admin, hash: secret}]}\n",
        ['5:49: expected "sha256:" and 64 hexadecimal digits, found a text of another form '
         '(printf %s "$KEY" | sha256sum)'],
    ),
    "an unknown rounding of money": (
        "money: {rounding: down}\n",
        ["5:19: expected half_up or up, found 'down'"],
    ),
    "an unknown role of an operator": (
        f"admin: {{tokens: [{{name: ops, role: admn, hash: '{HASH}'}}]}}\n",
        ["5:36: expected admin, billing, support or reader, found 'admn' (did you mean admin?)"],
    ),
    "an operator twice": (
        f"admin: {{tokens: [{{name: ops, role: admin, hash: '{HASH}'}}, "
        f"{{name: ops, role: reader, hash: '{HASH[:-1]}0'}}]}}\n",
        ["5:132: expected each token name once, found 'ops' (first at c.yaml:5:25)"],
    ),
}  # fmt: skip

# What is wrong, the settings (at 3:11), the problems.
OF_SETTINGS: dict[str, tuple[str, list[str]]] = {
    "no values": (
        "{x: {values: []}}",
        ["3:24: expected at least one entry, found an empty list"],
    ),
    "a value twice": (
        "{x: {values: [a, a]}}",
        ["3:24: expected each value once, found a list"],
    ),
    "an unknown default": (
        "{x: {values: [a, b], default: c}}",
        ["3:41: expected one of a, b, found 'c'"],
    ),
    "an unknown editor": (
        "{x: {values: [a, b], editors: [ownr]}}",
        ["3:42: expected a role of `roles:`, found 'ownr' (did you mean owner?)"],
    ),
    "values that are no texts": (
        "{x: {values: [1, true]}}",
        [
            '3:25: expected text, found the number 1 (write "1" for the text)',
            '3:28: expected text, found true (write "true" for the text)',
        ],
    ),
    "an unknown key": (
        "{x: {values: [a], titel: X}}",
        ["3:29: expected a known key of settings.x, found 'titel' (did you mean title?)"],
    ),
}  # fmt: skip

# What is wrong, keys of an account of plan p (from 5:28), the problems.
ACCOUNTS: dict[str, tuple[str, list[str]]] = {
    "overage as a boolean": (
        "overage: true",
        ["5:37: expected on or off, found true"],
    ),
    "a file as a time zone": (
        "timezone: ../etc/passwd",
        ["5:38: expected a time zone such as UTC or Europe/Kyiv, found '../etc/passwd'"],
    ),
    "an unknown setting": (
        "settings: {qualty: best}",
        ["5:39: expected the name of a setting, found 'qualty' (did you mean quality?)"],
    ),
    "an unknown value": (
        "settings: {quality: bets}",
        ["5:48: expected a value of quality, found 'bets' (did you mean best?)"],
    ),
    "an amount that is not settable": (
        "allowances: {uc: 4}",
        ["5:41: expected a meter whose allowance is `settable: true` in the plan, found 'uc'"],
    ),
    "an amount of an unknown meter": (
        "allowances: {coin: 2}",
        ["5:41: expected the name of a meter, found 'coin' (did you mean coins?)"],
    ),
    "an amount too precise": (
        "allowances: {coins: 0.001}",
        ["5:48: expected an amount of at most 2 digits, found the number 0.001 (the meter has "
         "decimals: 2)"],
    ),
    "a limit outside of its range": (
        "limits: {l: 101}",
        ["5:40: expected 0 for unlimited, or 1 to 100, found the number 101"],
    ),
    "a limit that is not settable": (
        "limits: {hourly: 4}",
        ["5:37: expected the name of a limit that is settable in the plan, found 'hourly' "
         "(known: l)"],
    ),
    "an unknown role": (
        "members: {alice: ownr}",
        ["5:45: expected the name of a role, found 'ownr' (did you mean owner?)"],
    ),
    "a user with a space": (
        "members: {'b b': owner}",
        ["5:38: expected 1 to 128 ASCII characters without spaces, found 'b b'"],
    ),
    "negative seats": (
        "seats: -1",
        ["5:35: expected a number of at least 0, found the number -1"],
    ),
    "a negative cap": (
        "cap: -5",
        ["5:33: expected an amount that is not negative, found the number -5"],
    ),
    "a cap too precise": (
        "cap: 0.0000001",
        ["5:33: expected dollars below 9 billion, with at most 6 digits behind the point, found "
         "the number 1E-7"],
    ),
    "a cap beyond all money": (
        "cap: 99999999999",
        ["5:33: expected dollars below 9 billion, with at most 6 digits behind the point, found "
         "the number 99999999999"],
    ),
    "overage that its plan has not": (
        "plan: f, overage: on",
        ["5:37: expected no overage, found 'on' (its plan is billed as free)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SECTIONS.values(), ids=SECTIONS.keys())
def test_mistakes_of_sections(folder: Folder, text: str, expected: list[str]) -> None:
    assert folder.problems(SHOP + text) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize(("text", "expected"), OF_SETTINGS.values(), ids=OF_SETTINGS.keys())
def test_mistakes_of_settings(folder: Folder, text: str, expected: list[str]) -> None:
    written = SHOP.replace(SETTINGS, f"settings: {text}")
    assert folder.problems(written) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize(("keys", "expected"), ACCOUNTS.values(), ids=ACCOUNTS.keys())
def test_mistakes_of_accounts(folder: Folder, keys: str, expected: list[str]) -> None:
    plan = "" if keys.startswith("plan:") else "plan: p, "
    text = METERS + PLANS + f"accounts: {{acme: {{{plan}{keys}}}}}\n"
    assert folder.problems(text) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize("zone", ["Europe/Kiew", "Europe", "UTC+1", "''", "5", "[]"])
def test_unknown_time_zones(folder: Folder, zone: str) -> None:
    text = METERS + PLANS + f"accounts: {{acme: {{plan: p, timezone: {zone}}}}}\n"
    (problem,) = folder.problems(text)
    assert problem.startswith("c.yaml:5:38: expected a time zone such as UTC or Europe/Kyiv, found")
