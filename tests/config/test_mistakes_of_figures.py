"""Figures, tables, conditions and what stands beside a price: every kind of mistake."""

from __future__ import annotations

import pytest

from tests.config.pricing import route
from tests.config.writing import Folder

FORM = "a figure such as request.json:steps, answer.json:usage.total_tokens or request.bytes"
NUMBER = "a figure that is a number, such as request.json:steps or answer.bytes"
TEXT = "a figure that is a text, such as request.json:model"

# What is wrong, the price (which begins at 8:12), the problems.
CASES: dict[str, tuple[str, list[str]]] = {
    "an unknown figure": (
        "{coins: {of: answer.jsn:usage}}",
        [f"8:25: expected {FORM}, found 'answer.jsn:usage' (did you mean answer.json?)"],
    ),
    "a figure without its name": (
        "{coins: {of: request.header}}",
        [f"8:25: expected {FORM}, found 'request.header' (expected request.header:NAME)"],
    ),
    "a figure with a name too many": (
        "{coins: {of: request.bytes:x}}",
        [f"8:25: expected {FORM}, found 'request.bytes:x' (expected request.bytes without a path)"],
    ),
    "no figure": (
        "{coins: {of: []}}",
        ["8:25: expected at least one entry, found an empty list"],
    ),
    "a path that is none": (
        "{coins: {of: request.json:a..b}}",
        [f"8:25: expected {FORM}, found 'request.json:a..b' (expected a path of 1 to 32 steps "
         f"such as usage.tokens)"],
    ),
    "a figure that is never a number": (
        "{coins: {of: request.method}}",
        [f"8:25: expected {NUMBER}, found 'request.method'"],
    ),
    "a setting that is no number": (
        "{coins: {of: account.setting:quality}}",
        [f"8:25: expected {NUMBER}, found 'account.setting:quality'"],
    ),
    "an unknown setting": (
        "{coins: {of: account.setting:qualty}}",
        ["8:25: expected the name of a setting, found 'qualty' (did you mean quality?)"],
    ),
    "an unknown parameter of the path": (
        "{coins: {of: [request.json:n, request.path:idd]}}",
        ["8:42: expected the name of a {parameter} of the path, found 'idd' (did you mean id?)"],
    ),
    "a table without entries": (
        "{coins: {times: {by: request.json:m, values: {}}}}",
        ["8:57: expected at least one entry, found an empty mapping"],
    ),
    "a table by nothing": (
        "{coins: {times: {values: {a: 1}}}}",
        ["8:28: expected the key 'by', found none (The figure that is looked up, such as "
         "request.json:model)"],
    ),
    "a table by what is counted": (
        "{coins: {times: {by: request.bytes, values: {a: 1}}}}",
        [f"8:33: expected {TEXT}, found 'request.bytes' (how much of something is counted in "
         f"`of:`)"],
    ),
    "a table by an unknown setting": (
        "{coins: {times: {by: account.setting:qualty, values: {a: 1}}}}",
        ["8:33: expected the name of a setting, found 'qualty' (did you mean quality?)"],
    ),
    "a table of values that no setting has": (
        "{coins: {times: {by: account.setting:quality, values: {cheap: 1, bets: 2}}}}",
        ["8:77: expected a value of account.setting:quality, found 'bets' (did you mean best?)"],
    ),
    "a table of unknown plans": (
        "{coins: {times: [2, {by: account.plan, values: {fre: 1}}]}}",
        ["8:60: expected a value of account.plan, found 'fre' (did you mean free?)"],
    ),
    "a table that divides by nothing": (
        "{coins: {per: {by: request.json:m, values: {a: 0}, otherwise: 0}}}",
        [
            "8:59: expected a number above 0, found the number 0",
            "8:74: expected a number above 0, found the number 0",
        ],
    ),
    "an unknown key of a table": (
        "{coins: {times: [{by: request.json:m, values: {a: 1}, otherwse: 1}]}}",
        ["8:66: expected a known key of routes[0].price.coins.times[0], found 'otherwse' (did "
         "you mean otherwise?)"],
    ),
    "a condition on what is counted": (
        "{coins: {when: {request.bytes: 10}}}",
        [f"8:28: expected {TEXT}, found 'request.bytes' (how much of something is counted in "
         f"`of:`)"],
    ),
    "a condition on an unknown figure": (
        "{coins: {when: {request.jsn:a: 10}}}",
        [f"8:28: expected {FORM}, found 'request.jsn:a' (did you mean request.json?)"],
    ),
    "a condition on an unknown value": (
        "{coins: {when: {account.setting:quality: [cheap, bets]}}}",
        ["8:61: expected a value of account.setting:quality, found 'bets' (did you mean best?)"],
    ),
    "a condition on an unknown kind of caller": (
        "{coins: {when: {caller.kind: {not: browsr}}}}",
        ["8:47: expected a value of caller.kind, found 'browsr' (did you mean browser?)"],
    ),
    "a condition of another form": (
        "{coins: {when: {request.json:a: {nott: 1}}}}",
        ["8:44: expected a value, a list of values, `present`, or {not: value}, found a mapping"],
    ),
    "a condition without alternatives": (
        "{coins: {when: {request.json:a: []}}}",
        ["8:44: expected a value, a list of values, `present`, or {not: value}, found an empty "
         "list"],
    ),
}  # fmt: skip

