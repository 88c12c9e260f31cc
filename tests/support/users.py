"""The user of the manual: what docs/operations.md says that a gateway may do, and no more."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.cluster import client
from tests.support.valkey import Valkey

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
PASSWORD = "p@ss/word"


def rules(prefix: str = "tallygate") -> list[str]:
    """Of ACL SETUSER, behind the name."""
    (line,) = re.findall(r"^    ACL SETUSER tallygate (.*)$", OPERATIONS.read_text(), re.MULTILINE)
    return (
        str(line)
        .replace(">PASSWORD", f">{PASSWORD}")
        .replace("~tallygate{", f"~{prefix}{{")
        .split()
    )


def add_user(server: Valkey, *more: str, prefix: str = "tallygate") -> None:
    with client(server) as connection:
        connection.execute_command("ACL", "SETUSER", "tallygate", *rules(prefix), *more)


def denied(server: Valkey) -> list[str]:
    """What somebody was not allowed to do."""
    with client(server) as connection:
        return [str(entry["object"]) for entry in connection.acl_log()]
