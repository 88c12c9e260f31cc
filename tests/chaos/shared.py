"""Scenes that scenarios share for as long as they succeed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.chaos.play import Form
from tests.chaos.scene import Scene, Servers
from tests.chaos.state import Nodes, Sentinels, State

SCENARIOS = 16  # at most so many share a scene


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scenario is played on; `state` is "one", "sentinels" or "cluster"."""

    state: str = "one"
    when_away: str = "allow"
    workers: int = 1  # of each gateway
    is_hot: bool = False  # many alike requests of few accounts, without a pause

    @property
    def is_usual(self) -> bool:
        return self.state == "one" and self.workers == 1 and not self.is_hot

    def __str__(self) -> str:
        load = "hot" if self.is_hot else "steady"
        return "-".join([self.state, self.when_away, str(self.workers), load])


USUAL = Setting()
DENY = Setting(when_away="deny")


class Shared:
    """By their settings."""

    def __init__(self, servers: Servers, homes: pytest.TempPathFactory, form: Form) -> None:
        self._servers = servers
        self._homes = homes
        self._form = form
        self._scenes: dict[Setting, Scene] = {}

    def take(self, setting: Setting) -> Scene:
        if setting not in self._scenes:
            self._scenes[setting] = made = self._made(setting)
            made.start()
        return self._scenes[setting]

    def _made(self, setting: Setting) -> Scene:
        return Scene(
            self._servers,
            self._homes.mktemp(str(setting)),
            casts=SCENARIOS * self._form.rounds,
            scale=self._form.scale,
            is_hot=setting.is_hot,
            place=self._place(setting.state),
            when_away=setting.when_away,
            workers=setting.workers,
        )

    def _place(self, state: str) -> State:
        if state == "one":
            return self._servers.one
        return Sentinels() if state == "sentinels" else Nodes()

    def spoil(self, setting: Setting) -> None:
        self._scenes.pop(setting).close()

    def end(self) -> None:
        try:
            for scene in self._scenes.values():
                scene.stop()
        finally:
            for scene in self._scenes.values():
                scene.close()
