"""From a test's standard output to the api: real pipes and processes, an api in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dawg_agent import logs, spool, upload
from dawg_agent.logs import PIECE
from dawg_agent.spool import Spool, SpoolCarrier
from dawg_agent.upload import DoorClosed, DoorRefused, LogBehind
from dawg_orchestrator.resources.protocol import AttemptRef
from openfiles import opened_below
from unit.agent.pods import ATTEMPT

MIB = 2**20
WHERE = {"namespace": "shop", "run": "checkout-x"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(spool, "AGAIN", 0.001)
    monkeypatch.setattr(spool, "GATHER", 0.02)


@pytest.fixture
def _gathers_to_the_end(_impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "GATHER", 60.0)


Spools = Callable[..., Spool]


@pytest.fixture
async def a_spool(tmp_path: Path) -> AsyncIterator[Spools]:
    """Spools in tmp_path, which are gone at the end."""
    made: list[Spool] = []

    def make(**options: int) -> Spool:
        made.append(Spool(tmp_path, **options))
        return made[-1]

    yield make
    for log in made:
        log.close_writer()
        log.stop()
        log.forget()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the kernel and other tasks make it hold
            await asyncio.sleep(0.002)


@asynccontextmanager
async def a_test(log: Spool, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that writes into the spool, as a runner starts it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=log.writer, stderr=log.writer
    )
    log.close_writer()
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def run(log: Spool, *command: str) -> int:
    async with a_test(log, *command) as process:
        return await asyncio.wait_for(process.wait(), 10)


def writes(size: int) -> list[str]:
    return [sys.executable, "-c", f"import os\nfor _ in range({size // MIB}): os.write(1, b'x' * {MIB})"]


@dataclass
class Api:
    """What the door leads to. ``away``: no answer; ``refusals``: so many requests are refused."""

    log: bytearray = field(default_factory=bytearray)
    complete: bool = False
    away: bool = False
    refusals: int = 0
    requests: int = 0

    async def append_log(
        self, attempt: AttemptRef, where: Mapping[str, str], offset: int, data: bytes, *, final: bool = False
    ) -> int:
        assert (attempt, where) == (ATTEMPT, WHERE)
        self.requests += 1
        await asyncio.sleep(0)
        if self.away:
            raise DoorClosed("nobody answers")
        if self.refusals:
            self.refusals -= 1
            raise DoorRefused(403, "who are you?")
        if offset > len(self.log):
            raise LogBehind(len(self.log))
        self.log += data[len(self.log) - offset :]
        self.complete |= final
        return len(self.log)


@dataclass
class Carrying:
    """A carrier at work."""

    carrier: SpoolCarrier
    task: asyncio.Task[None]

    async def done(self) -> bool:
        await asyncio.wait_for(self.task, 10)
        return self.carrier.stored


def carry(log: Spool, api: Api) -> Carrying:
    door: Any = api
    carrier = SpoolCarrier(log, door, ATTEMPT, WHERE)
    return Carrying(carrier, asyncio.create_task(carrier.carry()))


# The pipe and the file


async def test_output_and_errors_stand_in_the_log_in_their_order(a_spool: Spools) -> None:
    log = a_spool()
    await run(log, "sh", "-c", "echo one; echo two >&2; echo three")

    assert await log.drained(10)
    assert log.read(0, 100) == b"one\ntwo\nthree\n"
    assert log.read(4, 3) == b"two"
    assert log.size == 14


async def test_the_log_ends_with_the_last_who_can_write(a_spool: Spools) -> None:
    log = a_spool()
    left_behind = os.dup(log.writer)
    await run(log, "echo", "from the test")
    await until(lambda: log.size > 0)

    assert not await log.drained(0.01)
    os.write(left_behind, b"from a daemon\n")
    os.close(left_behind)
    assert await log.drained(10)
    assert log.read(0, 100) == b"from the test\nfrom a daemon\n"


async def test_a_log_can_be_ended_while_somebody_can_still_write(a_spool: Spools) -> None:
    log = a_spool()
    os.write(log.writer, b"before")
    log.stop()

    assert log.ended
    assert log.read(0, 100) == b"before"
    with pytest.raises(BrokenPipeError):
        os.write(log.writer, b"after")


async def test_a_test_that_writes_too_much_is_not_held_up_and_the_log_says_it_was_cut(a_spool: Spools) -> None:
    log = a_spool(limit=MIB)

    assert await run(log, *writes(8 * MIB)) == 0
    assert await log.drained(10)
    end = b"\ndawg: the log was cut at 1 MiB\n"
    assert log.size == MIB + len(end)
    assert log.read(MIB, 100) == end
    assert log.read(MIB + 7, 100) == end[7:]


async def test_a_log_of_exactly_the_limit_is_whole(a_spool: Spools) -> None:
    log = a_spool(limit=MIB)
    await run(log, *writes(MIB))
    await log.drained(10)

    assert log.size == MIB


async def test_a_log_that_is_cut_behind_a_line_gets_no_empty_line(a_spool: Spools) -> None:
    log = a_spool(limit=MIB)
    await run(log, sys.executable, "-c", f"print('x' * {MIB - 1}); print('more')")
    await log.drained(10)

    assert log.read(MIB, 100) == b"dawg: the log was cut at 1 MiB\n"


async def test_a_full_disk_does_not_hold_up_the_test_and_the_log_says_so(
    a_spool: Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("r+b", buffering=0))  # noqa: SIM115
    log = a_spool()

    assert await run(log, *writes(4 * MIB)) == 0
    assert await log.drained(10)
    assert log.read(0, 100) == b"dawg: the log was cut: No space left on device\n"


async def test_the_log_has_no_name_that_could_stay_behind(a_spool: Spools, tmp_path: Path) -> None:
    log = a_spool()
    await run(log, "echo", "text")
    await log.drained(10)

    assert [name.endswith("(deleted)") for name in opened_below(tmp_path)] == [True]
    log.forget()
    assert opened_below(tmp_path) == []


# To the api


async def test_of_a_test_that_writes_nothing_the_api_hears_nothing(a_spool: Spools) -> None:
    log, api = a_spool(), Api(away=True)
    carrying = carry(log, api)
    await run(log, "true")

    assert await carrying.done()
    assert api.requests == 0


@pytest.mark.usefixtures("_gathers_to_the_end")
async def test_the_log_of_a_short_test_is_one_request(a_spool: Spools) -> None:
    log, api = a_spool(), Api()
    carrying = carry(log, api)
    await run(log, "sh", "-c", "echo one; echo two")

    assert await carrying.done()
    assert (bytes(api.log), api.complete, api.requests) == (b"one\ntwo\n", True, 1)


async def test_what_a_test_writes_can_be_read_while_it_runs(a_spool: Spools) -> None:
    log, api = a_spool(), Api()
    carrying = carry(log, api)
    async with a_test(log, "cat") as process:
        assert process.stdin is not None
        process.stdin.write(b"hello\n")
        await until(lambda: bytes(api.log) == b"hello\n")
        assert not api.complete
        process.stdin.write(b"bye\n")
        await until(lambda: bytes(api.log) == b"hello\nbye\n")

    assert await carrying.done()
    assert api.complete


@pytest.mark.usefixtures("_gathers_to_the_end")
async def test_output_is_gathered_before_it_is_sent(a_spool: Spools) -> None:
    log, api = a_spool(), Api()
    carrying = carry(log, api)
    for number in range(100):
        os.write(log.writer, f"{number}\n".encode())
        await asyncio.sleep(0)
    await until(lambda: log.size == 290)
    log.close_writer()

    assert await carrying.done()
    assert api.requests == 1


async def test_a_long_log_arrives_whole_and_in_pieces(a_spool: Spools) -> None:
    log, api = a_spool(), Api()
    carrying = carry(log, api)
    await run(log, "seq", "200000")

    assert await carrying.done()
    assert bytes(api.log) == b"".join(b"%d\n" % number for number in range(1, 200_001))
    assert api.requests >= len(api.log) / PIECE


async def test_the_end_of_a_log_that_was_cut_arrives_too(a_spool: Spools) -> None:
    log, api = a_spool(limit=MIB), Api()
    carrying = carry(log, api)
    await run(log, *writes(3 * MIB))

    assert await carrying.done()
    assert bytes(api.log) == b"x" * MIB + b"\ndawg: the log was cut at 1 MiB\n"


async def test_an_api_that_is_away_holds_up_no_test_and_gets_the_log_later(a_spool: Spools) -> None:
    log, api = a_spool(), Api(away=True)
    carrying = carry(log, api)

    assert await run(log, *writes(4 * MIB)) == 0
    await until(lambda: log.ended and api.requests > 1)
    assert not carrying.carrier.stored
    api.away = False
    assert await carrying.done()
    assert len(api.log) == 4 * MIB
    assert api.complete


async def test_an_api_that_has_lost_some_gets_it_again(a_spool: Spools) -> None:
    log, api = a_spool(), Api()
    carrying = carry(log, api)
    os.write(log.writer, b"first ")
    await until(lambda: bytes(api.log) == b"first ")
    del api.log[2:]
    os.write(log.writer, b"second")
    log.close_writer()

    assert await carrying.done()
    assert bytes(api.log) == b"first second"


async def test_an_api_that_does_not_know_the_attempt_yet_is_asked_again(a_spool: Spools) -> None:
    log, api = a_spool(), Api(refusals=3)
    carrying = carry(log, api)
    await run(log, "echo", "text")

    assert await carrying.done()
    assert bytes(api.log) == b"text\n"


async def test_an_api_that_refuses_for_good_is_left_alone_and_the_test_runs_on(a_spool: Spools, tmp_path: Path) -> None:
    log, api = a_spool(), Api(refusals=1000)
    carrying = carry(log, api)
    async with a_test(log, "cat") as process:
        assert process.stdin is not None
        process.stdin.write(b"text")
        assert not await carrying.done()
        process.stdin.write(b"x" * (4 * MIB))
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0

    assert await log.drained(10)
    assert api.requests == logs.REFUSALS
    assert opened_below(tmp_path) == []


async def test_a_log_that_is_stored_is_deleted(a_spool: Spools, tmp_path: Path) -> None:
    log, api = a_spool(), Api()
    carrying = carry(log, api)
    await run(log, "echo", "text")
    await carrying.done()

    assert opened_below(tmp_path) == []


async def test_a_carrier_that_is_told_to_leave_takes_file_and_pipe_with_it(a_spool: Spools, tmp_path: Path) -> None:
    log, api = a_spool(), Api(away=True)
    carrying = carry(log, api)
    os.write(log.writer, b"text")
    await until(lambda: api.requests > 0)
    carrying.task.cancel()
    await asyncio.wait([carrying.task])

    assert opened_below(tmp_path) == []
    assert log.ended
