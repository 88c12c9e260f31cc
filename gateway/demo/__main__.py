"""`python -m gateway.demo`: the demo's backend alone, for a gateway in another container.

HOST and PORT say where it listens.
"""

from __future__ import annotations

import os

from aiohttp import web

from gateway.demo.backend import make_backend


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "9000"))
    web.run_app(make_backend(), host=host, port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
