"""The people's door: history, runs, logs, reports, artifacts, dashboard entries, the live queue and figures.

Who asks is known by a Kubernetes token; what they may see is what they may see of TestRuns in that namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.responses import Response, StreamingResponse

from dawg_orchestrator import __version__
from dawg_orchestrator.api.answers import SafeHeaders, answer_errors, attachment, bad_request, not_found, primed
from dawg_orchestrator.api.figures import summary
from dawg_orchestrator.api.found import FoundRun, find_run, find_task
from dawg_orchestrator.api.logstream import stream_log
from dawg_orchestrator.api.metrics import Counted
from dawg_orchestrator.api.parameters import (
    Attempt,
    AttemptNumber,
    Index,
    InNamespace,
    Kind,
    Namespace,
    RunName,
    TaskIndex,
    TaskKey,
    Token,
    WithName,
    WithUid,
    WithVerdict,
)
from dawg_orchestrator.api.patches import add_patch_sending
from dawg_orchestrator.api.queue import queue_entries
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.api.steps import listed_entry
from dawg_orchestrator.resources.model import format_micro_time, format_time, parse_time
from dawg_orchestrator.store.artifacts import check_path, key_of
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.entries import EntryKey
from dawg_orchestrator.store.logs import LogKey
from dawg_orchestrator.store.runs import HistoryQuery

_RUN = "/v1/runs/{namespace}/{name}"
_MAX_PAGE = 500


def people_app(services: Services) -> FastAPI:
    """The door's routes; every one but the version begins with who is asking and whether they may."""
    app = FastAPI(title="DAWG", version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    answer_errors(app)
    _add_lists(app, services)
    _add_run_routes(app, services)
    _add_log_route(app, services)
    _add_artifact_routes(app, services)
    add_patch_sending(app, services)
    app.add_middleware(SafeHeaders)
    app.add_middleware(Counted, metrics=services.metrics, door="people")
    return app


async def _allowed(
    services: Services, token: str | None, verb: Literal["get", "list"], namespace: str | None
) -> tuple[str, ...]:
    """The namespaces the question is about, all of them allowed; none named: all that are watched."""
    identity = await services.reviews.identify(token)
    namespaces = (namespace,) if namespace is not None else services.settings.namespaces
    for one in namespaces:
        await services.reviews.require(identity, verb, one)
    if namespace is not None and namespace not in services.settings.namespaces:
        raise not_found(f"namespace {namespace} is not watched", "add it to the chart's value `namespaces`")
    return namespaces


def _add_lists(app: FastAPI, services: Services) -> None:
    @app.get("/v1/version")
    async def version() -> dict[str, str]:
        return {"version": __version__}

    @app.get("/v1/history")
    async def history(
        namespace: InNamespace = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 50,
        name: WithName = None,
        verdict: WithVerdict = None,
        before: Annotated[str | None, Query(max_length=128)] = None,
        authorization: Token = None,
    ) -> dict[str, Any]:
        namespaces = await _allowed(services, authorization, "list", namespace)
        query = HistoryQuery(
            namespaces=namespaces, limit=limit, name=name, verdict=verdict, before=_cursor(before) if before else None
        )
        rows = await services.history.runs.page(query)
        more = f"{format_micro_time(rows[-1]['finished'])},{rows[-1]['uid']}" if len(rows) == limit else None
        return {"runs": [_listed_run(row) for row in rows], "before": more}

    @app.get("/v1/namespaces/{namespace}/entries")
    async def entries(
        namespace: Namespace,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 50,
        before: Annotated[str | None, Query(max_length=128)] = None,
        authorization: Token = None,
    ) -> dict[str, Any]:
        namespaces = await _allowed(services, authorization, "list", namespace)
        rows = await services.history.entries.page(namespaces, limit, _entry_cursor(before) if before else None)
        last = rows[-1] if len(rows) == limit else None
        more = f"{format_micro_time(last['created'])},{last['run']},{last['index']}" if last else None
        return {"entries": [listed_entry(row) for row in rows], "before": more}

    @app.get("/v1/queue")
    async def queue(namespace: InNamespace = None, authorization: Token = None) -> dict[str, Any]:
        namespaces = await _allowed(services, authorization, "list", namespace)
        seen = services.follower.seen
        return {"queue": queue_entries(seen.live.values(), seen.pools, namespaces, now())}

    @app.get("/v1/metrics")
    async def metrics(namespace: InNamespace = None, authorization: Token = None) -> dict[str, Any]:
        namespaces = await _allowed(services, authorization, "list", namespace)
        seen = services.follower.seen
        return summary(await services.history.runs.figures(namespaces), seen.live.values(), seen.pools, namespaces)


def _add_run_routes(app: FastAPI, services: Services) -> None:
    @app.get(_RUN)
    async def run(
        namespace: Namespace, name: RunName, uid: WithUid = None, authorization: Token = None
    ) -> dict[str, Any]:
        await _allowed(services, authorization, "get", namespace)
        found = await find_run(services, namespace, name, uid)
        metadata = found.document["metadata"]
        return {
            "namespace": found.namespace, "name": found.name, "uid": found.uid, "live": found.live,
            "created": metadata["creationTimestamp"],
            "spec": found.document.get("spec") or {}, "status": found.document.get("status") or {},
        }  # fmt: skip

    @app.get(_RUN + "/report")
    async def report(
        namespace: Namespace, name: RunName, uid: WithUid = None,
        task: TaskKey = None,
        index: TaskIndex = None, attempt: AttemptNumber = None,
        authorization: Token = None,
    ) -> Response:  # fmt: skip
        await _allowed(services, authorization, "get", namespace)
        found = await find_run(services, namespace, name, uid)
        at = find_task(found.task_keys(), task, index)
        stored = await services.history.reports.read(found.uid, at, attempt)
        if stored is None:
            raise not_found(f"task {at} of {namespace}/{name} has no report", "only tasks that declare junit have one")
        row, body = stored
        headers = {"x-dawg-index": str(at), "x-dawg-attempt": str(row["attempt"]), "x-dawg-sha256": row["sha256"]}
        return Response(body, media_type="application/json", headers=headers)


def _add_log_route(app: FastAPI, services: Services) -> None:
    @app.get(_RUN + "/log")
    async def log(
        namespace: Namespace, name: RunName, uid: WithUid = None,
        task: TaskKey = None,
        index: TaskIndex = None, attempt: AttemptNumber = None,
        offset: Annotated[int, Query(ge=0)] = 0, follow: bool = False, authorization: Token = None,
    ) -> Response:  # fmt: skip
        await _allowed(services, authorization, "get", namespace)
        found = await find_run(services, namespace, name, uid)
        at = find_task(found.task_keys(), task, index)
        logs = services.history.logs
        number = attempt or await logs.newest_attempt(found.uid, at) or _attempt_on_status(found, at)
        begun = number is not None and await logs.begun(LogKey(found.uid, at, number))
        if number is None or not (begun or follow):
            raise not_found(
                f"task {at} of {namespace}/{name} has no log yet",
                "it has not started, or its agent has sent nothing yet; the task's reason on status says which",
            )

        async def ended() -> bool:
            return found.ended or bool(await services.history.runs.recorded([found.uid]))

        content = stream_log(
            logs, LogKey(found.uid, at, number), offset,
            follow=follow, run_ended=ended, closing=services.closing,
        )  # fmt: skip
        headers = {"x-dawg-index": str(at), "x-dawg-attempt": str(number), "x-accel-buffering": "no"}
        return StreamingResponse(content, media_type="text/plain; charset=utf-8", headers=headers)


def _add_artifact_routes(app: FastAPI, services: Services) -> None:
    @app.get(_RUN + "/artifacts")
    async def artifacts(
        namespace: Namespace, name: RunName, uid: WithUid = None, authorization: Token = None
    ) -> dict[str, Any]:
        await _allowed(services, authorization, "get", namespace)
        found = await find_run(services, namespace, name, uid)
        rows = await services.history.artifacts.of_run(found.uid)
        return {"artifacts": [_listed_artifact(row) for row in rows]}

    @app.get(_RUN + "/artifacts/{index}/{attempt}/{kind}/{path:path}")
    async def artifact(
        namespace: Namespace, name: RunName, index: Index, attempt: Attempt, kind: Kind, path: str,
        uid: WithUid = None, authorization: Token = None,
    ) -> Response:  # fmt: skip
        await _allowed(services, authorization, "get", namespace)
        found = await find_run(services, namespace, name, uid)
        row = await services.history.artifacts.find(BlobKey(found.uid, index, attempt, kind, check_path(path)))
        if row is None or kind == "handed":
            raise not_found(f"{namespace}/{name} left no such file", "GET …/artifacts lists what it left")
        headers = {
            "content-length": str(row["size"]),
            "content-disposition": attachment(path),
            "x-dawg-sha256": row["sha256"],
        }
        content = await primed(services.history.artifacts.read(key_of(row)))
        return StreamingResponse(content, media_type=row["media_type"], headers=headers)


def _attempt_on_status(found: FoundRun, index: int) -> int | None:
    """The attempt that status knows of, whose log may be about to come."""
    for entry in (found.document.get("status") or {}).get("tasks") or []:
        if entry.get("index", 0) == index and entry.get("attempt"):
            return int(entry["attempt"])
    return None


def _cursor(text: str) -> tuple[datetime, str]:
    time, _, uid = text.partition(",")
    try:
        if uid.replace("-", "").isalnum():
            return parse_time(time.replace(" ", "+")), uid
        raise ValueError("a cursor ends in a uid")
    except ValueError:
        raise bad_request("before is no place in history", "send what the page before it gave as `before`") from None


def _entry_cursor(text: str) -> EntryKey:
    place, _, index = text.rpartition(",")
    created, run = _cursor(place)
    if not (index.isascii() and index.isdecimal()) or len(index) > 4:
        raise bad_request("before is no place among the entries", "send what the page before it gave as `before`")
    return EntryKey(created, run, int(index))


def _listed_run(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "namespace": row["namespace"],
        "name": row["name"],
        "uid": row["uid"],
        "verdict": row["verdict"],
        "mergeBlocked": row["merge_blocked"],
        "created": format_time(row["created"]),
        "started": format_time(row["started"]) if row["started"] else None,
        "finished": format_time(row["finished"]) if row["finished"] else None,
        "durationSeconds": row["duration"],
        "workflow": row["workflow"],
        "repository": row["repository"],
        "commit": row["commit"],
        "priority": row["priority"],
        "pool": row["pool"],
        "tasks": {"total": row["tasks_total"], "ran": row["tasks_ran"], "green": row["tasks_green"]},
        "tests": {name: row[f"tests_{name}"] for name in ("total", "passed", "failed", "flaky", "skipped")},
    }


def _listed_artifact(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "index": row["index"],
        "attempt": row["attempt"],
        "kind": row["kind"],
        "path": row["path"],
        "size": row["size"],
        "sha256": row["sha256"],
        "mediaType": row["media_type"],
    }