# What is wrong, further keys of a route (line 9), the problems.
BESIDE: dict[str, tuple[str, list[str]]] = {
    "an outcome that is taken": (
        "outcomes: {charged: {answer.json:s: a}}",
        ["9:16: expected a name that no other outcome has, found 'charged'"],
    ),
    "an outcome that is a total": (
        "outcomes: {blocked: {answer.json:s: a}}",
        ["9:16: expected a name that no other outcome has, found 'blocked'"],
    ),
    "an outcome without a condition": (
        "outcomes: {polling: {}}",
        ["9:25: expected a condition, found an empty mapping (without one nothing would ever be "
         "charged)"],
    ),
    "charged when an unknown figure": (
        "charge_when: {answer.stats: 2xx}",
        [f"9:19: expected {FORM}, found 'answer.stats' (did you mean answer.status?)"],
    ),
    "charged when something is counted": (
        "charge_when: {answer.bytes: 5}",
        [f"9:19: expected {TEXT}, found 'answer.bytes' (how much of something is counted in "
         f"`of:`)"],
    ),
    "an unknown setting required": (
        'requires: {aii: "on"}',
        ["9:16: expected the name of a setting, found 'aii' (did you mean ai?)"],
    ),
    "an unknown value required": (
        "requires: {ai: yes}",
        ["9:20: expected a value of ai, found 'yes' (known: off, on)"],
    ),
    "a figure of the answer required": (
        "requires: {answer.status: 2xx}",
        ["9:16: expected the name of a setting, found 'answer.status' (known: ai, quality)"],
    ),
    "an unknown setting sent": (
        "send: {X-Q: qualty}",
        ["9:17: expected the name of a setting, found 'qualty' (did you mean quality?)"],
    ),
    "a figure sent": (
        "send: {X-Q: answer.json:x}",
        ["9:17: expected a name of 1 to 64 letters, digits, '_', '.' or '-', found "
         "'answer.json:x'"],
    ),
    "a framing header sent": (
        "send: {Content-Length: quality}",
        ["9:12: expected a header that is not part of the framing, found 'Content-Length'"],
    ),
    "a header sent twice": (
        "send: {X-Q: quality, x_q: ai}",
        ["9:31: expected each header once, found 'ai' (first at c.yaml:9:17)"],
    ),
    "a counter at two rates": (
        "callers: {api_key: {price: {coins: {of: request.json:n, round: carry, counter: "
        "steps}}}, browser: {price: {coins: {per: 2, of: request.json:n, round: carry, counter: "
        "steps}}}}",
        ["9:171: expected one rate for the counter steps, found another (another price counts "
         "with it at c.yaml:9:84)"],
    ),
    "an interval of nothing": (
        "interval: 0s",
        ["9:15: expected a duration of at least 1ms, found '0s'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("price", "expected"), CASES.values(), ids=CASES.keys())
def test_mistakes(folder: Folder, price: str, expected: list[str]) -> None:
    assert folder.problems(route(price)) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize(("more", "expected"), BESIDE.values(), ids=BESIDE.keys())
def test_mistakes_beside_a_price(folder: Folder, more: str, expected: list[str]) -> None:
    text = route("{coins: 1}", more)
    assert folder.problems(text) == [f"c.yaml:{line}" for line in expected]
