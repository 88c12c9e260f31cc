"""`tallygate version`."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import click


@click.command(short_help="Print the version.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the version of tallygate and of Python."""
    try:
        number = installed_version("tallygate")
    except PackageNotFoundError:
        number = "0+source"  # run from a checkout that is not installed
    if as_json:
        click.echo(json.dumps({"tallygate": number, "python": platform.python_version()}))
    else:
        click.echo(f"tallygate {number} (Python {platform.python_version()})")
