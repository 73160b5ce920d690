"""An event loop in which time passes only when nothing else is left to do, and whose processes can freeze and die.

The product's own coroutines run in it unchanged. Everything that a process does carries the process in its context, so
a frozen one does nothing until it wakes (then all at once, as after SIGCONT), and a dead one never does anything again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any


class Process:
    """One process of the simulated world."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.parked: list[_Handle] = []
        self.context = copy_context()
        self.context.run(_OWNER.set, self)


_OWNER: ContextVar[Process | None] = ContextVar("owner", default=None)


class _Handle:
    """A call that is due at a time; asyncio cancels some of them."""

    __slots__ = ("_cancelled", "_when", "args", "call", "context", "owner")

    def __init__(self, when: float, call: Callable[..., Any], args: tuple[Any, ...], context: Context | None) -> None:
        self._when, self.call, self.args = when, call, args
        self.context = context if context is not None else copy_context()
        self.owner = self.context.get(_OWNER)
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


class Stuck(Exception):
    """Nothing is left that could ever happen."""


class VirtualTime(asyncio.AbstractEventLoop):
    """A loop for one history."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._serial = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself keeps only weak references
        self._processes: list[Process] = []
        self.broken: list[dict[str, Any]] = []  # what escaped from tasks that nobody awaited

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(self._now, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._serial), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.broken.append(context)

    # What the simulation asks of it

    def run_until(self, done: Callable[[], bool], latest: float) -> bool:
        """Let everything happen in its order until ``done`` or a time; returns whether it is done."""
        asyncio._set_running_loop(self)
        try:
            while not done():
                if not self._ready and not self._advance(latest):
                    return False
                self._run(self._ready.popleft())
            return True
        finally:
            asyncio._set_running_loop(None)

    def process(self, name: str) -> Process:
        """A new process."""
        process = Process(name)
        self._processes.append(process)
        return process

    def spawn(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a process' main coroutine."""
        return self.create_task(coro, name=process.name, context=process.context)

    def freeze(self, process: Process) -> None:
        """Stop it, as SIGSTOP does."""
        process.frozen = True

    def wake(self, process: Process) -> None:
        """Let it go on, with all that came due meanwhile."""
        process.frozen = False
        self._ready.extend(process.parked)
        process.parked.clear()

    def end(self) -> None:
        """Cancel whatever is left, of dead processes too, so that no coroutine stays behind half done."""
        for process in self._processes:
            process.dead = False
            self.wake(process)
        for task in list(self._tasks):
            task.cancel()
        self._timers.clear()
        self.run_until(lambda: not self._tasks, self._now)
        self.broken.clear()

    def _advance(self, latest: float) -> bool:
        """Go to the next time at which something is due."""
        while self._timers and self._timers[0][2]._cancelled:
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0][0] > latest:
            self._now = max(self._now, latest) if self._timers else self._now
            return False
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._timers)[2])
        return True

    def _run(self, handle: _Handle) -> None:
        owner = handle.owner
        if handle._cancelled:
            return
        if owner is not None and (owner.frozen or owner.dead):
            owner.parked.append(handle)
            return
        try:
            handle.context.run(handle.call, *handle.args)
        except Exception as error:  # noqa: BLE001 - as asyncio does; the history fails for it
            self.broken.append({"message": "a callback failed", "exception": error})
