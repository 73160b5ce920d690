"""What agents of Builtin pools keep for their steps and show to people; part of the uploads door."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from dawg_orchestrator.api.answers import bad_request
from dawg_orchestrator.api.bodies import read_body, read_model
from dawg_orchestrator.api.parameters import Index, RunUid, Token
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.resources.protocol import DashboardEntry, StepState
from dawg_orchestrator.store.stepstates import MAX_VALUE_BYTES, Kept

_MAX_STATE = 6 * MAX_VALUE_BYTES  # as sent: each character may be escaped
_MAX_ENTRY = 64 * 1024
_STATE = "/v1/steps/state"
Key = Annotated[str, Query(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


def add_step_routes(app: FastAPI, services: Services) -> None:
    """The routes; the namespace is always the caller's own."""
    history = services.history

    @app.get(_STATE)
    async def get_state(key: Key, authorization: Token = None) -> JSONResponse:
        namespace = await services.workloads.step_agent(authorization)
        return _state(await history.step_states.read(namespace, key, now()))

    @app.put(_STATE)
    async def put_state(request: Request, key: Key, authorization: Token = None) -> JSONResponse:
        namespace = await services.workloads.step_agent(authorization)
        wanted = read_model(StepState, await read_body(request, _MAX_STATE))
        if wanted.value is None:
            raise bad_request("value: there is none", "send the version that was read and the value that is to follow")
        kept = await history.step_states.write(namespace, key, Kept(wanted.version), wanted.value, now())
        return _state(kept)

    @app.get("/v1/steps/wakes")
    async def get_wakes(
        after: Annotated[int | None, Query(ge=0, lt=2**62)] = None, authorization: Token = None
    ) -> JSONResponse:
        namespace = await services.workloads.step_agent(authorization)
        number, urls = await services.alarm.after(namespace, after, services.closing)
        return JSONResponse({"after": number, "urls": urls})

    @app.put("/v1/steps/entries/{run_uid}/{index}")
    async def put_entry(request: Request, run_uid: RunUid, index: Index, authorization: Token = None) -> Response:
        namespace = await services.workloads.step_agent(authorization)
        entry = read_model(DashboardEntry, await read_body(request, _MAX_ENTRY))
        await services.workloads.step_of(authorization, entry.run, run_uid, index)
        await history.runs.begin(run_uid, namespace, entry.run, now())
        await history.entries.put(namespace, run_uid, index, entry)
        return Response(status_code=204)


def _state(kept: Kept) -> JSONResponse:
    return JSONResponse({"version": kept.version, **({"value": kept.value} if kept.value is not None else {})})


def listed_entry(row: dict[str, Any]) -> dict[str, Any]:
    """An entry as people get it."""
    entry = DashboardEntry(
        title=row["title"], level=row["level"], text=row["text"], link=row["link"], run=row["run_name"],
        workflow=row["workflow"], task=row["task"], created_at=row["created"],
    )  # fmt: skip
    return {"namespace": row["namespace"], "runUid": row["run"], "index": row["index"], **entry.wire()}
