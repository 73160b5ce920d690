"""Controller processes: the product's own elector and leader, started again whenever they end."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.controller.elector import Elector
from dawg_orchestrator.controller.gauges import Gauges
from dawg_orchestrator.controller.history import History
from dawg_orchestrator.controller.leading import ForgetRun, Outside, lead
from dawg_orchestrator.resources.protocol import Learned
from simulation.links import Door
from simulation.network import Client

if TYPE_CHECKING:
    from dawg_orchestrator.controller.desk import Desk
    from simulation.world import World

_AROUND = Surroundings(
    agent_image="agent", agent_pull_policy="IfNotPresent", default_task_image="test", api_url="https://api:8444",
    controller_address="controller:8443",
)  # fmt: skip
RELEASE_NAMESPACE = "dawg"


class _NoHistory(History):
    """The api role is down throughout: runs must not need it."""

    def __init__(self) -> None:
        """No door to ask at."""

    async def recorded(self, uids: object) -> frozenset[str]:
        return frozenset()

    async def learned(self) -> Learned | None:
        return None


class ControllerProcess:
    """One controller's pod, whose process may end and begin again."""

    def __init__(self, world: World, name: str, skew: timedelta) -> None:
        self._world, self.name, self._skew = world, name, skew
        self.term = 0
        self._begin()

    def _begin(self) -> None:
        self.process = self._world.loop.process(self.name)
        self.stop = asyncio.Event()
        self.door = Door(self._world, self.process, self.clock)
        self.leads = False
        self._world.loop.spawn(self.process, self._live())

    def clock(self) -> datetime:
        """The machine's clock, which may be wrong."""
        return self._world.time() + self._skew

    def kill(self, back_after: float) -> None:
        """SIGKILL; the kubelet starts it again."""
        if not self.process.dead:
            self.process.dead = True
            self.leads = False
            self.door.close_all()
            self._world.later(back_after, self._begin)

    async def _live(self) -> None:
        network, process = self._world.network, self.process

        async def watch(desk: Desk, forget_run: ForgetRun, unwatch: asyncio.Event) -> None:
            await network.watch(process, desk, forget_run, unwatch)

        elector = Elector(Client(network, f"{self.name}-elector"), RELEASE_NAMESPACE, self.name)
        self.term = await elector.acquire()
        self.leads = True
        cluster = Client(network, self.name)
        cluster.before_write = elector.check
        outside = Outside(
            cluster=cluster, namespaces=(self._world.namespace,), sessions=self.door, elector=elector,
            history=_NoHistory(), around=_AROUND, gauges=Gauges(), clock=self.clock, watch=watch,
        )  # fmt: skip
        await lead(outside, self.term, self.stop)
        self.kill(back_after=self._world.chance.uniform(0.5, 2.0))
