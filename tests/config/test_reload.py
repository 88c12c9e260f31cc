"""What of a configuration that is loaded again can be taken up, and how the rest is named."""

from __future__ import annotations

from typing import Any

from gateway.config import load
from gateway.config.reload import load_again
from tests.config.writing import BASE, Folder

LISTENERS = "listeners: {proxy: '127.0.0.1:%d', admin: '127.0.0.1:%d'}\n"


def test_what_needs_a_restart_is_named_as_it_is_written(folder: Folder) -> None:
    path = folder.write("c.yaml", BASE + LISTENERS % (8001, 8002))
    before = load(path, {}).book
    folder.write("c.yaml", BASE + LISTENERS % (8003, 8004) + "data_dir: elsewhere\n")
    said: list[Any] = []

    def log(event: str, **facts: Any) -> None:
        if event == "needs_restart":
            said.append(facts["changed"])

    book = load_again(path, {}, before, log)
    assert book is not None
    assert (book.proxy_listener, book.admin_listener) == (
        before.proxy_listener,
        before.admin_listener,
    )
    assert said[0][:3] == ["listeners.proxy", "listeners.admin", "data_dir"]
