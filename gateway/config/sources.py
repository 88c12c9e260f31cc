"""Which files make up a configuration: the main one and what it includes.

Files are read once each, in the order in which they are included, and merged:
lists are concatenated, mappings are united, and what stands in two files is a
problem that names both places. Must not know what the sections mean.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from collections.abc import Mapping as Environment
from pathlib import Path

from gateway.config import environment, yaml_core
from gateway.config.nodes import Items, Mapping, Value
from gateway.config.problems import Mark, Problems, quoted, shown

FILES_MAX = 1_000  # a glob that catches more caught something else
FILE_BYTES_MAX = 64 * 1024 * 1024  # 10,000 routes are 2 MB


class Document:
    """All files of one configuration, merged into one mapping."""

    def __init__(self, root: Mapping, texts: dict[str, str], substituted: list[str]) -> None:
        self.root = root
        self.texts = texts  # by file name, in the order of reading
        self.substituted = substituted  # scalars after their variables were filled in

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(Path(name) for name in self.texts)


def gather(
    path: Path, env: Environment[str, str], problems: Problems, warnings: Problems
) -> Document | None:
    """Read and merge a file and its includes; None when one of them is not readable."""
    gathering = _Gathering(env, problems, warnings)
    gathering.read(str(path), Mark(str(path), 1, 1), ())
    if gathering.broken:
        return None
    root = _merge(gathering.documents, problems)
    return Document(root, gathering.texts, gathering.substituted)


class _Gathering:
    def __init__(self, env: Environment[str, str], problems: Problems, warnings: Problems) -> None:
        self._env = env
        self._problems = problems
        self._warnings = warnings
        self._included_at: dict[str, Mark] = {}  # by real path
        self.documents: list[Mapping] = []
        self.texts: dict[str, str] = {}
        self.substituted: list[str] = []
        self.broken = False

    def read(self, name: str, wanted_at: Mark, chain: tuple[str, ...]) -> None:
        """One file and, after it, what it includes."""
        real = os.path.realpath(name)
        if real in chain:
            names = " -> ".join(os.path.relpath(step, os.path.dirname(real)) for step in chain)
            self._problems.expected(
                wanted_at, "files that do not include themselves", f"{name!r} again", names
            )
            return
        if real in self._included_at:
            first = self._included_at[real]
            self._problems.expected(
                wanted_at, "each file once", f"{name!r} again", f"first at {first}"
            )
            return
        self._included_at[real] = wanted_at
        if len(self._included_at) > FILES_MAX:
            self._problems.expected(wanted_at, f"at most {FILES_MAX} files", "more")
            self.broken = True
            return
        text = self._text(name, wanted_at)
        if text is None:
            self.broken = True
            return
        self.texts[name] = text
        if not chain and not _has_content(text):
            # A file that is being written at this moment is not a gateway without routes.
            self._problems.expected(Mark(name, 1, 1), "a configuration", "an empty file")
        root = yaml_core.parse(text, name, self._substitute, self._problems)
        if root is None:
            self.broken = True
            return
        self.documents.append(root)
        for included, mark in self._includes(name, root):
            self.read(included, mark, (*chain, real))

    def _substitute(self, text: str) -> str:
        filled = environment.substitute(text, self._env)
        self.substituted.append(filled)
        return filled

    def _text(self, name: str, wanted_at: Mark) -> str | None:
        try:
            with open(name, "rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as exc:
            reason = exc.strerror or type(exc).__name__
            self._problems.expected(wanted_at, "a file that can be read", f"{name}: {reason}")
            return None
        if len(content) > FILE_BYTES_MAX:
            self._problems.expected(wanted_at, f"at most {FILE_BYTES_MAX} bytes", f"{name}: more")
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            before = content[: exc.start]
            column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
            mark = Mark(name, before.count(b"\n") + 1, column)
            self._problems.expected(mark, "UTF-8 text", f"the byte 0x{content[exc.start]:02x}")
            return None

    def _includes(self, name: str, root: Mapping) -> Iterator[tuple[str, Mark]]:
        """The files that one file includes; globs give theirs in sorted order."""
        folder = os.path.dirname(name)
        for pattern, mark in self._patterns(root):
            if glob.has_magic(pattern):
                found = sorted(glob.glob(pattern, root_dir=folder or ".", recursive=True))
                if not found:
                    self._warnings.add(mark, f"no file matches {quoted(pattern)}")
            else:
                found = [pattern]
            for match in found:
                yield os.path.join(folder, match), mark

    def _patterns(self, root: Mapping) -> Iterator[tuple[str, Mark]]:
        value = root.get("include")
        if value is None:
            return
        mark = root.values_at["include"]
        entries: list[tuple[Value, Mark]] = [(value, mark)]
        if isinstance(value, Items):
            entries = list(zip(value, value.items_at, strict=True))
        for entry, at in entries:
            if isinstance(entry, str):
                if not self._problems.is_settled(at):
                    yield entry, at
            else:
                self._problems.expected(at, "the name of a file", shown(entry))


def _merge(documents: list[Mapping], problems: Problems) -> Mapping:
    root = Mapping(documents[0].mark if documents else Mark("", 1, 1))
    holders: dict[str, list[Mapping]] = {}
    for document in documents:
        for key, value in document.items():
            # A section whose entries are all commented out is null: not there.
            if key != "include" and value is not None:
                holders.setdefault(key, []).append(document)
    for key, them in holders.items():
        first = them[0]
        value = first[key] if len(them) == 1 else _unite(key, them, problems)
        root.put(key, value, first.keys_at[key], first.values_at[key])
    return root


def _unite(key: str, documents: list[Mapping], problems: Problems) -> Value:
    """One section that stands in several files."""
    first = documents[0]
    value = first[key]
    united: Mapping | Items
    if isinstance(value, Mapping):
        united = Mapping(value.mark)
    elif isinstance(value, Items):
        united = Items(value.mark)
    else:
        for other in documents[1:]:
            _twice(key, other.keys_at[key], first.keys_at[key], problems)
        return value
    for document in documents:
        part = document[key]
        if isinstance(united, Items) and isinstance(part, Items):
            for entry, mark in zip(part, part.items_at, strict=True):
                united.put(entry, mark)
        elif isinstance(united, Mapping) and isinstance(part, Mapping):
            _unite_names(united, part, problems)
        else:
            wanted = "a mapping" if isinstance(united, Mapping) else "a list"
            problems.expected(
                document.values_at[key], f"{wanted}, as at {first.values_at[key]}", shown(part)
            )
    return united


def _unite_names(united: Mapping, part: Mapping, problems: Problems) -> None:
    for name, value in part.items():
        if name in united:
            _twice(name, part.keys_at[name], united.keys_at[name], problems)
        else:
            united.put(name, value, part.keys_at[name], part.values_at[name])


def _twice(name: str, again: Mark, first: Mark, problems: Problems) -> None:
    problems.expected(again, "each name once", f"{quoted(name)} again", f"first at {first}")


def _has_content(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())
