"""Which shared state is this, whatever its address? An id that is kept in it.

Gateways that run write it again when it was lost (`Agreement.repeat`), so it is the same
for as long as one of them runs.
"""

from __future__ import annotations

import secrets

from gateway.core.book import StateSettings
from gateway.state.shared.groups import tags
from gateway.state.shared.link import StateUnavailable


async def state_id(settings: StateSettings) -> str:
    """The state's id, made the first time; "" while the state is away.

    Raises StateUnavailable when the library is not there.
    """
    try:
        from gateway.state.shared.cluster import open_servers
    except ImportError as error:
        raise StateUnavailable(f"state.url: {error}") from None
    names = tags(settings.prefix, 1)
    key = f"{names[0]}id"
    server = open_servers(settings.url, settings.timeout_s, names)[0]
    try:
        await server.command("SET", key, secrets.token_hex(8), "NX")
        found: bytes | None = await server.command("GET", key)
        return found.decode() if found else ""
    except StateUnavailable:
        return ""
    finally:
        await server.close()
