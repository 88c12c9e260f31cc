"""Prices as small texts, and what a request of given figures costs by them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from gateway.core.figures import Figure, parse_figure
from gateway.core.pricing import Cost, Price, Ratio, Rule
from tests.config.writing import Folder

# Enough to price with: meters of every kind, counters, settings.
SHOP = """\
upstreams: {app: {url: http://127.0.0.1:9000}}
meters: {coins: {decimals: 2}, uc: {decimals: 9}, steps: {per: ever}, gb: {per: day}}
settings: {ai: {values: ["on", "off"]}, quality: {values: [cheap, medium, best], default: medium}}
plans: {free: {}}
"""
PRICE_AT = 8  # the line of a price in `route`


def route(price: str, more: str = "") -> str:
    """A configuration with one route; `more` are further keys of it, one a line."""
    lines = [f"    {line}" for line in more.splitlines()]
    return SHOP + "\n".join(
        [
            "routes:",
            "  - match: POST /x/{id}",
            "    upstream: app",
            f"    price: {price}",
            *lines,
            "",
        ]
    )


def priced(folder: Folder, price: str, more: str = "") -> Price:
    return folder.load(route(price, more)).book.routes[0].prices["api_key"]


class Said:
    """Facts of one request: texts and numbers by figure, as they are written."""

    def __init__(self, figures: Mapping[str, str | int | Fraction]) -> None:
        self._figures = {parse_figure(text): value for text, value in figures.items()}

    def text(self, figure: Figure) -> str | None:
        value = self._figures.get(figure)
        return None if value is None else str(value)

    def number(self, figure: Figure) -> Ratio | None:
        value = self._figures.get(figure)
        return None if value is None else Fraction(value).as_integer_ratio()

    def has_failed(self) -> bool:
        return False

    def average(self, rule: Rule) -> Ratio | None:
        return None


def settled(price: Price, figures: Mapping[str, str | int | Fraction]) -> Cost:
    """What a request came to."""
    return price.settle(Said(figures), Cost(()))[0]
