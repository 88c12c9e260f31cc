"""What is over, of one account: told in the order of this gateway's journal, each once.

Question: what do these requests come to? All that end until the next call of the script
are told in one step. The script counts what is after the last record that it knows of
this journal, so nothing may be told before what was recorded earlier: what finds no
document waits, and all that comes later behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from gateway.state.base import Hold, Posting
from gateway.state.shared.document import held_field, part_field, row_of, used_field
from gateway.state.shared.link import Link, Reply, StateUnavailable
from gateway.state.shared.stake import NO_DOCUMENT, ONE_BY_ONE, Form, Stake

AGAIN_S = 0.5

Parts = Sequence[tuple[str, int]]  # fields of the document, and amounts
NOTHING: Parts = ()
# Whatever the document has: of an ended process, or of a hold that may have been posted already.
AS_IT_SAYS: Literal[0] = 0
Held = Parts | Literal[0]


def held_by(hold: Hold) -> Parts:
    """What a hold of its own has in the document."""
    return [(held_field(balance), amount) for balance, amount in hold.reserved if amount]


def used_by(postings: Sequence[Posting]) -> Parts:
    """What is added to the document."""
    return [(used_field(*row_of(posting)), posting[1]) for posting in postings]


class Ended(NamedTuple):
    """A request that is over, as the journal has it in record `seq`; 0: nothing of it was."""

    hold_id: str
    seq: int
    time_us: int  # when it came
    used: Parts | None  # None: what its form says
    gauges: list[str]  # keys of limits of requests in flight
    # Of a hold of its own, or AS_IT_SAYS.
    held: Held = NOTHING
    stake: Stake | None = None  # where it was held, and as what
    form: Form | None = None

    @property
    def is_usual(self) -> bool:
        """Whether its form knows what there is to say."""
        form, stake = self.form, self.stake
        if form is None or stake is None or self.used is not None or self.gauges:
            return False
        return self.held != AS_IT_SAYS and stake.life == form.life


class Give:
    """Some that are over. Implements link.Step."""

    __slots__ = ("_posts", "ended", "is_sent")

    is_asked = False

    def __init__(self, posts: Posts, ended: list[Ended]) -> None:
        self._posts = posts
        self.ended = ended
        self.is_sent = False

    @property
    def keys(self) -> tuple[str, ...]:
        gauges = [key for ended in self.ended for key in ended.gauges]
        return (self._posts.key, *gauges) if gauges else (self._posts.key,)

    def encode(self) -> bytes:
        self.is_sent = True
        if len(self.ended) == 1 and self.ended[0].is_usual:
            (ended,) = self.ended
            assert ended.stake is not None and ended.form is not None, "it is usual"
            ended.stake.count -= 1
            return ended.form.give(ended.seq, ended.time_us)
        singles, gauges, seqs = [], [], []
        forms: dict[tuple[Stake, Form], list[int]] = {}
        unsure: list[tuple[Stake, Form, str]] = []
        used: dict[str, int] = {}
        for ended in self.ended:
            hold_id, seq, time_us, parts, keys, held, stake, form = ended
            if seq:
                seqs.append(seq)
            if keys:
                gauges += [(key, hold_id) for key in keys]
            if stake is None or form is None:
                singles.append((hold_id, held, parts or [], time_us))
                continue
            if held == AS_IT_SAYS:
                singles.append((hold_id, held, parts or [], time_us))
                unsure.append((stake, form, hold_id))
                continue
            counts = forms.get((stake, form))
            if counts is None:
                counts = forms[stake, form] = [0, 0]
            counts[0] += 1
            if not seq:
                continue
            if parts is None:
                counts[1] += 1
            else:
                for name, amount in parts:
                    used[name] = used.get(name, 0) + amount
        stakes = _stakes(forms, used)
        stakes += [_of_one(*one) for one in unsure]
        body = [
            *("give", self._posts.key, self._posts.journal),
            *(min(seqs, default=0), max(seqs, default=0)),
            *(stakes, singles, list(used.items()), gauges),
            self.ended[0].time_us if len(self.ended) == 1 else 0,
        ]
        return orjson.dumps(body)

    def done(self, reply: Reply) -> None:
        self._posts.told(self, reply[0])

    def fail(self, error: StateUnavailable) -> None:
        pass


def _stakes(forms: dict[tuple[Stake, Form], list[int]], used: dict[str, int]) -> list[Any]:
    """What each stake gives back; what was reserved and is paid is added to `used`."""
    held: dict[Stake, dict[tuple[str, str], int]] = {}
    requests: dict[Stake, int] = {}
    for (stake, form), (count, paid) in forms.items():
        sums = held.setdefault(stake, {})
        requests[stake] = requests.get(stake, 0) + count
        for held_name, part, amount in form.held:
            names = (held_name, part_field(stake.life, part))
            sums[names] = sums.get(names, 0) + amount * count
        if paid:
            for name, amount in form.used:
                used[name] = used.get(name, 0) + amount * paid
    for stake, count in requests.items():
        stake.count -= count
    return [
        (stake.life, requests[stake], [(*names, n) for names, n in sums.items() if n])
        for stake, sums in held.items()
    ]


def _of_one(stake: Stake, form: Form, hold_id: str) -> list[Any]:
    """What a request gives back, unless the document has it as a hold that is posted."""
    stake.count -= 1
    held = [(name, part_field(stake.life, part), n) for name, part, n in form.held if n]
    return [stake.life, 1, held, hold_id]


class Posts:
    """`refresh` begins the document where there is none, and is done when there is one."""

    __slots__ = ("key", "journal", "_link", "_refresh", "_open", "_waiting")

    def __init__(
        self, link: Link, key: str, journal: str, refresh: Callable[[], asyncio.Future[Any]]
    ) -> None:
        self.key = key
        self.journal = journal
        self._link = link
        self._refresh = refresh
        self._open: Give | None = None  # the step that is being gathered
        self._waiting: list[Ended] = []  # while there is no document

    def tell(self, ended: Ended) -> None:
        give = self._open
        if self._waiting:
            self._waiting.append(ended)  # its stake counts it, so none of that name begins
        elif give is not None and not give.is_sent and self._link.may_join():
            give.ended.append(ended)
        else:
            self._put([ended])

    def _put(self, ended: list[Ended]) -> None:
        give = Give(self, ended)
        self._open = give if self._link.put(give) else None

    def told(self, give: Give, kind: int) -> None:
        """What the script said of a step."""
        if kind == NO_DOCUMENT:
            self._wait(give.ended)
        elif kind == ONE_BY_ONE:
            # The store had some of it when the document was begun.
            self._link.put_back(self._one_by_one(give.ended))

    def _one_by_one(self, all_ended: Iterable[Ended]) -> Iterable[Give]:
        for ended in all_ended:
            if ended.stake is not None:
                ended.stake.count += 1
            yield Give(self, [ended])

    def _wait(self, all_ended: Iterable[Ended]) -> None:
        """There is no document any more; the next one tells whether the store had the event."""
        is_first = not self._waiting
        self._waiting += map(_alone, all_ended)
        give = self._open
        if give is not None and not give.is_sent:
            self._waiting += give.ended
            give.ended = []
        if self._waiting and is_first:
            self._link.behind += 1
            self._send_later()

    def _send_later(self) -> None:
        def again(done: asyncio.Future[Any]) -> None:
            if done.exception() is not None:
                asyncio.get_running_loop().call_later(AGAIN_S, self._send_later)
                return
            waiting, self._waiting = self._waiting, []
            self._link.behind -= 1
            self._put(waiting)

        self._refresh().add_done_callback(again)


def body_again(key: str, journal: str, hold_id: str, seq: int, used: Parts) -> list[Any]:
    """The step for one that a process recorded which may have ended before it told it."""
    singles = [(hold_id, AS_IT_SAYS, used, 0)]
    return ["give", key, journal, seq, seq, [], singles, [], [], 0]


def _alone(ended: Ended) -> Ended:
    """What was held is gone with the document, but for what waits for the next one."""
    if ended.stake is not None and ended.stake.is_told:
        return ended
    used = ended.used
    if used is None and ended.form is not None:
        used = ended.form.used if ended.seq else NOTHING
    return ended._replace(used=used or NOTHING, held=AS_IT_SAYS, stake=None, form=None)
