"""The line to the runner of one slot: what the agent wants of it, what it says, and one task's run.

    connected → hello → (run → started → ended | failed → clean → clean)* → lost

What a runner says is not trusted: who says something that makes no sense here is lost, and so is who is silent for
long. A lost runner sees the connection closed, and ends.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

MAX_PACKET = 60_000
STANDS = 0.2  # seconds after which nobody is inside who outlived a runner; kernels without pidfds of peers need it
GREETS_WITHIN = 10.0  # seconds from coming in to the first word
CLEANS_WITHIN = 30.0
ENDS_WITHIN = 10.0  # seconds after SIGKILL
_SO_PEERPIDFD = 77  # Linux 6.5

log = structlog.get_logger()


class SlotLost(Exception):
    """The slot's runner is gone, and the task with it; the text says why."""


class CannotStart(Exception):
    """The task never ran: its tree or its command is at fault."""


@dataclass(frozen=True)
class RunOrder:
    """What to run in a slot; ``cwd`` None: where the image says."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None = None
    root: str = "/dawg/workspace"  # where trees are unpacked
    preloaded: bool = False  # pytest may start as a copy of the runner, if the slot has it
    readable: bool = False  # the agent wants to read what the test leaves


@dataclass(frozen=True)
class Ended:
    """How a task ended: facts, no verdict."""

    code: int
    at: datetime
    leftovers: int = 0  # processes that outlived the one that was started, and were killed
    oom: bool = False  # the kernel killed a process of it for memory
    processes: bool = False  # killed: too many processes
    full: bool = False  # there was no space left on the volume
    tree_since_ns: int | None = None  # files of the tree are not younger than this, what the test wrote is


class _Word(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", alias_generator=to_camel)


_Name = Annotated[str, Field(max_length=200)]
_Text = Annotated[str, Field(max_length=2000)]
_Seconds = Annotated[float, Field(ge=0, lt=2**33, allow_inf_nan=False)]


class _Hello(_Word):
    say: Literal["hello"]
    python: _Name
    pid: int
    preloaded: list[_Name] = Field(max_length=100)
    preload_errors: dict[_Name, _Text] = Field(default_factory=dict, max_length=100)


class _Started(_Word):
    say: Literal["started"]
    id: int
    at: _Seconds
    tree_since: int | None = Field(default=None, ge=0, lt=2**63)


class _Failed(_Word):
    say: Literal["failed"]
    id: int
    why: _Text


class _Over(_Word):
    say: Literal["ended"]
    id: int
    code: int = Field(ge=0, le=255)
    at: _Seconds
    leftovers: int = Field(ge=0, lt=2**31)
    oom: bool
    processes: bool
    full: bool


class _Clean(_Word):
    say: Literal["clean"]
    id: int


class _Poisoned(_Word):
    say: Literal["poisoned"]
    why: _Text


_WORDS: TypeAdapter[_Hello | _Started | _Failed | _Over | _Clean | _Poisoned] = TypeAdapter(
    Annotated[_Hello | _Started | _Failed | _Over | _Clean | _Poisoned, Field(discriminator="say")]
)


class _Senseless(Exception):
    """A runner said what it cannot mean."""


@dataclass
class _Run:
    """A task's run as the agent sees it."""

    number: int
    on_started: Callable[[datetime], None]
    sent_at: int  # ns
    over: asyncio.Future[Ended]
    started: _Started | None = None


