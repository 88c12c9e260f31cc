"""How the command line finds and proves itself to a running gateway.

A gateway writes `control.json` into its data directory, readable by its own
user only, with the address of its admin listener and a token that is drawn
anew at each start. Whoever may read that file could change the store anyway.
Must not know what is done with the token.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from gateway.core.book import Listener

FILE = "control.json"
TOKEN_BYTES = 32


class Control(NamedTuple):
    """Where a running gateway listens for its operator."""

    url: str  # "http://127.0.0.1:8081"
    token: str
    certificate: str = ""  # PEM of the admin listener, when it speaks TLS


def new_token() -> str:
    """A token of 256 random bits, in URL-safe characters."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def control_of(listener: Listener, port: int, token: str) -> Control:
    """The control of an admin listener; `port` is the one it really has."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listener.host, listener.host)
    shown = f"[{host}]" if ":" in host else host
    if listener.tls is None:
        return Control(f"http://{shown}:{port}", token)
    return Control(f"https://{shown}:{port}", token, Path(listener.tls.cert_file).read_text())


def write_control(data_dir: Path, control: Control) -> None:
    """Write the file as a whole, mode 0600. Raises OSError."""
    temporary = data_dir / f".{FILE}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(control._asdict(), file)
    os.replace(temporary, data_dir / FILE)


def remove_control(data_dir: Path) -> None:
    """The gateway is leaving."""
    (data_dir / FILE).unlink(missing_ok=True)


def read_control(data_dir: Path) -> Control | None:
    """The control of the gateway that runs here, None when there is no such file.

    Raises PermissionError when it belongs to another user, ValueError when it is damaged.
    """
    try:
        text = (data_dir / FILE).read_text()
    except FileNotFoundError:
        return None
    fields = json.loads(text)
    if not isinstance(fields, dict) or not {"url", "token"} <= fields.keys():
        raise ValueError(f"{data_dir / FILE} has no url and token")
    return Control(fields["url"], fields["token"], fields.get("certificate", ""))
