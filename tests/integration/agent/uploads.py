"""The uploads door as its contract describes it: HTTP in process, memory for a store."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from dawg_orchestrator.resources.results import FullReport

TOKEN = "task-token"


@dataclass
class Uploads:
    """What has arrived. ``down``: answer 503 to everything; ``fail_next``: to that many requests."""

    url: str = ""
    down: bool = False
    fail_next: int = 0
    reports: dict[str, FullReport] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # by run/index/attempt/kind/path
    log: bytearray = field(default_factory=bytearray)
    log_complete: bool = False
    patches: dict[str, bytes] = field(default_factory=dict)  # by run
    tokens: set[str] = field(default_factory=set)

    async def put_report(self, request: web.Request) -> web.Response:
        body = await request.read()  # unpacked by the server
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        self.reports[request.match_info["place"]] = FullReport.model_validate_json(body)
        return web.json_response({"sha256": hashlib.sha256(body).hexdigest()})

    async def put_file(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.headers["X-Dawg-Sha256"] == hashlib.sha256(body).hexdigest()
        self.files[f"{request.match_info['place']}/{request.match_info['rest']}"] = body
        return web.json_response({"sha256": request.headers["X-Dawg-Sha256"], "size": len(body)})

    async def get_handed(self, request: web.Request) -> web.Response:
        run_uid, index, path = (request.match_info[name] for name in ("run", "index", "path"))
        for place, body in self.files.items():
            if place.startswith(f"{run_uid}/{index}/") and place.endswith(f"/handed/{path}"):
                return web.Response(body=body)
        raise web.HTTPNotFound(text='{"error": "handed on nothing of that name"}')

    async def get_patch(self, request: web.Request) -> web.Response:
        if (patch := self.patches.get(request.match_info["run"])) is None:
            raise web.HTTPNotFound(text='{"error": "keeps no patch"}')
        return web.Response(body=patch)

    async def get_log(self, request: web.Request) -> web.Response:
        assert {"namespace", "run", "job"} <= set(request.query)
        return web.json_response({"size": len(self.log), "complete": self.log_complete})

    async def post_log(self, request: web.Request) -> web.Response:
        offset, body = int(request.query["offset"]), await request.read()
        if offset > len(self.log):
            return web.json_response({"error": "gap", "size": len(self.log)}, status=409)
        self.log += body[len(self.log) - offset :]
        self.log_complete |= request.query.get("final") == "true"
        return web.json_response({"size": len(self.log)})


@asynccontextmanager
async def serve_uploads() -> AsyncIterator[Uploads]:
    """Serve the door on a port of this machine."""
    uploads = Uploads()

    @web.middleware
    async def guarded(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if uploads.down or uploads.fail_next > 0:
            uploads.fail_next -= 1
            raise web.HTTPServiceUnavailable
        uploads.tokens.add(request.headers.get("Authorization", ""))
        return await handler(request)

    application = web.Application(middlewares=[guarded], client_max_size=256 * 1024 * 1024)
    place = r"/v1/uploads/{place:[^/]+/\d+/\d+}"
    application.add_routes([
        web.put(place + "/report", uploads.put_report),
        web.put(place + "/files/{rest:.+}", uploads.put_file),
        web.get(r"/v1/uploads/{run}/{index:\d+}/handed/{path:.+}", uploads.get_handed),
        web.get("/v1/uploads/{run}/patch", uploads.get_patch),
        web.get(place + "/log", uploads.get_log),
        web.post(place + "/log", uploads.post_log),
    ])  # fmt: skip
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    uploads.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield uploads
    finally:
        await runner.cleanup()