class Line:
    """One runner, from coming in to leaving. ``changed`` is called when it is usable, clean, or lost."""

    def __init__(self, slot: int, connection: socket.socket, changed: Callable[[], None]) -> None:
        self._log = log.bind(slot=slot)
        self._connection = connection
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._stands = False
        self._number = 0
        self._run: _Run | None = None
        self._cleaning: int | None = None
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self.hello: _Hello | None = None
        self.lost: str | None = None
        self.process = _peer_of(connection)
        connection.setblocking(False)
        self._loop.add_reader(connection.fileno(), self._read)
        self._set_deadline("greet", GREETS_WITHIN, "its runner said nothing")
        self._standing = self._loop.call_later(STANDS, self._has_stood)

    @property
    def usable(self) -> bool:
        """Whether this is a runner at work, and nobody who only came in."""
        return self.lost is None and self.hello is not None and self._stands

    @property
    def clean(self) -> bool:
        return self._run is None and self._cleaning is None

    # What the agent wants

    def begin(
        self, order: RunOrder, output: int, trees: Sequence[int], on_started: Callable[[datetime], None]
    ) -> asyncio.Future[Ended]:
        """Have a task started; its end, or CannotStart or SlotLost. What is gone already raises SlotLost at once."""
        self._raise_if_lost()
        self._number += 1
        self._run = run = _Run(self._number, on_started, time.time_ns(), self._loop.create_future())
        with _in_memory(_written(order)) as written:
            self._send({"do": "run", "id": run.number}, [written, output, *trees])
        self._raise_if_lost()
        return run.over

    def stop(self, grace: float) -> None:
        """End the task that runs: SIGTERM, and after ``grace`` seconds SIGKILL; how it ended comes from ``begin``."""
        if self._run is None or self.lost is not None:
            return
        self._set_deadline("end", grace + ENDS_WITHIN, "its runner did not end the task")
        self._send({"do": "stop", "id": self._run.number, "grace": grace})

    def clean_up(self) -> None:
        """End what still runs, and remove what it left; ``changed`` tells when that is done."""
        if self.lost is not None:
            return
        self._number += 1
        self._cleaning = self._number
        self._set_deadline("clean", CLEANS_WITHIN, f"its runner was not clean within {CLEANS_WITHIN:.0f} s")
        self._send({"do": "clean", "id": self._cleaning})

    def lose(self, why: str) -> None:
        """Close the connection, whereupon the runner ends."""
        if self.lost is not None:
            return
        self.lost = why
        self._log.warning("slot lost", reason=why)
        self._standing.cancel()
        for kind in list(self._deadlines):
            self._drop_deadline(kind)
        self._loop.remove_reader(self._connection.fileno())
        self._connection.close()
        if self._run is not None and not self._run.over.done():
            self._run.over.set_exception(SlotLost(why))
            self._run.over.exception()  # whoever waited for it may be gone
        self._changed()

    # What the runner says

    def _read(self) -> None:
        packet, flags = b"", 0
        try:
            packet, _, flags, _ = self._connection.recvmsg(MAX_PACKET)
        except BlockingIOError:
            return
        except ConnectionError:
            pass  # it ended before it had read all that we said
        if not packet:
            self.lose("its runner has ended")
            return
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise _Senseless("too much at once")
            self._take(packet)
        except (ValidationError, _Senseless) as error:
            self._log.warning("nonsense from a runner", error=_without_content(error))
            self.lose("its runner said something that makes no sense")

    def _take(self, packet: bytes) -> None:
        word = _WORDS.validate_json(packet)
        match word:
            case _Poisoned():
                self.lose(word.why)
            case _Hello():
                self._greeted(word)
            case _Clean():
                self._cleaned(word)
            case _:
                self._of_run(word)

    def _greeted(self, hello: _Hello) -> None:
        if self.hello is not None:
            raise _Senseless("it says hello twice")
        self.hello = hello
        self._drop_deadline("greet")
        self._log.info("runner is there", python=hello.python, preloaded=hello.preloaded)
        for name, why in hello.preload_errors.items():
            self._log.warning("package not preloaded", package=name, error=why)
        self._changed()

    def _cleaned(self, word: _Clean) -> None:
        if word.id != self._cleaning or self._run is not None:
            raise _Senseless("it has cleaned what nobody asked it to")
        self._cleaning = None
        self._drop_deadline("clean")
        self._changed()

    def _of_run(self, word: _Started | _Failed | _Over) -> None:
        run = self._run
        if run is None or word.id != run.number or isinstance(word, _Over) != (run.started is not None):
            raise _Senseless(f"'{word.say}' of a task that it cannot be about")
        if isinstance(word, _Started):
            run.started = word
            run.on_started(_date(word.at, run.sent_at))
            return
        self._run = None
        self._drop_deadline("end")
        if run.over.done():  # nobody waits for it any more
            return
        if isinstance(word, _Failed):
            run.over.set_exception(CannotStart(word.why))
        else:
            run.over.set_result(_ended(run, word))

    # What must not take forever

    def _set_deadline(self, kind: str, seconds: float, otherwise: str) -> None:
        self._drop_deadline(kind)
        self._deadlines[kind] = self._loop.call_later(seconds, self.lose, otherwise)

    def _drop_deadline(self, kind: str) -> None:
        if kind in self._deadlines:
            self._deadlines.pop(kind).cancel()

    def _has_stood(self) -> None:
        self._stands = True
        self._changed()

    def _raise_if_lost(self) -> None:
        if self.lost is not None:
            raise SlotLost(self.lost)

    def _send(self, packet: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._connection.sendmsg([json.dumps(packet).encode()], rights)
        except OSError as error:  # a full buffer as well: it has not listened for long
            self.lose(f"its runner cannot be told anything: {error.strerror}")


def _without_content(error: ValidationError | _Senseless) -> str:
    """What is wrong with a packet, without a byte of it."""
    if isinstance(error, _Senseless):
        return str(error)
    return ", ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['type']}" for fault in error.errors())


def _written(order: RunOrder) -> bytes:
    plain = {"cwd": order.cwd, "root": order.root, "preloaded": order.preloaded, "readable": order.readable}
    return json.dumps({"argv": list(order.argv), "env": dict(order.env), **plain}).encode()


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A descriptor of what is too large for a packet."""
    with os.fdopen(os.memfd_create("order"), "wb", buffering=0) as file:
        file.write(content)
        yield file.fileno()


def _date(seconds: float, earliest_ns: int) -> datetime:
    """A time that a runner told, which cannot be before we asked, nor after we heard it."""
    return datetime.fromtimestamp(min(max(seconds, earliest_ns / 1e9), time.time()), UTC)


def _ended(run: _Run, over: _Over) -> Ended:
    since = run.started.tree_since if run.started else None
    return Ended(
        code=over.code, at=_date(over.at, run.sent_at), leftovers=over.leftovers, oom=over.oom,
        processes=over.processes, full=over.full,
        tree_since_ns=None if since is None else min(max(since, run.sent_at), time.time_ns()),
    )  # fmt: skip


def _peer_of(connection: socket.socket) -> int | None:
    """A descriptor that becomes readable when the process at the other end has ended; None: the kernel has none.

    That of the first process of a PID namespace ends after all others in it.
    """
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return None
