"""The uploads door: sidecars bring reports and files, agents bring logs, the controller asks what is recorded.

Agents of Builtin pools keep there what their steps remember: ``steps.py``.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError

from dawg_orchestrator.api.answers import SafeHeaders, answer_errors, bad_request, not_found, primed
from dawg_orchestrator.api.bodies import announced_size, read_body
from dawg_orchestrator.api.metrics import Counted
from dawg_orchestrator.api.parameters import Attempt, Index, Kind, OfJob, OfNamespace, OfRun, OfWarmRun, RunUid, Token
from dawg_orchestrator.api.patches import add_patch_fetching
from dawg_orchestrator.api.risk import add_risk_routes
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.api.steps import add_step_routes
from dawg_orchestrator.api.workloads import Attempt as Task
from dawg_orchestrator.api.workloads import TaskOf
from dawg_orchestrator.resources.protocol import RecordedAnswer, RecordedQuestion
from dawg_orchestrator.resources.results import FullReport
from dawg_orchestrator.store.artifacts import check_path, key_of
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.logs import LogKey
from dawg_orchestrator.store.reports import MAX_REPORT_BYTES

MAX_LOG_CHUNK = 4 * 2**20
_MAX_QUESTION = 2**20
_ATTEMPT = "/v1/uploads/{run_uid}/{index}/{attempt}"


def uploads_app(services: Services) -> FastAPI:
    """The door's routes; every one begins with who is asking."""
    app = FastAPI(title="DAWG uploads", docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    _add_sidecar_routes(app, services)
    _add_log_routes(app, services)
    _add_controller_routes(app, services)
    add_step_routes(app, services)
    add_risk_routes(app, services)
    add_patch_fetching(app, services)
    app.add_middleware(SafeHeaders)
    app.add_middleware(Counted, metrics=services.metrics, door="uploads")
    return app


def _add_sidecar_routes(app: FastAPI, services: Services) -> None:
    history = services.history

    # ``run`` is named by agents that ran the task in their own pod.
    @app.put(_ATTEMPT + "/report")
    async def put_report(
        request: Request, run_uid: RunUid, index: Index, attempt: Attempt,
        run: OfWarmRun = None, authorization: Token = None,
    ) -> dict[str, str]:  # fmt: skip
        task = await services.workloads.collector(authorization, Task(run_uid, index, attempt), run)
        body = await read_body(request, MAX_REPORT_BYTES)
        report = await asyncio.to_thread(_read_report, body)
        await _begin(services, task)
        sha256 = await history.reports.put(
            run_uid, index, attempt, namespace=task.namespace, body=body, report=report, now=now()
        )
        return {"sha256": sha256}

    @app.put(_ATTEMPT + "/files/{kind}/{path:path}")
    async def put_file(
        request: Request, run_uid: RunUid, index: Index, attempt: Attempt, kind: Kind, path: str,
        run: OfWarmRun = None, authorization: Token = None,
        x_dawg_sha256: Annotated[str | None, Header(pattern=r"^[0-9a-fA-F]{64}$")] = None,
    ) -> dict[str, Any]:  # fmt: skip
        task = await services.workloads.collector(authorization, Task(run_uid, index, attempt), run)
        check_path(path)
        announced_size(request, services.settings.max_file_bytes)
        await _begin(services, task)
        key = BlobKey(run_uid, index, attempt, kind, path)
        stored = await history.artifacts.put(key, request.stream(), now=now(), sha256=x_dawg_sha256)
        return {"sha256": stored.sha256, "size": stored.size}

    @app.get("/v1/uploads/{run_uid}/{index}/handed/{path:path}")
    async def get_handed(
        run_uid: RunUid, index: Index, path: str, run: OfWarmRun = None, authorization: Token = None
    ) -> Response:
        await services.workloads.collector_of_run(authorization, run_uid, run)
        row = await history.artifacts.find_handed(run_uid, index, check_path(path))
        if row is None:
            raise not_found(f"task {index} has handed on no {path}", "is it below that task's working directory?")
        headers = {"content-length": str(row["size"]), "x-dawg-sha256": row["sha256"]}
        content = await primed(history.artifacts.read(key_of(row)))
        return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


def _add_log_routes(app: FastAPI, services: Services) -> None:
    logs = services.history.logs

    @app.get(_ATTEMPT + "/log")
    async def get_log_state(
        run_uid: RunUid, index: Index, attempt: Attempt,
        namespace: OfNamespace, run: OfRun, job: OfJob = None, authorization: Token = None,
    ) -> dict[str, Any]:  # fmt: skip
        await services.workloads.log_carrier(authorization, (namespace, run, job), Task(run_uid, index, attempt))
        state = await logs.state(LogKey(run_uid, index, attempt))
        return {"size": state.size, "complete": state.complete}

    @app.post(_ATTEMPT + "/log")
    async def append_log(
        request: Request, run_uid: RunUid, index: Index, attempt: Attempt,
        offset: Annotated[int, Query(ge=0)], namespace: OfNamespace, run: OfRun, job: OfJob = None,
        final: Annotated[bool, Query()] = False, authorization: Token = None,
    ) -> dict[str, int]:  # fmt: skip
        at = (namespace, run, job)
        task = await services.workloads.log_carrier(authorization, at, Task(run_uid, index, attempt))
        body = await read_body(request, MAX_LOG_CHUNK)
        await _begin(services, task)
        state = await logs.append(LogKey(run_uid, index, attempt), offset, body, final=final)
        return {"size": state.size}


def _add_controller_routes(app: FastAPI, services: Services) -> None:
    @app.post("/v1/recorded")
    async def recorded(request: Request, authorization: Token = None) -> JSONResponse:
        await services.workloads.controller(authorization)
        body = await read_body(request, _MAX_QUESTION)
        try:
            question = RecordedQuestion.model_validate_json(body)
        except ValidationError as error:
            raise bad_request(f"this is no RecordedQuestion: {_first(error)}", 'send {"uids": […]}') from None
        found = await services.history.runs.recorded(question.uids)
        return JSONResponse(RecordedAnswer(recorded=[uid for uid in question.uids if uid in found]).wire())

    @app.get("/v1/learned")
    async def learned(authorization: Token = None) -> Response:
        await services.workloads.controller(authorization)
        lesson = await services.lessons.current()
        return Response(lesson.model_dump_json(by_alias=True), media_type="application/json")


async def _begin(services: Services, task: TaskOf) -> None:
    await services.history.runs.begin(task.attempt.run_uid, task.namespace, task.run, now())


def _read_report(body: bytes) -> FullReport:
    try:
        return FullReport.model_validate_json(body)
    except ValidationError as error:
        raise bad_request(f"this is no FullReport: {_first(error)}", "send the agent image of this release") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return re.sub(r"\s+", " ", f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")[:300]
