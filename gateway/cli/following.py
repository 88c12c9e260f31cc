"""Events as they come, also beyond the end of the gateway that tells them.

The place to go on from is of the store, not of a process, so another process on the same data
goes on from there: none twice, none lost. Must not know how events are printed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from gateway.cli.remote import Away, RemoteOffice

WAIT_S = 10  # how long the gateway holds an answer back while there is nothing new
PAUSE_S = 0.5  # between two tries, and for a gateway that drains and holds nothing back
EVENTS_MAX = 1_000  # in one answer


def newer_events(
    office: RemoteOffice, filters: Mapping[str, str], after: str
) -> Iterator[list[dict[str, Any]]]:
    """What is settled after a place, for good. Raises Failed when the gateway refuses."""
    while True:
        began_s = time.monotonic()
        query = {**filters, "after": after, "wait": str(WAIT_S), "limit": str(EVENTS_MAX)}
        page = _asked(office, query)
        after = page["follow"]
        if page["items"]:
            yield page["items"]
        else:
            time.sleep(max(0.0, began_s + PAUSE_S - time.monotonic()))


def _asked(office: RemoteOffice, query: Mapping[str, str]) -> dict[str, Any]:
    """The answer of the gateway, or of the next one on its data; an absence is told once."""
    is_told = False
    while True:
        try:
            return office.call("GET", "/events", query=query)
        except Away as away:
            if not is_told:
                click.echo(f"tallygate: {away.message}; trying again", err=True)
            is_told = True
        time.sleep(PAUSE_S)
        office.renew()
