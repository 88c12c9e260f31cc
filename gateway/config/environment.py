"""Text from outside the file: `${VAR}`, `${VAR:-default}` and secrets in files.

Substitution happens after YAML was parsed, in scalars only, so a variable can
never add keys or change the structure. `$${` stands for `${` itself. Must not
know models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.config.problems import Expected

SECRET_BYTES_MAX = 64 * 1024  # a key or a token, not a log file by mistake

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{"
)


def substitute(text: str, env: Mapping[str, str]) -> str:
    """The text with its variables filled in; an empty variable counts as unset.

    Raises Expected for an unset variable without a default, and for a `${`
    that begins no variable.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match["name"]
        if name is None:
            raise Expected(
                "${NAME} or ${NAME:-default}", hint="write $${ where you mean the characters ${"
            )
        found = env.get(name, "")
        if found:
            return found
        if match["default"] is None:
            how = "an empty" if name in env else "an unset"
            raise Expected(
                f"the environment variable {name} to be set",
                found=f"{how} variable",
                hint=f"${{{name}:-default}} gives a default",
            )
        return match["default"]

    return _REFERENCE.sub(value, text)


def read_secret(path: str) -> bytes:
    """The content of a secret's file without surrounding white space.

    Raises Expected when the file cannot be read, is empty or too large.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise Expected("a file that can be read", found=f"{path!r}: {reason}") from None
    if len(content) > SECRET_BYTES_MAX:
        raise Expected(f"a secret of at most {SECRET_BYTES_MAX} bytes", found=f"{path!r}: larger")
    secret = content.strip()
    if not secret:
        raise Expected("a secret", found=f"{path!r}: an empty file")
    return secret
