"""What can happen to one call between a controller and the apiserver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chaosruns.calls import is_write

SLOW_SECONDS = 2.5  # more than a leader waits for its Lease
LATE_SECONDS = 1.5
SILENT_SECONDS = 6.0


@dataclass(frozen=True)
class Answer:
    """What the apiserver said."""

    status: int
    headers: dict[str, str]
    body: bytes


class Severed(Exception):
    """The connection breaks without an answer."""


@dataclass(frozen=True)
class Call:
    """One request: who asks, how it is put to the apiserver, and how its sender is killed."""

    forward: Callable[[], Awaitable[Answer]]
    kill_sender: Callable[[], Awaitable[None]]


Fault = Callable[[Call], Awaitable[Answer]]


async def kill_before(call: Call) -> Answer:
    """The controller dies; its request never gets out."""
    await call.kill_sender()
    raise Severed


async def kill_after(call: Call) -> Answer:
    """The request is carried out; the controller dies before it hears of it."""
    await call.forward()
    await call.kill_sender()
    raise Severed


async def kill_in_flight(call: Call) -> Answer:
    """The controller dies; its request arrives when the next one may lead already."""
    await call.kill_sender()
    await asyncio.sleep(LATE_SECONDS)
    await call.forward()
    raise Severed


async def delay(call: Call) -> Answer:
    """The request arrives late, perhaps when nobody waits for its answer any more."""
    await asyncio.sleep(SLOW_SECONDS)
    return await call.forward()


async def drop(_: Call) -> Answer:
    """The connection breaks before the request arrives."""
    raise Severed


async def lose_answer(call: Call) -> Answer:
    """The request is carried out and the connection breaks."""
    await call.forward()
    raise Severed


async def duplicate(call: Call) -> Answer:
    """The request arrives twice."""
    first = await call.forward()
    await call.forward()
    return first


def refuse(status: int, reason: str, headers: dict[str, str] | None = None) -> Fault:
    """The apiserver answers with an error."""
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
            "message": f"chaos: {reason}"}  # fmt: skip
    answer = Answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(said).encode())

    async def refused(_: Call) -> Answer:
        return answer

    return refused


too_many = refuse(429, "TooManyRequests", {"Retry-After": "1"})
broken = refuse(500, "InternalError")

KILLS: dict[str, Fault] = {"kill-before": kill_before, "kill-after": kill_after, "kill-in-flight": kill_in_flight}
CALL_FAULTS: dict[str, Fault] = {
    **KILLS, "delay": delay, "drop": drop, "lose-answer": lose_answer, "duplicate": duplicate, "429": too_many,
    "500": broken, "409": refuse(409, "Conflict"), "410": refuse(410, "Expired"),
}  # fmt: skip
REPLAY = "replay"  # the request arrives again, later
REPEATED = {"429": 3, "500": 2}  # so many calls of the kind in a row
EVENT_FAULTS = ("cut", "gone", "silent", "twice", "stale")  # what happens to a watch at one of its events


def faults_of(kind: str) -> list[str]:
    """What can happen to calls of this kind."""
    verb = kind.split()[1]
    if verb == "event":
        return list(EVENT_FAULTS)
    found = (
        [*CALL_FAULTS, REPLAY]
        if verb != "watch"
        else ["kill-before", "kill-after", "delay", "drop", "429", "500", "410"]
    )
    if not is_write(kind):
        found = [name for name in found if name not in ("409", "duplicate", REPLAY, "kill-in-flight")]
    if verb in ("get", "create", "delete", "patch", "replace"):
        found = [name for name in found if name != "410"]
    return found
