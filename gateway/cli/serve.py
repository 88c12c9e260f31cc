"""`tallygate serve`: run the gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import os
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
    """Run the gateway of a configuration until SIGTERM, which drains it.

    With `workers: N` in the configuration, N processes serve on the same ports, and this one
    keeps them running.
    """
    from gateway.config import ConfigError, load

    try:
        loaded = load(config, os.environ)
    except ConfigError as exc:
        for problem in exc.problems:
            click.echo(problem, err=True)
        count = len(exc.problems)
        click.echo(f"{count} problem{'s' * (count != 1)}: not started", err=True)
        sys.exit(1)
    if loaded.book.workers > 1:
        from gateway.supervisor import run as supervise

        sys.exit(supervise(config, loaded, log_level=log_level))
    from gateway.process import run

    sys.exit(run(config, loaded, log_level=log_level))
