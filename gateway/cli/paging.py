"""Lists that come a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.cli.office import Office

PAGE = 1_000


def all_items(
    office: Office, path: str, query: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Every item of a list, page after page. Raises Failed."""
    return [item for page in all_pages(office, path, query) for item in page["items"]]


def all_pages(
    office: Office, path: str, query: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """The pages of a list, one at least. Raises Failed."""
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = office.call("GET", path, query={**(query or {}), "limit": str(PAGE), **more})
        yield page
        cursor = page["next"]
