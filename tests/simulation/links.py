"""Sessions between agents and controllers: in order, and broken without either side being told at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.resources.protocol import SILENCE_SECONDS, FromAgent, FromController, Grant, Hello, NotLeader
from simulation.faults import Fault

if TYPE_CHECKING:
    from simulation.agents import AgentProcess
    from simulation.world import World

_LOOK_SECONDS = 1.0


class Link:
    """One connection, which keeps the order of what is sent. ``open`` is whether it stands."""

    def __init__(self, world: World, agent: AgentProcess, door: Door) -> None:
        self._world, self.agent, self.door = world, agent, door
        self.open = True
        self.heard_at = world.loop.time()  # the controller, from the agent
        self.answered_at = world.loop.time()  # the agent, any sign of life from the controller's machine
        self._to_agent_at = self._to_door_at = 0.0
        self._stalled: list[tuple[Any, Any, Any]] = []  # sent while the network was away: TCP sends it again

    def to_agent(self, message: FromController) -> None:
        """Under way to the agent."""
        self._to_agent_at = max(self._to_agent_at, self._world.arrival())
        self._deliver(self._to_agent_at, self.agent.process.context, self.agent.hear, message)

    def to_door(self, message: FromAgent) -> None:
        """Under way to the controller."""
        self._to_door_at = max(self._to_door_at, self._world.arrival())
        self._deliver(self._to_door_at, self.door.process.context, self.door.hear, message)

    def _deliver(self, at: float, context: Any, hear: Any, message: Any) -> None:
        self._world.loop.call_at(at, self._arrive, hear, message, context, context=context)

    def _arrive(self, hear: Any, message: Any, context: Any) -> None:
        if not self.open:
            return
        if not self.agent.reachable:
            self._stalled.append((hear, message, context))
            return
        self._world.messages += 1
        hear(self, message)

    def go_on(self) -> None:
        """The network is back."""
        stalled, self._stalled = self._stalled, []
        now = self._world.loop.time()
        for hear, message, context in stalled:
            self._world.loop.call_at(now, self._arrive, hear, message, context, context=context)

    def close(self) -> None:
        """Both ends hear of the end, one after the other."""
        if not self.open:
            return
        self.open = False
        loop = self._world.loop
        loop.call_at(self._world.arrival(), self.agent.lose, self, context=self.agent.process.context)
        loop.call_at(self._world.arrival(), self.door.lose, self, context=self.door.process.context)

    def look(self) -> None:
        """The agent's heartbeat: whether the other machine answers."""
        if self.agent.reachable and not self.door.process.frozen:
            self.answered_at = self._world.loop.time()


class Door(Sessions):
    """The agents' door of one controller process."""

    def __init__(self, world: World, process: Any, clock: Any) -> None:
        self._world, self.process, self._clock = world, process, clock
        self._desk: Desk | None = None
        self._links: dict[str, Link] = {}

    def serve(self, desk: Desk) -> None:
        self._desk = desk
        self._world.loop.create_task(self._end_silent_links(), context=self.process.context)

    async def send(self, uid: str, message: FromController) -> bool:
        link = self._links.get(uid)
        if link is None:
            return False
        if not link.open:
            self.lose(link)
            return False
        link.to_agent(message)
        if isinstance(message, Grant) and self._world.faults.strikes(Fault.LEADER_KILLED, 0.04):
            self._world.kill_soon(self.process.name)
        if self._world.chance.random() < 0.1:
            await asyncio.sleep(self._world.network.travel())  # the socket's buffer is full
        return True

    def hear(self, link: Link, message: FromAgent) -> None:
        """As Sessions does it for one frame."""
        uid = link.agent.uid
        link.heard_at = self._world.loop.time()
        if self._desk is None:
            link.to_agent(NotLeader())
            self._world.loop.call_later(0.01, link.close, context=self.process.context)
            return
        if isinstance(message, Hello):
            former, self._links[uid] = self._links.get(uid), link
            if former is not None and former is not link:
                former.close()
            peer = Peer(uid, link.agent.name, link.agent.namespace, link.agent.pool)
            answers = self._desk.hear_hello(peer, message, self._clock())
        elif self._links.get(uid) is link:
            answers = self._desk.hear(uid, message, self._clock())
        else:
            return
        for answer in answers:
            link.to_agent(answer)

    def lose(self, link: Link) -> None:
        """The connection is gone."""
        if self._desk is not None and self._links.get(link.agent.uid) is link:
            del self._links[link.agent.uid]
            self._desk.lose_session(link.agent.uid, self._clock())

    async def _end_silent_links(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for link in list(self._links.values()):
                if self._world.loop.time() - link.heard_at > SILENCE_SECONDS:
                    link.close()

    def close_all(self) -> None:
        """The process is gone: its machine resets every connection."""
        for link in list(self._links.values()):
            link.close()
