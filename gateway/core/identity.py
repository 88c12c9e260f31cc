"""Who calls: the format of API keys and what a key stands for.

A key is `tg_live_` or `tg_test_`, then 32 base62 characters (190 bits when
drawn from a good source; the caller of `format_key` brings the randomness),
then 6 base62 characters of CRC-32, so that a mistyped or invented key is
refused before any look-up. Only the SHA-256 of the whole key is ever kept.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

KEY_SECRET_CHARS = 32  # 62**32 > 2**190; the issue asks for at least 128 bits
KEY_CHECK_CHARS = 6  # 62**6 > 2**32, so every CRC-32 fits
KEY_LENGTH_MAX = 256  # foreign keys declared by hash may have any shape up to this
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

Environment = Literal["live", "test"]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key; the key itself is not.

    Instants are microseconds since the epoch UTC, None means never.
    `routes` names the routes the key may call, None means all; `networks` are
    the source networks it may be used from, None means any.
    """

    id: str
    digest: bytes  # SHA-256 of the key, 32 bytes
    account: str
    user: str = ""
    project: str = ""
    name: str = ""
    hint: str = ""  # e.g. "tg_live_…9xQ2", for people
    created_us: int = 0
    expires_us: int | None = None
    revoked_us: int | None = None
    routes: frozenset[str] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    declared: bool = False  # in YAML, so it cannot be changed at run time


def digest_key(key: bytes) -> bytes:
    """SHA-256 of a presented key, 32 bytes."""
    return hashlib.sha256(key).digest()


def format_key(environment: Environment, entropy: bytes) -> str:
    """A new key from at least 24 random bytes.

    Raises ValueError when the entropy is too short.
    """
    if len(entropy) < 24:
        raise ValueError(f"a key needs 24 random bytes, found {len(entropy)}")
    secret = _base62(int.from_bytes(entropy[:24], "big"), KEY_SECRET_CHARS + 1)[-KEY_SECRET_CHARS:]
    body = f"tg_{environment}_{secret}"
    return body + _check(body)


def is_well_formed(key: str) -> bool:
    """Whether the text has our prefix, length and checksum."""
    if len(key) != len("tg_live_") + KEY_SECRET_CHARS + KEY_CHECK_CHARS:
        return False
    if not key.startswith(("tg_live_", "tg_test_")):
        return False
    return key[-KEY_CHECK_CHARS:] == _check(key[:-KEY_CHECK_CHARS])


def hint_of(key: str) -> str:
    """What may be shown of a key: its prefix and last four characters."""
    prefix = key[:8] if key.startswith("tg_") else ""
    return f"{prefix}…{key[-4:]}"


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), KEY_CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))
