"""Patches: people bring what no git server has yet, and the tasks of a run that names one fetch it, and no other.

POST /v1/namespaces/{namespace}/patches    people's door, with the right to create TestRuns there
GET  /v1/uploads/{run_uid}/patch           uploads door: the patch of the asking task's own run
"""

from __future__ import annotations

import re

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from dawg_orchestrator.api.answers import bad_request, not_found, primed
from dawg_orchestrator.api.bodies import read_body
from dawg_orchestrator.api.parameters import Namespace, OfWarmRun, RunUid, Token
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.cluster.client import TESTRUNS
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES, PATCH_REF_PATTERN

_KIND = "sha256:"
_BEGINNING = b"diff --git "


def add_patch_sending(app: FastAPI, services: Services) -> None:
    """The route by which people bring patches."""

    @app.post("/v1/namespaces/{namespace}/patches")
    async def send_patch(request: Request, namespace: Namespace, authorization: Token = None) -> dict[str, str]:
        identity = await services.reviews.identify(authorization)
        await services.reviews.require(identity, "create", namespace)
        if namespace not in services.settings.namespaces:
            raise not_found(f"namespace {namespace} is not watched", "add it to the chart's value `namespaces`")
        patch = await read_body(request, MAX_PATCH_BYTES)
        if not patch.startswith(_BEGINNING):
            raise bad_request("the body is no patch of git", "send what `git diff --binary --full-index` prints")
        return {"ref": _KIND + await services.history.patches.put(namespace, patch, now())}


def add_patch_fetching(app: FastAPI, services: Services) -> None:
    """The route by which a run's tasks fetch the patch that their run names; who asks cannot name one."""
    patches = services.history.patches

    @app.get("/v1/uploads/{run_uid}/patch")
    async def get_patch(run_uid: RunUid, run: OfWarmRun = None, authorization: Token = None) -> Response:
        namespace, name = await services.workloads.collector_of_run(authorization, run_uid, run)
        ref = await _named_patch(services, namespace, name, run_uid)
        sha256 = ref.removeprefix(_KIND)
        row = await patches.find(namespace, sha256)
        if row is None:
            raise not_found(f"namespace {namespace} keeps no patch {ref}", "bring it again, and start another run")
        headers = {"content-length": str(row["size"]), "x-dawg-sha256": sha256}
        content = await primed(patches.read(namespace, sha256))
        return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


async def _named_patch(services: Services, namespace: str, name: str, run_uid: str) -> str:
    try:
        run = await services.cluster.get(TESTRUNS, namespace, name)
    except NotFound:
        run = {}
    if (run.get("metadata") or {}).get("uid") != run_uid:
        raise not_found(f"run {run_uid} is gone", "nothing; its tasks end")
    ref = ((run.get("spec") or {}).get("source") or {}).get("patchRef")
    if not isinstance(ref, str) or not re.fullmatch(PATCH_REF_PATTERN, ref):
        raise not_found(f"run {name} names no patch", "set spec.source.patchRef")
    return ref
