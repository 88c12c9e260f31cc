"""Configuration: YAML files in, one compiled `Book` out, or every mistake at once.

    loaded = load(Path("config/gateway.yaml"), os.environ)
    loaded.book, loaded.warnings, loaded.sources

The way of the data, one file each: sources (which files) -> yaml_core (syntax)
-> environment (variables) -> validate (models) -> compile* (the book) -> lint
(warnings). Imports nothing of the gateway but `core`.
"""

from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigError, Mark, Problem

__all__ = ["ConfigError", "Loaded", "Mark", "Problem", "load"]
