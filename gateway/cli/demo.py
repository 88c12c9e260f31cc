"""`tallygate demo`: everything in one process, to try it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.options import Failed, config_option


@click.command(short_help="Run the gateway in front of a demo backend.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--admin-port", type=click.IntRange(0, 65535), default=8081, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/demo"),
    show_default=True,
    help="Account, key and events are kept here.",
)
@config_option
def demo(port: int, admin_port: int, data_dir: Path, config: Path) -> None:
    """Start a small backend and the gateway in front of it, with a key to try.

    The configuration's PORT, ADMIN_PORT, BACKEND_URL and DATA_DIR are set for it.
    """
    from gateway.config import ConfigError
    from gateway.demo.run import Options, run_demo
    from gateway.journal.errors import JournalError
    from gateway.store.base import StoreError

    try:
        run_demo(Options(config, port, admin_port, data_dir, _command()))
    except ConfigError as exc:
        raise Failed(f"{config}: the configuration cannot be used\n{exc}") from None
    except (StoreError, JournalError, OSError) as exc:
        raise Failed(str(exc)) from None


def _command() -> str:
    """`.venv/bin/tallygate`, or how a module is run."""
    started = sys.argv[0]
    return "python -m gateway" if started.endswith("__main__.py") else started
