"""From a path to a book: the whole way in one function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.config.compile import compile_book, rules_version_of, version_of
from gateway.config.draft import Draft
from gateway.config.lint import lint
from gateway.config.problems import ConfigError, Problem, Problems
from gateway.config.references import check_references
from gateway.config.sources import gather
from gateway.config.validate import validate
from gateway.core.book import Book


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be served.

    `warnings` are what an operator should have decided on purpose; `sources`
    are the files it came from, to be watched for changes.
    """

    book: Book
    warnings: tuple[Problem, ...]
    sources: tuple[Path, ...]


def load(path: Path, env: Mapping[str, str]) -> Loaded:
    """Read, check and compile a configuration with the variables of `env`.

    Raises ConfigError with every problem found, sorted by file and line.
    """
    problems, warnings = Problems(), Problems()
    document = gather(path, env, problems, warnings)
    if document is None:
        raise ConfigError(problems.sorted())
    check_references(document.root, problems)
    config = validate(document.root, problems)
    if config is None:
        raise ConfigError(problems.sorted())
    draft = Draft(config, document.root, document.texts, problems)
    book = compile_book(draft, version_of(document), rules_version_of(document))
    if book is None:
        raise ConfigError(problems.sorted())
    lint(draft, book, warnings)
    return Loaded(book, warnings.sorted(), document.files)
