"""What steps leave with the api: state between runs, changed by compare-and-swap, and entries of the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dawg_agent.steps.faults import StepBroken
from dawg_agent.upload import Door, DoorClosed, DoorRefused, persist
from dawg_orchestrator.resources.protocol import DashboardEntry, StepState

PATIENCE = 20.0  # seconds that the api may be away
_TRIES = 8  # against others who change the same
_TAKEN = 409

Value = dict[str, Any]


class Kept:
    """State and entries; every method raises StepBroken when the api does not answer or refuses."""

    def __init__(self, door: Door, patience: float = PATIENCE) -> None:
        self._door = door
        self._patience = patience

    async def read(self, key: str) -> Value:
        """What is kept under the key; empty when there is nothing yet."""
        return (await self._state(key)).value or {}

    async def change(self, key: str, changed: Callable[[Value], Value]) -> Value:
        """Write what becomes of the value that is there; ``changed`` is asked again when somebody else wrote first."""
        for _ in range(_TRIES):
            state = await self._state(key)
            value = changed(dict(state.value or {}))
            body = StepState(version=state.version, value=value).model_dump(mode="json", by_alias=True)
            try:
                await self._ask("PUT", "steps/state", params={"key": key}, json=body)
            except DoorRefused as error:
                if error.status != _TAKEN:
                    raise StepBroken(f"the api does not keep the step's state: {error}") from error
            else:
                return value
        raise StepBroken(f"others changed the state {key!r} {_TRIES} times meanwhile")

    async def show(self, run_uid: str, index: int, entry: DashboardEntry) -> None:
        """Put an entry; the same step has one, however often it is put."""
        body = entry.model_dump(mode="json", by_alias=True)
        try:
            await self._ask("PUT", f"steps/entries/{run_uid}/{index}", json=body)
        except DoorRefused as error:
            raise StepBroken(f"the api does not take the entry: {error}") from error

    async def _state(self, key: str) -> StepState:
        try:
            return StepState.model_validate(await self._ask("GET", "steps/state", params={"key": key}))
        except DoorRefused as error:
            raise StepBroken(f"the api does not give the step's state: {error}") from error

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + self._patience
        try:
            return await persist(lambda: self._door.exchange(method, path, **options), deadline)
        except DoorClosed as error:
            raise StepBroken(str(error)) from error
