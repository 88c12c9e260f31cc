"""The limits of one kind of request, from a real book, and the template they are told with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load
from gateway.core.book import Book
from gateway.proxy.limit_set import LimitSet, make_limit_set

YAML = """
upstreams: {api: {url: "http://127.0.0.1:9"}}
meters: {coins: {title: Coins}, uc: {decimals: 2}}
limits: {all: {rate: 100/second, per: all}}
plans:
  paid:
    limits: {hourly: 10/hour, parallel: {concurrent: 3, per: key}}
    allowances:
      uc: [{amount: 5.5, per: month}, {amount: 1, per: day}]
      coins: {amount: 20, per: ever}
routes:
  - {name: both, match: GET /both, upstream: api, price: {coins: 1, uc: 0.5}}
  - {name: free, match: GET /free, upstream: api, price: free, limits: {slow: 1/second}}
%s
"""


def limit_set(tmp_path: Path, route: str, extra: str = "") -> LimitSet:
    path = tmp_path / "g.yaml"
    path.write_text(YAML % extra)
    book: Book = load(path, {}).book
    found = next(r for r in book.routes if r.name == route)
    return make_limit_set(book, book.plans["paid"], found, "api_key")


def test_limits_are_those_of_book_plan_and_route_in_this_order(tmp_path: Path) -> None:
    made = limit_set(tmp_path, "both")
    assert [limit.name for limit in made.limits] == ["all", "hourly", "parallel"]
    made = limit_set(tmp_path, "free")
    assert [limit.name for limit in made.limits] == ["all", "hourly", "parallel", "slow"]


def test_the_template_has_two_numbers_a_timed_limit_and_a_budget(tmp_path: Path) -> None:
    made = limit_set(tmp_path, "both")
    assert made.budgets == (("coins", 1, 0), ("uc", 100, 2))
    head = made.template % (*range(8), b"20", b"5.50")
    policy, values, remaining = head.decode().splitlines()
    # A period without an end has no window; the first allowance of a meter is the one told.
    assert policy.startswith("RateLimit-Policy: ") and '"parallel"' not in policy
    assert '"coins";q=20, ' in policy and policy.endswith('"uc";q=5;w=2678400')
    assert values == 'RateLimit: "all";r=0;t=1, "hourly";r=2;t=3, "coins";r=4;t=5, "uc";r=6;t=7'
    assert remaining == "X-Budget-Remaining: coins=20, uc=5.50"


def test_what_is_free_tells_limits_alone(tmp_path: Path) -> None:
    made = limit_set(tmp_path, "free")
    assert made.budgets == ()
    assert b"Budget" not in made.template and made.template.count(b"%d") == 6


@pytest.mark.parametrize(
    ("switch", "there", "gone"),
    [("ratelimit", b"X-Budget-Remaining", b"RateLimit:"), ("budget", b"RateLimit:", b"X-Budget")],
)
def test_headers_can_be_switched_off(
    tmp_path: Path, switch: str, there: bytes, gone: bytes
) -> None:
    made = limit_set(tmp_path, "both", f"response_headers: {{{switch}: false}}")
    assert there in made.template and gone not in made.template
