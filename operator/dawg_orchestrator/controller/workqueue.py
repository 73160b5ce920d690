"""Keys that wait to be reconciled: each once, none before its time, none twice at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

IN_TURN = "QueuedRun"
_REST = 2  # times as long as a turn took nobody has one, if others came meanwhile: their verdicts come first
_LONGEST_REST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Key:
    """What is to be looked at: a TestRun, AgentPool, Schedule, Workflow, Dispatch (a pool's queue), Duties (what a
    namespace's Builtin agents look after), Gates (what forges are to show for its runs) or ``IN_TURN``.

    That a TestRun waits is written in turn, one at a time and, while there is other work, with rests, so that thousands
    of them do not hold up verdicts.
    """

    kind: str
    namespace: str
    name: str


class WorkQueue:
    """A set of keys with due times. ``add`` never blocks, an earlier due time wins, and one worker gets a key."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._due: dict[Key, datetime] = {}
        self._heap: list[tuple[datetime, int, Key]] = []
        self._serial = itertools.count()
        self._busy: set[Key] = set()
        self._waiting: deque[asyncio.Future[Key]] = deque()
        self._has_turn = False  # somebody has it, or it rests
        self._turn_began: datetime | None = None
        self._others_came = False  # since the turn began
        self._next_turns: deque[Key] = deque()  # due, but it is another one's turn
        self._resting: dict[Key, datetime] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: Key, at: datetime | None = None) -> None:
        """Look at the key at that time, or now."""
        due = at or self._clock()
        if key in self._resting:
            due = max(due, self._resting[key])
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._serial), key))
        self._hand_out()

    def rest(self, key: Key, until: datetime) -> None:
        """However often it is added, the key is not due before then; for keys that are few."""
        self._resting[key] = until

    async def take(self) -> Key:
        """The next due key that nobody works on; the caller must call ``done`` for it."""
        waiting: asyncio.Future[Key] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._hand_out()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._put_back(waiting.result())
            raise

    def done(self, key: Key) -> None:
        """The key may be taken again."""
        self._let_go(key)
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], next(self._serial), key))
            self._hand_out()

    def _put_back(self, key: Key) -> None:
        self._let_go(key)
        self.add(key)

    def _let_go(self, key: Key) -> None:
        self._busy.discard(key)
        if key.kind == IN_TURN and self._turn_began is not None:
            rest = min(_LONGEST_REST, _REST * (self._clock() - self._turn_began))
            self._turn_began = None
            if self._others_came and rest > timedelta():
                asyncio.get_running_loop().call_later(rest.total_seconds(), self._pass_on_turn)
            else:
                self._pass_on_turn()

    def _pass_on_turn(self) -> None:
        self._has_turn = False
        while self._next_turns:
            following = self._next_turns.popleft()
            if following in self._due:  # it may stand here twice
                heapq.heappush(self._heap, (self._due[following], next(self._serial), following))
                self._hand_out()
                return

    def _hand_out(self) -> None:
        """Give due keys to who waits; for the next one that is not yet due set an alarm."""
        while self._waiting:
            if self._waiting[0].done():  # nobody waits any more
                self._waiting.popleft()
                continue
            following = self._next()
            if not isinstance(following, Key):
                self._set_alarm(following)
                return
            self._waiting.popleft().set_result(following)

    def _set_alarm(self, due: datetime | None) -> None:
        if due == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at = due
        if due is not None:
            seconds = (due - self._clock()).total_seconds()
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._alarm = self._alarm_at = None
        self._hand_out()

    def _next(self) -> Key | datetime | None:
        """A key that is due, or when one will be; None: none waits."""
        now = self._clock()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due or key in self._busy:
                heapq.heappop(self._heap)  # superseded by an earlier time, or put back by `done`
                continue
            if due > now:
                return due
            heapq.heappop(self._heap)
            if key.kind == IN_TURN:
                if self._has_turn:
                    self._next_turns.append(key)
                    continue
                self._has_turn, self._turn_began, self._others_came = True, now, False
            else:
                self._others_came = True
            del self._due[key]
            self._busy.add(key)
            return key
        return None


async def work(queue: WorkQueue, reconcile: Callable[[Key], Awaitable[None]]) -> None:
    """One worker: take a key, reconcile it, for ever. ``reconcile`` catches its own errors."""
    while True:
        key = await queue.take()
        try:
            await reconcile(key)
        finally:
            queue.done(key)
