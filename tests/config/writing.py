"""Configurations as small texts: what the tests of this folder write and load."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import ConfigError, Loaded, load

# Enough to refer to; tests add sections of their own behind it.
BASE = """\
upstreams: {demo: {url: http://127.0.0.1:9000}}
meters: {coins: {decimals: 2}}
plans: {free: {}}
accounts: {acme: {plan: free}}
"""
HASH = "sha256:" + hashlib.sha256(b"key").hexdigest()


class Folder:
    """A folder of configuration files; problems name files relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
        return path

    def load(self, text: str, env: Mapping[str, str] | None = None) -> Loaded:
        """Load `text` as the main file, c.yaml."""
        return load(self.write("c.yaml", text), env or {})

    def problems(self, text: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The problems of `text`, which must have some."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, env)
        lines = str(caught.value).split("\n")
        assert lines == [str(problem) for problem in caught.value.problems]
        return [self._short(line) for line in lines]

    def warnings(self, text: str) -> list[str]:
        return [self._short(str(warning)) for warning in self.load(text).warnings]

    def _short(self, line: str) -> str:
        return line.replace(f"{self.path}/", "")
