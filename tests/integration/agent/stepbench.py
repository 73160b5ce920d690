"""Steps as an agent carries them out, with the api's door for steps as its contract describes it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from dawg_agent.histories import Histories
from dawg_agent.kube import Kube
from dawg_agent.llm import llm_of
from dawg_agent.step import Bench, StepAttempt
from dawg_agent.steps.addresses import Addresses
from dawg_agent.steps.kept import Kept
from dawg_agent.steps.table import CARRY_OUT
from dawg_agent.upload import Door
from dawg_orchestrator.resources.protocol import (
    AttemptRef,
    DashboardEntry,
    EndedTask,
    Held,
    LeaseId,
    Progress,
    StepOrder,
    StepState,
)
from dawg_orchestrator.resources.results import TaskResult


@dataclass
class KeepingApi:
    """State by compare-and-swap, and entries. ``down``: answer 503; ``overtake``: so often somebody else is first."""

    url: str = ""
    down: bool = False
    overtake: int = 0
    states: dict[str, StepState] = field(default_factory=dict)
    entries: dict[str, DashboardEntry] = field(default_factory=dict)

    async def get_state(self, request: web.Request) -> web.Response:
        self._look()
        return self._answer(self.states.get(request.query["key"], StepState()))

    async def put_state(self, request: web.Request) -> web.Response:
        self._look()
        key, read = request.query["key"], StepState.model_validate_json(await request.read())
        stored = self.states.get(key, StepState())
        if self.overtake > 0:
            self.overtake -= 1
            stored = self.states[key] = StepState(version=stored.version + 1, value=stored.value)
        if read.version != stored.version:
            raise web.HTTPConflict(text=json.dumps({"error": "somebody else has written"}))
        self.states[key] = StepState(version=stored.version + 1, value=read.value)
        return self._answer(self.states[key])

    async def put_entry(self, request: web.Request) -> web.Response:
        self._look()
        place = f"{request.match_info['run']}/{request.match_info['index']}"
        self.entries[place] = DashboardEntry.model_validate_json(await request.read())
        return web.json_response({})

    def _look(self) -> None:
        if self.down:
            raise web.HTTPServiceUnavailable

    def _answer(self, state: StepState) -> web.Response:
        return web.json_response(state.model_dump(mode="json", by_alias=True))


@asynccontextmanager
async def serving(*routes: web.RouteDef) -> AsyncIterator[str]:
    """Serve these routes on a port of this machine; yields the URL."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class StepBench:
    """An agent of a Builtin pool, as far as one step needs it."""

    api: KeepingApi
    door: Door
    kube: Kube
    namespace: str = "shop"
    secrets: dict[str, str] = field(default_factory=dict)
    told: list[Progress] = field(default_factory=list)
    patience: float = 20.0
    histories: Histories | None = None
    git_secrets: Path | None = None

    def attempt(
        self, uses: str, *, run: str = "run-1", tasks: Mapping[str, EndedTask] | None = None,
        source: Mapping[str, Any] | None = None, **inputs: Any
    ) -> StepAttempt:  # fmt: skip
        """One attempt of a step of the Workflow ``watch``; ``source`` is what the order says of the repository."""
        ref = AttemptRef(namespace=self.namespace, run=f"{run}-name", run_uid=run, index=1, attempt=1)
        order = StepOrder(uses=uses, inputs=inputs, workflow="watch", tasks=dict(tasks or {}), **(source or {}))
        held = Held(lease=LeaseId(term=1, number=1), attempt=ref)
        return StepAttempt(held, "the-task", order, self.bench(), self.told.append)

    def bench(self) -> Bench:
        """What the agent's steps share."""
        return Bench(
            CARRY_OUT, Addresses(self.secrets), Kept(self.door, self.patience), self.kube,
            self.histories, self.git_secrets, llm_of(self.secrets, {}),
        )  # fmt: skip

    async def carry_out(self, uses: str, **more: Any) -> TaskResult:
        """Carry one out; no secret may be in what is reported."""
        result = await self.attempt(uses, **more).watch()
        for secret in self.secrets.values():
            assert secret not in result.model_dump_json()
        return result


@asynccontextmanager
async def a_bench(folder: Path, kube: Kube | None = None, namespace: str = "shop") -> AsyncIterator[StepBench]:
    """An agent with its api; without ``kube`` there is no apiserver."""
    token = folder / "token"
    token.write_text("agent-token")
    api = KeepingApi()
    routes = [
        web.get("/v1/steps/state", api.get_state),
        web.put("/v1/steps/state", api.put_state),
        web.put(r"/v1/steps/entries/{run}/{index:\d+}", api.put_entry),
    ]
    nobody = kube or Kube("http://127.0.0.1:1", namespace, False, lambda: None)
    async with serving(*routes) as url, Door(url, token, token) as door:
        api.url = url
        try:
            made = StepBench(api, door, nobody, namespace)
            made.histories, made.git_secrets = Histories(folder / "histories"), folder / "git-secrets"
            yield made
        finally:
            await nobody.close()
