"""One call for each of the product's three metrics; each gives the answer's status."""

from __future__ import annotations

from typing import Any

from tests.acceptance.shop import Customer

V2_TESTS = "/api/v2/shop/tests"


def upload(who: Customer, results: int) -> int:
    """Upload so many results at once."""
    return who.post("/api/reporter/run1/testrun", [{"status": "passed"}] * results).status


def write(who: Customer) -> int:
    """A billable request of the API v2: one unit."""
    return who.post(V2_TESTS, {"title": "t"}).status


def complete(who: Customer, tokens: int, **more: Any) -> int:
    """An AI call that takes so many tokens."""
    body = {"prompt": " ".join(["w"] * tokens), "max_tokens": tokens, **more}
    return who.post("/api/shop/ai/generate", body).status
