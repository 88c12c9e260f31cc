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
    "accounts": ("gateway.cli.accounts", "accounts", "Create, list, show and change accounts."),
    "members": ("gateway.cli.accounts", "members", "List, set and remove members of accounts."),
    "keys": ("gateway.cli.keys", "keys", "Create, list, revoke and rotate API keys."),
    "topup": ("gateway.cli.units", "topup", "Add units to an account's current period."),
    "grant": ("gateway.cli.units", "grant", "Give units of their own: promotional or recurring."),
    "bundle": (
        "gateway.cli.units",
        "bundle",
        "List the bundles that an account may buy, or add one.",
    ),
    "adjust": ("gateway.cli.units", "adjust", "Correct what an account has."),
    "refund": ("gateway.cli.units", "refund", "Give back what an event was charged."),
    "ledger": ("gateway.cli.units", "ledger", "Show every change of what an account has."),
    "usage": ("gateway.cli.usage", "usage", "Show what an account has used."),
    "history": (
        "gateway.cli.statements",
        "history",
        "Show periods of a meter: granted, consumed, expired.",
    ),
    "breakdown": (
        "gateway.cli.statements",
        "breakdown",
        "Show which operation, project, user or key used what.",
    ),
    "overage": (
        "gateway.cli.statements",
        "overage",
        "Show what is billed beyond the plan, by day.",
    ),
    "invoice": ("gateway.cli.statements", "invoice", "Preview an account's invoice of a month."),
    "events": ("gateway.cli.usage", "events", "Show metered requests; --follow waits for more."),
    "holds": ("gateway.cli.records", "holds", "Show what requests in flight have reserved."),
    "audit": ("gateway.cli.usage", "audit", "Prove balances and rollups from the events."),
    "audit-log": ("gateway.cli.records", "audit_log", "Show who changed what, newest first."),
    "migrate": ("gateway.cli.stores", "migrate", "Bring the store's schema up to date."),
    "copy-store": ("gateway.cli.stores", "copy_store", "Copy a SQLite store to PostgreSQL."),
    "retain": ("gateway.cli.stores", "retain", "Remove events after their time, archived first."),
    "openapi": ("gateway.cli.records", "openapi", "Print the admin API's OpenAPI document."),
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


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        command = main.get_command(ctx, "version")
        assert command is not None
        ctx.invoke(command, as_json=False)
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def main() -> None:
    """Identify, price, limit, forward and durably meter API calls.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
    """
