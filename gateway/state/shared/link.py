"""The line to one group of the shared state: steps in order, each done exactly once.

Question: what did the server say to this step? What comes up in one turn of the event
loop goes in one call of the script, and while a call is on its way the next steps
gather. Invariants: one batch at a time; a batch whose reply was lost is sent again as it
was, and the script answers it with the first reply; nothing waits for longer than a
call may take. While the server is away, who asks hears so at once, and what is only
told is kept until it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import orjson

STEPS_PER_BATCH = 500  # so that no call keeps the server from the others for long
KEPT_MAX = 100_000  # steps that are told while the server is away, some 300 bytes each
# A call costs as much as a dozen requests in it. While each turn of the loop brings more, what
# there is waits so long after the call before; a loop that has nothing else to do does not wait.
GATHER_S = 0.004
QUIET_TURNS = 2  # what a socket brings is heard a turn later
HEARD_TURNS = 2  # of the loop: jobs on a copy hear of it, then the requests that wait for them
RETRY_S = 0.1
EPOCH_WAIT_S = 6.0  # who asks meanwhile waits; it takes a second

Reply = list[Any]
# What to do with the reply of a step.
Then = Callable[[Reply], None]


class StateUnavailable(Exception):
    """The shared state does not answer now."""


class Overtaken(StateUnavailable):
    """It answers, but others have changed the account each time."""


class Restarted(StateUnavailable):
    """Another process of the server answers now. Told once; nothing was done."""


class Broken(StateUnavailable):
    """The script cannot do this batch, and may have done some of it."""


class EpochLost(Exception):
    """Nothing was done: the group is not what it was. `found` is its epoch, "" for none."""

    def __init__(self, found: str) -> None:
        super().__init__(f"found epoch {found!r}")
        self.found = found


class Server(Protocol):
    """What is asked of the client library (servers.py)."""

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        """Call the script. Raises StateUnavailable, Restarted."""
        ...


class Step(Protocol):
    """What the line takes: told to the script as JSON, once, and later what it said."""

    # Whether somebody waits for the reply; what is only told is kept while the server is away.
    is_asked: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it reads and writes."""
        ...

    def encode(self) -> bytes:
        """Its JSON. From now on nothing may be added to it."""
        ...

    def done(self, reply: Reply) -> None: ...

    def fail(self, error: StateUnavailable) -> None:
        """Nobody is to wait any more; it may be done all the same."""
        ...


class Asked:
    """One step that somebody waits for; `late` hears the reply when nobody does any more."""

    __slots__ = ("body", "keys", "reply", "late")

    is_asked = True

    def __init__(
        self,
        body: list[Any],
        keys: tuple[str, ...],
        reply: asyncio.Future[Reply],
        late: Then | None,
    ) -> None:
        self.body = body
        self.keys = keys
        self.reply = reply
        self.late = late

    def encode(self) -> bytes:
        return orjson.dumps(self.body)

    def done(self, reply: Reply) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)
        elif self.late is not None:
            self.late(reply)

    def fail(self, error: StateUnavailable) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class Told:
    """One step whose reply nobody waits for."""

    __slots__ = ("body", "keys")

    is_asked = False

    def __init__(self, body: list[Any], keys: tuple[str, ...]) -> None:
        self.body = body
        self.keys = keys

    def encode(self) -> bytes:
        return orjson.dumps(self.body)

    def done(self, reply: Reply) -> None:
        pass

    def fail(self, error: StateUnavailable) -> None:
        pass


def posted_key(tag: str, worker: str) -> str:
    """Where the last record of a journal stands that was posted."""
    return f"{tag}posted:{worker}"


