"""Options and failures that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

# Which configuration says where the data is.
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("config/gateway.yaml"),
    envvar="TALLYGATE_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Failed(click.ClickException):
    """Something was refused or failed: one line on stderr, exit code 1."""

    def show(self, file: object = None) -> None:
        click.echo(f"tallygate: {self.message}", err=True)
