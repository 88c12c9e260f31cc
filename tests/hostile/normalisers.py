"""What backends make of a path: every combination of the habits found in the field.

`readings(path)` is the set of paths that some server could serve for it. Taken
from the advisories that attack 19 lists (Envoy, Traefik, Caddy, Gravitee) and
from Kong's normalisation vectors. Decoding twice is not among them: a backend that
does it serves /%2570aid as /paid, and such a path is passed at its own price.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

Step = Callable[[str], str]


def _decode(path: str) -> str:
    return unquote_to_bytes(path.encode("latin-1", "replace")).decode("latin-1")


def _decode_unreserved(path: str) -> str:
    def one(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16))
        return char if (char.isalnum() and char.isascii()) or char in "-._~" else found[0]

    return re.sub(r"%([0-9A-Fa-f]{2})", one, path)


def _cut_fragment(path: str) -> str:
    return path.partition("#")[0]


def _cut_nul(path: str) -> str:
    return path.partition("\x00")[0]


def _cut_parameters(path: str) -> str:
    return "/".join(segment.partition(";")[0] for segment in path.split("/"))


def _backslashes(path: str) -> str:
    return path.replace("\\", "/")


def _merge_slashes(path: str) -> str:
    return re.sub(r"/{2,}", "/", path)


def _dot_segments(path: str) -> str:
    """RFC 3986 5.2.4."""
    out: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if len(out) > 1:
                out.pop()
        elif segment != ".":
            out.append(segment)
    return "/".join(out) if len(out) > 1 else "/" + "".join(out)


def _trailing_slash(path: str) -> str:
    return path.rstrip("/") or "/"


# In the order in which servers apply them; each may be left out.
_STEPS: tuple[Step, ...] = (
    _cut_fragment, _cut_parameters, _decode_unreserved, _decode, _cut_nul, _backslashes,
    _merge_slashes, _dot_segments, _trailing_slash,
)  # fmt: skip


def readings(path: str) -> set[str]:
    """Every path that a backend could serve for the path of a raw target."""
    found = {path}
    for step in _STEPS:
        found |= {step(read) for read in found}
    return found


def normalise(path: str) -> str:
    """The reading of a backend with all the usual habits, without decoding twice."""
    path = _decode_unreserved(_cut_fragment(path))
    return _trailing_slash(_dot_segments(_merge_slashes(path)))
