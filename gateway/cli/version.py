"""`tallygate version`."""

from __future__ import annotations

import json
import platform

import click

from gateway.core.version import installed_version


@click.command(short_help="Print the version.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the version of tallygate and of Python."""
    number = installed_version()
    if as_json:
        click.echo(json.dumps({"tallygate": number, "python": platform.python_version()}))
    else:
        click.echo(f"tallygate {number} (Python {platform.python_version()})")
