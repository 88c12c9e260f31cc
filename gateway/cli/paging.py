"""Lists that come a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.cli.office import Office

PAGE = 1_000


def all_items(
    office: Office, path: str, query: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Every item of a list, page after page. Raises Failed."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = office.call("GET", path, query={**(query or {}), "limit": str(PAGE), **more})
        items += page["items"]
        cursor = page["next"]
    return items
