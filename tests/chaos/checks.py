"""What must be true after every trouble, whatever it was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.core.rows import is_cap_lot
from tests.api.admin_client import Admin
from tests.chaos.cast import Cast
from tests.chaos.load import Call, Load
from tests.chaos.scene import Scene
from tests.support.configs import Caller
from tests.support.gateway import Gateway
from tests.support.until import until

HANG_S = 12.0  # twice what a new epoch may take, on a machine that has other things to do
HOLDS_S = 40.0  # the lease is 15 s
HOUR_S = 3600
# What the log shows only when something went wrong that no trouble excuses.
_BROKEN = re.compile(r"Traceback|Fatal error|internal_error|never retrieved|was never awaited")


@dataclass(frozen=True, slots=True)
class Event:
    """As it stands in the store."""

    id: str  # the request's
    account: str
    time_us: int
    coins: int


@dataclass(frozen=True, slots=True)
class Excuse:
    """What a trouble may do. `failures`: codes of refusals, and errors of connections."""

    failures: frozenset[str] = frozenset()
    is_exact: bool = True  # the state could be reached all the time, or nobody was let through
    keeps_rates: bool = True  # rate limits are in the state alone, so not if that was lost
    logs: tuple[str, ...] = field(default=())  # broken lines that it explains


def events_of(scene: Scene, cast: Cast) -> list[Event]:
    """All of the cast's accounts."""
    names = ", ".join(f"'{who.account}'" for _, who, _ in cast.items())
    rows = scene.store.ask(
        f"""
        SELECT e.seq, e.request_id, e.account, e.time_us, c.lot, c.amount
        FROM {scene.schema}.events e
        LEFT JOIN {scene.schema}.charges c ON c.seq = e.seq AND c.time_us = e.time_us
        WHERE e.account IN ({names})
        """
    )
    heads: dict[int, tuple[str, str, int]] = {}
    coins: Counter[int] = Counter()
    for seq, id_, account, time_us, lot, amount in rows:
        heads[seq] = (id_, account, time_us)
        if amount is not None and not is_cap_lot(lot):  # a further allowance counts the same coin
            coins[seq] += amount
    return [Event(*head, coins[seq]) for seq, head in heads.items()]


def after(scene: Scene, cast: Cast, load: Load, excuse: Excuse) -> None:
    """The load has stopped and the trouble is over."""
    check_answers(load.calls, excuse)
    scene.wait_shipped()
    events = events_of(scene, cast)
    check_events(load.calls, events)
    check_limits(cast, events, excuse)
    if excuse.is_exact and not excuse.failures:
        check_refusals(cast, load.calls)
    check_usage(scene, cast, events)
    check_holds(scene, cast)
    for gateway in scene.gateways:
        check_audit(gateway)
        broken = [line for line in gateway.log.splitlines() if _BROKEN.search(line)]
        broken = [line for line in broken if not any([known in line for known in excuse.logs])]
        assert not broken, broken[:3]


def check_answers(calls: Sequence[Call], excuse: Excuse) -> None:
    """Nobody hung, and nothing failed that has no excuse."""
    slow = [call for call in calls if call.took_s > HANG_S]
    assert not slow, slow[:5]
    failed = [call for call in calls if not call.is_well]
    failed = [call for call in failed if (call.code or call.error) not in excuse.failures]
    assert not failed, failed[:5]


def check_events(calls: Sequence[Call], events: Sequence[Event]) -> None:
    """An answer is one event; a refusal none; what was not heard to the end, one or none."""
    counted = Counter([event.id for event in events])
    twice = [id_ for id_, times in counted.items() if times > 1]
    assert not twice, twice[:5]
    charged = {event.id for event in events if event.coins == 1}
    assert {event.coins for event in events} <= {0, 1}
    lost = [call for call in calls if call.status == 200 and call.id not in charged]
    assert not lost, (len(lost), lost[:5])
    unheard = {call.id for call in calls if not call.status}
    answered = {call.id for call in calls if call.status == 200}
    invented = charged - answered - unheard
    assert not invented, (len(invented), sorted(invented)[:5])


def check_limits(cast: Cast, events: Sequence[Event], excuse: Excuse) -> None:
    """No account is over its limit by a unit, and who is refused has used it to the last."""
    for name, who, part in cast.items():
        mine = [event for event in events if event.account == who.account]
        for per, amount in part.blocks_at if excuse.is_exact else ():
            most = max(_by_period(mine, per).values(), default=0)
            assert most <= amount, (name, most, amount)
        for per, amount in part.blocks_at if part.is_used_up else ():
            most = max(_by_period(mine, per).values(), default=0)
            assert most >= amount, (name, most, amount)
        if part.rate and excuse.keeps_rates:
            hours = Counter([event.time_us // 1_000_000 // HOUR_S for event in mine])
            assert max(hours.values(), default=0) <= part.rate, (name, hours)


def check_refusals(cast: Cast, calls: Sequence[Call]) -> None:
    """Nobody is refused for what nobody has asked for yet."""
    for name, who, part in cast.items():
        mine = [call for call in calls if call.stream.who == who]
        for _, amount in part.blocks_at if part.is_used_up else ():
            first = min([call for call in mine if call.status == 429], key=lambda c: c.ended_s)
            asked = [call for call in mine if call.status != 429 and call.began_s < first.ended_s]
            assert len(asked) >= amount, (name, first, len(asked), amount)


def _by_period(events: Sequence[Event], per: str) -> Counter[str]:
    """Coins by calendar period, UTC, of the instants of admission."""
    digits = {"month": 7, "day": 10}[per]
    counted: Counter[str] = Counter()
    for event in events:
        at = datetime.fromtimestamp(event.time_us / 1e6, UTC).isoformat()
        counted[at[:digits]] += event.coins
    return counted


def check_usage(scene: Scene, cast: Cast, events: Sequence[Event]) -> None:
    """What each gateway tells of an account is the sum of its events, and nothing is held."""
    for gateway in scene.gateways:
        for name, who, part in cast.items():
            if part.rate:  # it has no allowance: nothing is told, but its document is read
                assert gateway.get("/v1/usage", who).status == 200
                continue
            mine = sum([event.coins for event in events if event.account == who.account])
            until(  # what one tells of the others' requests may be 0.2 s old
                lambda g=gateway, w=who: _told(g, w),  # type: ignore[misc]
                lambda told, m=mine: told == (m, 0),  # type: ignore[misc]
                what=f"the end of the holds of {name}, and {mine} coins used, at {gateway}",
                deadline_s=HOLDS_S,
            )


def _told(gateway: Gateway, who: Caller) -> tuple[int, int]:
    """What is used, and what is held."""
    figures = gateway.usage(who)
    return figures["used"], figures["in_flight"]


def check_holds(scene: Scene, cast: Cast) -> None:
    """No account's document has a hold."""
    for _, who, _ in cast.items():
        document = scene.document(who)
        left = {
            name: value
            for name, value in document.items()
            if name.startswith(b"o|") or (name.startswith(b"h|") and value != b"0")
        }
        assert not left, (who.account, left)


def check_audit(gateway: Gateway) -> None:
    """At every worker: each compares what itself knows."""
    admin = Admin(gateway.data_dir)
    heard: set[int] = set()

    def left() -> int:
        reply = admin.ask("GET", "/audit")
        assert reply.status == 200, reply
        assert reply.document["clean"], reply.document
        heard.add(reply.document["worker"])
        return int(reply.document["workers"]) - len(heard)

    until(left, lambda count: not count, what="an audit of each worker", deadline_s=60)
