"""An agent's slots: real runners behind real sockets, and strangers and liars in their place."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dawg_agent import slotline
from dawg_agent.slots import CannotStart, Ended, RunOrder, Slot, SlotLost, Slots
from integration.agent.runners import PATIENCE, a_folder, a_pack, a_process

HELLO = {"say": "hello", "python": "3.11.2", "pid": 1, "preloaded": [], "preloadErrors": {}}
ENDED = {"say": "ended", "code": 0, "leftovers": 0, "oom": False, "processes": False, "full": False}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slotline, "STANDS", 0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    with a_folder() as path:
        yield path


@asynccontextmanager
async def opened(folder: Path, count: int = 1) -> AsyncIterator[Slots]:
    slots = Slots(folder, count)
    await slots.open()
    try:
        yield slots
    finally:
        await slots.close()


@pytest.fixture
async def slots(folder: Path) -> AsyncIterator[Slots]:
    async with opened(folder) as opened_slots:
        yield opened_slots


def door(folder: Path, number: int = 0) -> Path:
    return folder / str(number) / "door" / "agent.sock"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.002)


@dataclass
class Liar:
    """Who speaks as a runner does, with words of our choice."""

    line: socket.socket

    @classmethod
    async def come_in(cls, folder: Path) -> Liar:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        await until(door(folder).exists)
        await asyncio.get_running_loop().sock_connect(line, str(door(folder)))
        return cls(line)

    def say(self, word: dict[str, Any] | bytes) -> None:
        self.line.send(word if isinstance(word, bytes) else json.dumps(word).encode())

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            content = await asyncio.get_running_loop().sock_recv(self.line, 60_000)
        return json.loads(content) if content else {}


@pytest.fixture
async def liar(slots: Slots, folder: Path) -> AsyncIterator[Liar]:
    liar = await Liar.come_in(folder)
    liar.say(HELLO)
    with liar.line:
        yield liar


@dataclass
class Output:
    """Where a task writes to."""

    inlet: int
    outlet: int

    def read(self) -> str:
        os.close(self.inlet)
        with os.fdopen(self.outlet) as file:
            return file.read()


@pytest.fixture
def output() -> Iterator[Output]:
    outlet, inlet = os.pipe()
    yield Output(inlet, outlet)
    for descriptor in (outlet, inlet):
        with suppress(OSError):
            os.close(descriptor)


def an_order(*argv: str, **more: Any) -> RunOrder:
    return RunOrder(argv, more.pop("env", {}), **more)


async def run(slot: Slot, output: Output, *argv: str, trees: tuple[int, ...] = (), **order: Any) -> Ended:
    async with asyncio.timeout(PATIENCE):
        return await slot.begin(an_order(*argv, **order), output.inlet, trees, lambda _: None)


async def claimed(slots: Slots) -> Slot:
    async with asyncio.timeout(PATIENCE):
        return await slots.claim()


# With a real runner


async def test_a_slot_runs_one_task_after_another_and_each_finds_it_empty(
    slots: Slots, folder: Path, output: Output
) -> None:
    begun: list[datetime] = []
    tree = a_pack(("f", "told", b"of the tree"))
    script = "cat told; echo $LONG | wc -c; echo $OTHER; mkfifo left; ls | wc -l"
    place = str(folder / "dawg" / "workspace")
    order = an_order("sh", "-c", script, env={"LONG": "x" * 100_000}, cwd=place, root=place)
    with a_process(door(folder), folder):
        for _ in range(2):
            slot = await claimed(slots)
            before = datetime.now(UTC)
            ended = await slot.begin(order, output.inlet, [tree], begun.append)
            assert (ended.code, ended.leftovers) == (0, 0)
            assert before <= begun[-1] <= ended.at <= datetime.now(UTC)
            slot.release()

    assert output.read() == "of the tree100001\n\n2\n" * 2


async def test_a_task_that_cannot_start_says_why_and_keeps_the_slot(slots: Slots, folder: Path, output: Output) -> None:
    with a_process(door(folder), folder):
        slot = await claimed(slots)
        with pytest.raises(CannotStart, match="command not found: 'no-such-command'"):
            await run(slot, output, "no-such-command")

        assert (await run(slot, output, "true")).code == 0


async def test_a_released_slot_is_free_though_its_task_was_still_running(
    slots: Slots, folder: Path, output: Output
) -> None:
    with a_process(door(folder), folder):
        slot = await claimed(slots)
        running = asyncio.create_task(run(slot, output, "sleep", "600"))
        await asyncio.sleep(0)
        running.cancel()
        slot.release()

        assert (await run(await claimed(slots), output, "true")).code == 0


async def test_a_stopped_task_ends_with_its_code(slots: Slots, folder: Path, output: Output) -> None:
    with a_process(door(folder), folder):
        slot = await claimed(slots)
        running = asyncio.create_task(run(slot, output, "sh", "-c", "trap 'exit 4' TERM; echo; sleep 600 & wait"))
        await asyncio.to_thread(os.read, output.outlet, 1)
        slot.stop(60)

        assert (await running).code == 4


async def test_a_task_whose_runner_is_killed_is_lost_and_the_next_runner_serves(
    slots: Slots, folder: Path, output: Output
) -> None:
    with a_process(door(folder), folder) as process:
        slot = await claimed(slots)
        begun = asyncio.Event()
        order = an_order("sleep", "0.5")
        running = slot.begin(order, output.inlet, (), lambda _: begun.set())
        await begun.wait()
        process.kill()
        with pytest.raises(SlotLost, match="its runner has ended"):
            await running
        assert slots.usable == 0
    slot.release()

    with a_process(door(folder), folder):
        assert (await run(await claimed(slots), output, "true")).code == 0


async def test_a_runner_ends_with_its_agent(slots: Slots, folder: Path) -> None:
    with a_process(door(folder), folder) as process:
        await claimed(slots)
        await slots.close()

        assert await asyncio.to_thread(process.wait, PATIENCE) == 0


# Who is let in


async def test_a_slot_is_usable_when_its_runner_has_greeted_and_stood(
    slots: Slots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slotline, "STANDS", 0.05)
    changes: list[int] = []
    slots.on_change = lambda: changes.append(slots.usable)
    came = time.monotonic()
    liar = await Liar.come_in(folder)
    with liar.line:
        liar.say(HELLO)
        await until(lambda: slots.usable)
        assert time.monotonic() - came >= 0.05
    await until(lambda: not slots.usable)

    assert changes == [1, 0]


async def test_while_a_runner_is_inside_there_is_no_door_to_knock_at(liar: Liar, slots: Slots, folder: Path) -> None:
    await until(lambda: slots.usable)

    assert not door(folder).exists()


async def test_who_comes_in_and_says_nothing_is_sent_away(
    slots: Slots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slotline, "GREETS_WITHIN", 0.03)
    liar = await Liar.come_in(folder)

    with liar.line:
        assert await liar.hear() == {}
    assert slots.usable == 0


def kernel_tells_of_peers() -> bool:
    here, there = socket.socketpair()
    with here, there, suppress(OSError):
        os.close(here.getsockopt(socket.SOL_SOCKET, slotline._SO_PEERPIDFD))
        return True
    return False


STRANGER = """
import socket, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.connect(sys.argv[1])
line.send(b"let me in")
print(line.recv(1), flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def a_stranger(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that came in, and was sent away."""
    await until(door(folder).exists)
    stranger = await asyncio.create_subprocess_exec(
        *(sys.executable, "-IS", "-c", STRANGER, str(door(folder))), stdin=PIPE, stdout=PIPE
    )
    assert stranger.stdin is not None
    assert stranger.stdout is not None
    try:
        assert await stranger.stdout.readline() == b"b''\n"
        yield stranger
    finally:
        stranger.stdin.close()
        await stranger.wait()


async def test_the_door_opens_again_only_when_who_was_sent_away_has_ended(slots: Slots, folder: Path) -> None:
    if not kernel_tells_of_peers():
        pytest.skip("this kernel has no pidfds of peers (Linux 6.5)")
    async with a_stranger(folder) as stranger:
        assert not door(folder).exists()
        stranger.kill()

        await until(door(folder).exists)


async def test_where_the_kernel_cannot_tell_the_door_opens_at_once(
    slots: Slots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slotline, "_SO_PEERPIDFD", 9999)
    async with a_stranger(folder):
        await until(door(folder).exists)


# What is believed


def word(say: str, **more: Any) -> dict[str, Any]:
    return {"id": 1, "at": time.time(), **(ENDED if say == "ended" else {}), "say": say, **more}


@pytest.mark.parametrize(
    "words",
    [
        [b"no JSON"],
        [b"[]"],
        [b"x" * 70_000],
        [word("sing")],
        [HELLO],
        [word("clean")],
        [word("ended")],
        [word("started", id=2)],
        [word("started"), word("started")],
        [word("started"), word("failed", why="late")],
        [word("started"), word("ended", id=2)],
        [word("started"), word("ended", code=256)],
        [word("started"), word("ended", leftovers=-1)],
        [word("started"), word("ended", oom="no")],
        [word("started"), word("ended", at=float("inf"))],
        [word("started"), {"say": "ended", "id": 1}],
    ],
)
async def test_a_runner_that_says_what_makes_no_sense_is_lost(
    liar: Liar, slots: Slots, output: Output, words: list[Any]
) -> None:
    running = asyncio.create_task(run(await claimed(slots), output, "true"))
    assert (await liar.hear())["do"] == "run"
    for said in words:
        liar.say(said)

    with pytest.raises(SlotLost, match="makes no sense"):
        await running
    assert slots.usable == 0
    with suppress(ConnectionError):
        assert await liar.hear() == {}


async def test_a_runner_that_sends_descriptors_is_lost(liar: Liar, slots: Slots) -> None:
    await until(lambda: slots.usable)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))
    liar.line.sendmsg([json.dumps(HELLO).encode()], [rights])

    await until(lambda: not slots.usable)


@pytest.mark.parametrize("at", [0.0, 4e9])
async def test_a_time_that_cannot_be_is_brought_to_one_that_can(
    liar: Liar, slots: Slots, output: Output, at: float
) -> None:
    begun: list[datetime] = []
    slot = await claimed(slots)
    before = datetime.now(UTC)
    running = slot.begin(an_order("true"), output.inlet, (), begun.append)
    await liar.hear()
    liar.say(word("started", at=at, treeSince=0))
    liar.say(word("ended", at=at))
    ended = await running

    assert before <= begun[0] <= ended.at <= datetime.now(UTC)
    assert ended.tree_since_ns is not None
    assert ended.tree_since_ns >= before.timestamp() * 1e9 - 1000


async def test_a_poisoned_slot_is_lost_with_the_reason(liar: Liar, slots: Slots, output: Output) -> None:
    running = asyncio.create_task(run(await claimed(slots), output, "true"))
    await liar.hear()
    liar.say({"say": "poisoned", "why": "2 processes cannot be killed"})

    with pytest.raises(SlotLost, match="2 processes cannot be killed"):
        await running


async def test_a_lost_slot_runs_nothing(liar: Liar, slots: Slots, output: Output) -> None:
    slot = await claimed(slots)
    liar.line.close()
    await until(lambda: not slots.usable)

    with pytest.raises(SlotLost):
        await run(slot, output, "true")


# What must not take forever


async def test_a_slot_that_does_not_become_clean_in_time_is_lost(
    liar: Liar, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slotline, "CLEANS_WITHIN", 0.03)
    (await claimed(slots)).release()

    assert (await liar.hear())["do"] == "clean"
    assert await liar.hear() == {}


async def test_a_runner_that_does_not_end_a_stopped_task_in_time_is_lost(
    liar: Liar, slots: Slots, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slotline, "ENDS_WITHIN", 0.03)
    slot = await claimed(slots)
    running = asyncio.create_task(run(slot, output, "true"))
    await liar.hear()
    slot.stop(0.01)

    with pytest.raises(SlotLost, match="did not end the task"):
        await running


# Whose turn it is


async def test_who_asked_first_gets_the_slot_first(liar: Liar, slots: Slots) -> None:
    slot = await slots.claim()
    second, third = asyncio.create_task(slots.claim()), asyncio.create_task(slots.claim())
    await asyncio.sleep(0)
    assert not second.done()
    third.cancel()
    slot.release()
    liar.say({"say": "clean", "id": (await liar.hear())["id"]})

    assert (await second).number == 0


async def test_a_slot_that_was_given_to_who_no_longer_wants_it_becomes_free(liar: Liar, slots: Slots) -> None:
    cancelled = asyncio.create_task(slots.claim())
    slots.on_change = cancelled.cancel  # at the moment at which the slot is given out
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    liar.say({"say": "clean", "id": (await liar.hear())["id"]})

    assert (await claimed(slots)).number == 0


async def test_every_slot_has_a_door_of_its_own_that_the_group_may_use(folder: Path) -> None:
    async with opened(folder, 3) as slots:
        modes = [door(folder, number).stat().st_mode & 0o777 for number in range(3)]

        assert (modes, slots.usable) == ([0o660] * 3, 0)
    assert not door(folder).exists()
