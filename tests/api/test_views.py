"""Views: typed values, inner names, parameters, and headers that stay one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.views import Names, chosen_parameters, render
from gateway.core.book import View
from gateway.store.sums import RequestRow
from tests.core.terms_making import us

USAGE: dict[str, Any] = {
    "account": "acme",
    "title": "Acme",
    "plan": "starter",
    "seats": 3,
    "overage": False,
    "spending_cap": "50.00",
    "settings": {"quality": "best"},
    "meters": {
        "make": {
            "title": "12.50",
            "used": 42,
            "in_flight": 1,
            "remaining": 19_957,
            "limit": 20_000,
            "overage": 0,
            "projected": 84,
            "overage_cost": None,
            "period": {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"},
        },
        "uc": {
            "title": "Usage Credits",
            "used": "0.250000000",
            "in_flight": "0.000000000",
            "remaining": None,
            "limit": None,
            "overage": "1234567.123456789",
            "overage_cost": "158.666667",
            "projected": "1.000000000",
            "period": {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"},
        },
    },
}
REQUESTS = [
    RequestRow("make", "charged", False, 30),
    RequestRow("make", "client_gone", False, 2),
    RequestRow("make", "not_charged", False, 5),
    RequestRow("make", "continued", False, 9),
    RequestRow("make", "polling", False, 4),
    RequestRow("make", "blocked:make", True, 7),
    RequestRow("make", "blocked:make@day", True, 1),
    RequestRow("make", "blocked:spending_cap", True, 2),
    RequestRow("make", "blocked:burst", True, 3),
    RequestRow("make", "refused:unpriceable", True, 100),
    RequestRow("v2.0 API", "charged", False, 6),
]
BOOK: Any = SimpleNamespace(meters={"make": None, "uc": None})


def filled(body: object, headers: tuple[tuple[str, str], ...] = (), **given: str) -> Any:
    names = Names(USAGE, BOOK, REQUESTS, us("2026-03-05T06:07"), given)
    return render(View("/v", body, headers), names)


def value(text: object, **given: str) -> Any:
    return filled(text, (), **given)[0]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("{plan}", "starter"),
        ("{account}", "acme"),
        ("{title}", "Acme"),
        ("{seats}", 3),
        ("{overage}", False),
        ("{cap}", 50.0),
        ("{month}", "2026-03"),
        ("{time}", "2026-03-05T06:07:00Z"),
        ("{setting.quality}", "best"),
        ("{meter.make.used}", 42),
        ("{meter.make.limit}", 20_000),
        ("{meter.make.title}", "12.50"),
        ("{meter.make.period_end}", "2026-04-01T00:00:00Z"),
        ("{meter.uc.used}", 0.25),
        ("{meter.uc.limit}", None),
        ("{meter.uc.overage_cost}", 158.666667),
        ("{meter.uc.overage}", "1234567.123456789"),  # 16 digits: no JSON number is exact
        ("{meter.unused.used}", 0),
        ("{meter.unused.limit}", None),
        ("{requests.make.total}", 30 + 2 + 5 + 4 + 7 + 1 + 2 + 3),
        ("{requests.make.blocked}", 7 + 1 + 2),
        ("{requests.make.charged}", 32),
        ("{requests.make.polling}", 4),
        ("{requests.v2.0 API.charged}", 6),
        ("{requests.nothing.total}", 0),
        ("used {meter.make.used} of {meter.make.limit}", "used 42 of 20000"),
        ("overage: {overage}, left: {meter.uc.remaining}.", "overage: false, left: ."),
        ("no names { here }", "no names "),
        ("plain", "plain"),
        (7, 7),
        (None, None),
        (True, True),
    ],
)
def test_names(text: object, right: object) -> None:
    found = value(text)
    assert found == right
    assert type(found) is type(right)


def test_shapes_are_kept() -> None:
    body = {"a": [{"b": "{plan}"}, 1.5, ["{seats}"]], "plan": "{plan}"}
    assert value(body) == {"a": [{"b": "starter"}, 1.5, [3]], "plan": "starter"}


def test_inner_names_choose_a_meter() -> None:
    for kind, used in (("make", 42), ("uc", 0.25)):
        assert value("{meter.{kind}.used}", kind=kind) == used
        assert value("{kind}: {meter.{kind}.used}", kind=kind) == f"{kind}: {used}"


def test_without_a_cap() -> None:
    names = Names({**USAGE, "spending_cap": None}, BOOK, [], us("2026-03-05"), {})
    assert render(View("/v", "{cap}"), names)[0] is None


def test_headers_are_text_on_one_line() -> None:
    headers = (("X-Plan", "{plan}"), ("X-Seats", "{seats}"), ("X-None", "{meter.uc.limit}"))
    assert filled({}, headers)[1] == {"X-Plan": "starter", "X-Seats": "3", "X-None": ""}
    split = filled({}, (("X-Slug", "{slug}"),), slug="a\r\nSet-Cookie: x=1\x00")[1]
    assert split == {"X-Slug": "aSet-Cookie: x=1"}


@given(st.text(max_size=30))
def test_nothing_that_a_caller_puts_into_the_path_breaks_a_view(slug: str) -> None:
    body = ["{slug}", "a {slug} b", "{meter.{slug}.used}", "{{slug}}"]
    found, headers = filled(body, (("X-Slug", "{slug} {meter.{slug}.used}"),), slug=slug)
    assert found[0] == slug
    assert "\r" not in headers["X-Slug"] and "\n" not in headers["X-Slug"]


VIEW = View("/v", {}, parameters=(("kind", ("make", "ai")), ("form", ("short", "long"))))


def test_parameters_and_their_defaults() -> None:
    assert chosen_parameters(VIEW, {}) == {"kind": "make", "form": "short"}
    assert chosen_parameters(VIEW, {"kind": "ai"}) == {"kind": "ai", "form": "short"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"kind": "gold"}, "kind: expected one of make, ai, found 'gold'"),
        ({"kind": ""}, "kind: expected one of make, ai, found ''"),
        ({"sort": "x"}, "sort: expected no such parameter (known: kind, form)"),
    ],
)
def test_other_parameters_are_refused(query: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError) as wrong:
        chosen_parameters(VIEW, query)
    assert str(wrong.value) == message
