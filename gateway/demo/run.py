"""The demo: a small backend, the real gateway in front of it, and a key to try.

Both run in this process until SIGINT or SIGTERM. Account and key are made as an
operator would make them, once: what a second start finds, it keeps.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import uvloop

from gateway.api.accounts import create_account
from gateway.api.keys import create_key
from gateway.api.operations import Call, Operations, Operator
from gateway.api.place import LivePlace
from gateway.app import Gateway
from gateway.core.identity import digest_key
from gateway.demo.backend import start_backend
from gateway.log import LogThread

ACCOUNT = "demo"
KEY_FILE = "demo.key"
OPERATOR = Operator("demo", "local", "admin")


class Options(NamedTuple):
    config: Path
    port: int
    admin_port: int
    data_dir: Path
    command: str  # how this program was started, to be copied


def run_demo(options: Options) -> None:
    """Run until a signal. Raises ConfigError, StoreError, JournalError, OSError."""
    # The configuration's warnings are decisions that its comments explain.
    log = LogThread("error")
    try:
        uvloop.run(_main(options, log))
    finally:
        log.close()


async def _main(options: Options, log: LogThread) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    backend, backend_port = await start_backend()
    try:
        gateway = Gateway(options.config, _environment(options, backend_port), log)
        await gateway.start()
        try:
            operations = Operations(LivePlace(gateway))
            data_dir = Path(gateway.book.data_dir)
            key = await asyncio.to_thread(ensure_key, operations, data_dir)
            print(instructions(gateway, key, options), flush=True)
            await ended.wait()
        finally:
            await gateway.stop()
    finally:
        await backend.cleanup()


def _environment(options: Options, backend_port: int) -> Mapping[str, str]:
    """What the ${...} of the demo's configuration stand for."""
    return {
        **os.environ,
        "PORT": str(options.port),
        "ADMIN_PORT": str(options.admin_port),
        "BACKEND_URL": f"http://127.0.0.1:{backend_port}",
        "DATA_DIR": str(options.data_dir.resolve()),
    }


def ensure_key(operations: Operations, data_dir: Path) -> str:
    """The demo account's key: the one of the last start, or a new one."""
    if operations.find_account(ACCOUNT) is None:
        body = {"id": ACCOUNT, "title": "Demo"}
        create_account(operations, Call(OPERATOR, body=body))
    path = data_dir / KEY_FILE
    if path.exists():
        key = path.read_text().strip()
        record = operations.place.hot(lambda hot: hot.store.key(digest_key(key.encode())))
        if record is not None and record.revoked_us is None:
            return key
        path.unlink()
    reply = create_key(operations, Call(OPERATOR, body={"account": ACCOUNT, "name": "demo"}))
    key = str(reply.document["key"])
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    return key


def instructions(gateway: Gateway, key: str, options: Options) -> str:
    """What to try, ready to be copied."""
    here = f"http://127.0.0.1:{gateway.proxy_port}"
    header = f"-H 'Authorization: Bearer {key}'"
    data_dir = shlex.quote(str(options.data_dir))
    return f"""\
tallygate is at {here} in front of a small backend.
key: {key}

Allowed (200, with RateLimit headers; the plan has 20 coins a week, then it is 429):
  curl -i {here}/items {header}
Refused (401, no key):
  curl -i {here}/items
What the key's account has used:
  curl {here}{gateway.book.usage_api.summary_path} {header}

Metrics: http://127.0.0.1:{gateway.admin_port}/metrics
More coins: DATA_DIR={data_dir} {options.command} topup {ACCOUNT} coins 20 --config {options.config}
Ctrl-C ends it; account, key and events stay in {options.data_dir}."""
