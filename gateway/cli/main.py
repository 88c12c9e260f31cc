"""`tallygate`: which commands are there, and which file has each.

Invariant: a command's file is imported when that command runs, not before, so
that `tallygate --help` and the quick commands start at once. Must not know what
any command does.
"""

from __future__ import annotations

from importlib import import_module

import click

# name: (module, the command's name in it, one line for --help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("gateway.cli.serve", "serve", "Run the gateway."),
    "check": ("gateway.cli.check", "check", "Report every mistake of a configuration."),
    "schema": ("gateway.cli.check", "schema", "Print the configuration's JSON Schema."),
    "routes": ("gateway.cli.check", "routes", "Show the routes; explain which one matches."),
    "accounts": ("gateway.cli.accounts", "accounts", "Create, list and change accounts."),
    "keys": ("gateway.cli.keys", "keys", "Create, list, revoke and rotate API keys."),
    "topup": ("gateway.cli.accounts", "topup", "Add units to an account's current period."),
    "usage": ("gateway.cli.usage", "usage", "Show what an account has used."),
    "events": ("gateway.cli.usage", "events", "Show metered requests; --follow waits for more."),
    "audit": ("gateway.cli.usage", "audit", "Prove balances and rollups from the events."),
    "demo": ("gateway.cli.demo", "demo", "Run the gateway in front of a demo backend."),
    "version": ("gateway.cli.version", "version", "Print the version."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry[0]), entry[1])
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of --help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Identify, price, limit, forward and durably meter API calls.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
    """
