"""Which version of the program this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The installed distribution's version; "0+source" for a checkout that is not installed."""
    try:
        return version("tallygate")
    except PackageNotFoundError:
        return "0+source"