class Link:
    """Steps of one group. Methods are called on the event loop."""

    def __init__(
        self,
        server: Server,
        tag: str,
        worker: str,
        renew_epoch: Callable[[str], Awaitable[str]],
        first_batch: int,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        """`renew_epoch`: given the one that was found, "" for none, the one that is valid.

        `first_batch` is greater than that of any earlier process of this worker; `now_us`
        takes the place of the server's clock, for a rehearsal.
        """
        self._server = server
        self._heads = (f"{tag}epoch", f"{tag}reply:{worker}", posted_key(tag, worker))
        self._renew_epoch = renew_epoch
        self._epoch = ""
        self.first_batch = self._batch = first_batch
        self._now_us = now_us or (lambda: 0)
        self._queue: deque[Step] = deque()
        self._sent: list[Step] = []
        self._back: list[Step] = []
        self._wake = asyncio.Event()
        self._came = 0  # steps, and what was added to them
        self._sent_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_quiet = asyncio.Event()  # no call is on its way
        self._is_quiet.set()
        self.failure = ""  # why the server is away; "" while it is not
        self.on_abandoned: Callable[[str], None] = lambda why: None  # a batch that cannot be done
        self.behind = 0  # accounts of which something that was told waits for a document
        self.dropped = 0  # steps that were told and could not be kept
        self._made_up = 0  # of those
        # Called before each batch: what it tells of has to be recorded first.
        self.before: Callable[[], None] = lambda: None
        self.on_time: Callable[[int, int], None] = lambda now_us, took_us: None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, timeout_s: float) -> None:
        """When everything was told, or it does not go on."""
        deadline_s = time.monotonic() + timeout_s
        while (self._queue or self._sent) and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=timeout_s)  # it hangs up

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._sent)

    @property
    def epoch(self) -> str:
        """The one that was found last; "" before that."""
        return self._epoch

    async def heard(self) -> None:
        """When the call that is on its way has ended, and who waits for it has been told."""
        await self._is_quiet.wait()
        for _ in range(HEARD_TURNS):
            await asyncio.sleep(0)

    def may_join(self) -> bool:
        """Whether a step that was put and is not sent may still be added to; if so, it is.

        All that waits then goes in one batch, so records are told in their order.
        """
        self._came += 1
        return len(self._queue) < STEPS_PER_BATCH

    async def ask(self, body: list[Any], keys: tuple[str, ...], late: Then | None = None) -> Reply:
        """The reply of a step. Raises StateUnavailable; `late` hears what comes of it then."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.put(Asked(body, keys, reply, late))
        return await reply

    def tell(self, body: list[Any], keys: tuple[str, ...]) -> None:
        """A step whose reply nobody waits for; it is kept while the server is away."""
        self.put(Told(body, keys))

    def put(self, step: Step) -> bool:
        """The next step; False when it could not be kept.

        Raises StateUnavailable where somebody waits for it and the server is away.
        """
        if step.is_asked:
            if self.failure:
                raise StateUnavailable(self.failure)
        elif len(self._queue) >= KEPT_MAX:
            self.dropped += 1
            return False
        self._queue.append(step)
        self._came += 1
        self._wake.set()
        return True

    def put_back(self, steps: Iterable[Step]) -> None:
        """Steps that are to go before all that wait, in their order."""
        self._back += steps

    def distrust(self) -> None:
        """What was told before may not be known there: the group is to be begun anew."""
        self.dropped += 1

    # -- the line -------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._gather()
                try:
                    await self._send()
                except Exception as error:  # a fault of ours: nobody else is to wait for it
                    self._abandon(f"{type(error).__name__}: {error}")

    async def _gather(self) -> None:
        """Until nothing more comes up, or the call before was long enough ago."""
        quiet, came = 0, self._came
        while quiet < QUIET_TURNS and time.monotonic() < self._sent_s + GATHER_S:
            await asyncio.sleep(0)
            quiet = quiet + 1 if came == self._came else 0
            came = self._came

    async def _send(self) -> None:
        """Send what there is, until it is done."""
        queue = self._queue
        self._sent = [queue.popleft() for _ in range(min(len(queue), STEPS_PER_BATCH))]
        steps = self._sent
        self._batch += 1
        keys = list(dict.fromkeys([key for step in steps for key in step.keys]))
        body = b"[%b]" % b",".join([step.encode() for step in steps])
        is_again = False
        while True:
            began_s = self._sent_s = time.monotonic()
            try:
                self.before()
                if self.dropped != self._made_up:
                    await self._make_up()
                now_us, replies = await self._call(keys, body)
            except Restarted:
                self._epoch = ""
                continue
            except Broken as error:
                self._abandon(str(error))
                return
            except StateUnavailable as error:
                if not is_again:
                    # A connection that was kept tells of a restart only when it is used.
                    is_again, self._epoch = True, ""
                    continue
                self._fail(str(error))
                await asyncio.sleep(RETRY_S)
                continue
            except EpochLost as lost:
                await self._adopt(lost.found)
                continue
            break
        self.failure = ""
        if not is_again:  # else it may be the time of the first try
            self.on_time(now_us, int((time.monotonic() - began_s) * 1e6))
        self._sent = []
        for step, reply in zip(steps, replies, strict=True):
            step.done(reply)
        self._queue.extendleft(reversed(self._back))
        self._back = []
        self._wake.set()

    async def _call(self, keys: list[str], body: bytes) -> tuple[int, list[Reply]]:
        arguments = (self._epoch, self._batch, body, self._now_us(), self.behind)
        self._is_quiet.clear()
        try:
            reply = await self._server.run((*self._heads, *keys), arguments)
        finally:
            self._is_quiet.set()
        if reply[0] == -1:
            raise EpochLost(reply[1].decode())
        return reply[0], reply[1]

    async def _make_up(self) -> None:
        """What could not be kept is in the journal: the group is begun anew, with the store's."""
        dropped = self.dropped
        await self._begin("")
        self._made_up = dropped

    async def _adopt(self, found: str) -> None:
        """Go on with the epoch that there is, or with a new one when the group was lost."""
        try:
            await self._begin(found)
        except StateUnavailable as error:
            self._fail(str(error))
            await asyncio.sleep(RETRY_S)

    async def _begin(self, found: str) -> None:
        """The epoch to go on with, by the one that was found."""
        try:
            self._epoch = await asyncio.wait_for(self._renew_epoch(found), EPOCH_WAIT_S)
        except TimeoutError:
            raise StateUnavailable("the state could not be begun anew in time") from None

    def _abandon(self, failure: str) -> None:
        """A batch cannot be done: what it told is made up for from the store."""
        error = StateUnavailable(failure)
        for step in self._sent:
            step.fail(error)
        self._sent = []
        self.on_abandoned(failure)
        self.distrust()

    def _fail(self, failure: str) -> None:
        """Whoever waits hears that the server is away."""
        self.failure = failure
        self._epoch = ""  # it may be another server that answers next: its epoch is looked at
        error = StateUnavailable(failure)
        for step in (*self._sent, *self._queue):
            step.fail(error)
        # Asked and not sent: nothing can come of it any more.
        self._queue = deque(step for step in self._queue if not step.is_asked)
