"""A reload of the configuration that other gateways are to hear of, as the audit log has it."""

from __future__ import annotations

import json
from typing import NamedTuple

from gateway.core.book import Book

RELOADED = "configuration.reloaded"  # the action


class Heard(NamedTuple):
    """What another gateway has reloaded."""

    id: int  # of the row in the audit log
    version: str
    rules_version: str
    at_start: bool = False  # it was there before this process began


def detail_of(before: str, book: Book, address: str) -> str:
    """The row's details; `before` is the version that `book` takes the place of."""
    detail = {"address": address, "before": before, "after": book.version}
    return json.dumps({**detail, "rules_version": book.rules_version})


def heard(row_id: int, version: str, detail: str) -> Heard:
    """What a row says."""
    return Heard(row_id, version, json.loads(detail)["rules_version"])
