"""`tallygate serve`: run the gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.options import config_option


@click.command(short_help="Run the gateway.")
@config_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def serve(config: Path, log_level: str) -> None:
    """Run the gateway of a configuration until SIGTERM, which drains it."""
    from gateway.app import run
    from gateway.config import ConfigError

    try:
        code = run(config, log_level=log_level)
    except ConfigError as exc:
        for problem in exc.problems:
            click.echo(problem, err=True)
        count = len(exc.problems)
        click.echo(f"{count} problem{'s' * (count != 1)}: not started", err=True)
        code = 1
    sys.exit(code)
