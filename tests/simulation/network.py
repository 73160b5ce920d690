"""How the processes reach the API: the product's own client over a network that loses, delays and repeats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dawg_orchestrator.cluster.client import Cluster, Resource
from dawg_orchestrator.cluster.observe import WATCHED
from dawg_orchestrator.controller import resync
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.errors import ClusterError, Unavailable
from simulation.apiserver import ApiServer, JsonObject, matches
from simulation.faults import Fault, Faults
from simulation.virtual_time import Process, VirtualTime

if TYPE_CHECKING:
    from dawg_orchestrator.controller.leading import ForgetRun

TRAVEL = (0.0005, 0.004)  # seconds of a message one way
_TIMEOUT = 30.0


class Network:
    """Between the processes and the API. ``delivered`` counts requests and watch events that have arrived.

    ``kill`` ends a process by its name: the moments around a write are the most telling ones.
    """

    def __init__(
        self, loop: VirtualTime, api: ApiServer, chance: random.Random, faults: Faults, kill: Callable[[str], None]
    ) -> None:
        self.loop, self.api, self._chance, self._faults, self._kill = loop, api, chance, faults, kill
        self.delivered = 0
        self.api_down_until = 0.0
        self.watches: list[_Watch] = []
        self._outside = loop.process("world").context
        api.watchers.append(self._tell)

    def travel(self) -> float:
        """How long a message is under way."""
        return self._chance.uniform(*TRAVEL)

    async def call(self, who: str, method: str, path: str, body: Any, params: Any) -> JsonObject:
        """One request of a process, with whatever happens to it; it is under way even if the process dies."""
        answer = self.loop.create_future()
        late = self._faults.strikes(Fault.CALL_LATE, 0.03) and self._chance.uniform(1, 8)
        self._after(self.travel() + late, self._arrive, answer, (who, method, path, body, params))
        try:
            async with asyncio.timeout(_TIMEOUT):
                found: JsonObject = await answer
        except TimeoutError as error:
            raise Unavailable(f"{method} {path}: no answer") from error
        return found

    def _arrive(self, answer: asyncio.Future[JsonObject], request: tuple[Any, ...]) -> None:
        self.delivered += 1
        dies = request[1] != "GET" and self._faults.strikes(Fault.LEADER_KILLED, 0.02)
        if dies and self._chance.random() < 0.5:
            self._kill(request[0])
            return
        if self.loop.time() < self.api_down_until or self._faults.strikes(Fault.CALL_REFUSED, 0.04):
            retry_after = 1.0 if self._chance.random() < 0.5 else None
            self._after(self.travel(), _settle, answer, Unavailable("the server is busy", 429, retry_after))
            return
        outcome: JsonObject | ClusterError
        try:
            outcome = self.api.request(*request)
        except ClusterError as error:
            outcome = error
        if dies:
            self._kill(request[0])
        if request[1] != "GET" and self._faults.strikes(Fault.CALL_TWICE, 0.04):
            self._after(self._chance.uniform(0, 5), self._repeat, request)
        if request[1] != "GET" and self._faults.strikes(Fault.ANSWER_LOST, 0.04):
            outcome = Unavailable("the connection was reset")
        self._after(self.travel(), _settle, answer, outcome)

    def _repeat(self, request: tuple[Any, ...]) -> None:
        self.delivered += 1
        try:
            self.api.request(*request)
        except ClusterError:
            return  # nobody waits for this answer

    def _after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(seconds, call, *args, context=self._outside)

    def _tell(self, plural: str, before: JsonObject | None, after: JsonObject | None) -> None:
        self.watches = [watch for watch in self.watches if not watch.process.dead]
        for watch in self.watches:
            watch.hear(plural, before, after)

    async def watch(self, process: Process, desk: Desk, forget_run: ForgetRun, unwatch: asyncio.Event) -> None:
        """Bring all changes to the desk, as kopf does: a list, then events, and a list again after a gap."""
        opened = [_Watch(self, process, resource, selectors, desk, forget_run) for resource, selectors in WATCHED]
        self.watches += opened
        for watch in opened:
            watch.list()
        try:
            await unwatch.wait()
        finally:
            self.watches = [watch for watch in self.watches if watch not in opened]

    def silence(self, seconds: float) -> None:
        """One watch brings nothing for a while."""
        if self.watches:
            self._chance.choice(self.watches).be_silent(seconds)

    def go_down(self, seconds: float) -> None:
        """The API answers nobody for a while, and all watches break."""
        self.api_down_until = self.loop.time() + seconds
        for watch in self.watches:
            watch.be_silent(seconds + self._chance.uniform(0, 2))

    def lag(self, seconds: float) -> None:
        """One watch is late for a while."""
        if self.watches:
            self._chance.choice(self.watches).lag = seconds


class _Watch:
    """One kind, watched by one process."""

    def __init__(
        self, network: Network, process: Process, resource: Resource, selectors: dict[str, str], desk: Desk,
        forget_run: ForgetRun,
    ) -> None:  # fmt: skip
        self._network, self.process, self._resource, self._selectors = network, process, resource, selectors
        self._desk, self._forget_run = desk, forget_run
        self._last = 0.0
        self._silent_until = 0.0
        self.lag = 0.0

    def list(self) -> None:
        """All that exists, as events."""
        for obj in self._network.api.all(self._resource.plural):
            if matches(obj, self._selectors):
                self._send("ADDED", obj)

    def hear(self, plural: str, before: JsonObject | None, after: JsonObject | None) -> None:
        """Something has changed at the API."""
        if plural != self._resource.plural or self._network.loop.time() < self._silent_until:
            return
        seen = before is not None and matches(before, self._selectors)
        if after is not None and matches(after, self._selectors):
            self._send("MODIFIED" if seen else "ADDED", after)
        elif seen:
            self._send("DELETED", after or before or {})

    def be_silent(self, seconds: float) -> None:
        """Bring nothing for a while, then list."""
        self._silent_until = self._network.loop.time() + seconds
        self._network._after(seconds, self.list)

    def _send(self, kind: str, obj: JsonObject) -> None:
        """Events of a watch stay in their order."""
        loop = self._network.loop
        self._last = max(self._last, loop.time() + self._network.travel() + self.lag)
        loop.call_at(self._last, self._bring, kind, obj, context=self.process.context)

    def _bring(self, kind: str, obj: JsonObject) -> None:
        self._network.delivered += 1
        plural, desk = self._resource.plural, self._desk
        if kind != "DELETED":
            resync.tell(desk, self._resource, obj)
        elif plural == "testruns":
            self._network.loop.create_task(self._forget_run(obj["metadata"]["uid"]), context=self.process.context)
        elif plural in ("agentpools", "workflows"):
            drop = desk.drop_pool if plural == "agentpools" else desk.library.drop
            drop(obj["metadata"]["namespace"], obj["metadata"]["name"])
        else:
            {"jobs": desk.drop_job, "pods": desk.drop_pod, "deployments": desk.drop_deployment}[plural](obj)


class Client(Cluster):
    """The product's client; only the last step, the HTTP request, is simulated."""

    def __init__(self, network: Network, who: str) -> None:
        self._network, self._who = network, who
        self.before_write = lambda: None

    async def _request(
        self, method: str, path: str, *, body: Any = None, params: Any = None, accept: Any = None, content: str = ""
    ) -> JsonObject:
        if method != "GET":
            self.before_write()
        return await self._network.call(self._who, method, path, body, params)


def _settle(answer: asyncio.Future[JsonObject], outcome: JsonObject | ClusterError) -> None:
    if answer.done():
        return
    if isinstance(outcome, ClusterError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
