"""A stand-in for GitLab: strict about each request that is made of it, after the reference of GitLab's REST API.

GitLab itself is too large for a test, and its description is in no registry. What is not in the reference is refused.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from httpserver import served

TOKEN = "glpat-tests-only"
_UNFINISHED = ("pending", "running")
# The states from which a status may go to another; one that has ended stays, and the next is a new one.
_FROM: Mapping[str, tuple[str, ...]] = {
    "pending": ("created",), "running": ("created", "pending"), "success": ("created", *_UNFINISHED),
    "failed": ("created", *_UNFINISHED), "canceled": ("created", *_UNFINISHED), "skipped": ("created", "pending"),
}  # fmt: skip
_EVENT = {"pending": "enqueue", "running": "run", "success": "success", "failed": "drop", "canceled": "cancel"}
_OF_STATUS = {"state", "ref", "name", "context", "target_url", "description", "coverage", "pipeline_id"}
_PAGING = {"page", "per_page"}


@dataclass
class Status:
    """A commit status; ``retried`` when a newer one of its name is there."""

    id: int
    sha: str
    name: str
    status: str = "created"
    description: str | None = None
    target_url: str | None = None
    retried: bool = False

    def wire(self) -> dict[str, Any]:
        """As GitLab answers it."""
        fields = ("id", "sha", "name", "status", "description", "target_url")
        return {name: getattr(self, name) for name in fields} | {"ref": "main", "allow_failure": False}


@dataclass
class GitLabDouble:
    """One project with its commits, statuses and merge requests; ``requests`` are those that were accepted."""

    project: str = "group/sub/shop"
    commits: list[str] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    merge_requests: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    in_between: list[Status] = field(default_factory=list)  # that somebody else publishes just before the next one
    url: str = ""

    def add_merge_request(self, iid: int, sha: str | None, *, source_project: int | None = 7, **changed: Any) -> None:
        """An open merge request into main of project 7."""
        self.merge_requests.append(
            {
                "iid": iid, "id": 1000 + iid, "sha": sha, "state": "opened", "author": {"username": "alice"},
                "source_branch": "work", "target_branch": "main", "source_project_id": source_project,
                "target_project_id": 7, "draft": False, "merge_commit_sha": None, "labels": [], "title": "change",
                **changed,
            }
        )  # fmt: skip

    async def answer(self, request: web.Request) -> web.Response:
        """Any request."""
        if request.headers.getall("PRIVATE-TOKEN", []) != [TOKEN]:
            return web.json_response({"message": "401 Unauthorized"}, status=401)
        path = request.raw_path.partition("?")[0]
        place = re.fullmatch(r"/api/v4(?:/projects/(?P<project>[^/]+)(?P<rest>/.+)|/user)", path)
        if place is None:
            return web.json_response({"error": "404 Not Found"}, status=404)
        if place["project"] is None:
            return self._accepted(request, web.json_response({"id": 3, "username": "project_7_bot"}), set())
        if unquote(place["project"]) != self.project:
            return web.json_response({"message": "404 Project Not Found"}, status=404)
        return await self._of_project(request, place["rest"])

    async def _of_project(self, request: web.Request, rest: str) -> web.Response:
        if request.method == "POST" and (found := re.fullmatch(r"/statuses/([0-9a-f]{40})", rest)):
            return self._accepted(request, await self._post_status(request, found[1]), set())
        if request.method != "GET":
            return web.json_response({"error": "405 Not Allowed"}, status=405)
        if found := re.fullmatch(r"/repository/commits/([0-9a-f]{40})/statuses", rest):
            if found[1] not in self.commits:
                return web.json_response({"message": "404 Commit Not Found"}, status=404)
            named = request.query.get("name")
            shown = [one.wire() for one in self.statuses
                     if one.sha == found[1] and not one.retried and named in (None, one.name)]  # fmt: skip
            return self._accepted(request, self._page(request, shown), {"name", "ref", "stage", "all", *_PAGING})
        if rest == "/merge_requests":
            shown = [one for one in self.merge_requests if request.query.get("state") in (None, one["state"])]
            if request.query.get("order_by") == "updated_at" and request.query.get("sort") == "desc":
                shown.sort(key=lambda one: -one.get("updated", 0))
            return self._accepted(request, self._page(request, shown), {"state", "order_by", "sort", *_PAGING})
        if found := re.fullmatch(r"/merge_requests/([0-9]+)", rest):
            for one in self.merge_requests:
                if one["iid"] == int(found[1]):
                    return self._accepted(request, web.json_response(one), set())
        return web.json_response({"message": "404 Not found"}, status=404)

    def _accepted(self, request: web.Request, answer: web.Response, parameters: set[str]) -> web.Response:
        unknown = set(request.query) - parameters
        if unknown:
            return web.json_response({"error": f"unknown parameters: {sorted(unknown)}"}, status=400)
        self.requests.append(f"{request.method} {request.raw_path}")
        return answer

    def _page(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        number, size = int(request.query.get("page", "1")), int(request.query.get("per_page", "20"))
        if not (1 <= size <= 100 and number >= 1):
            return web.json_response({"error": "per_page does not have a valid value"}, status=400)
        more = len(items) > number * size
        link = {"Link": f'<https://elsewhere.example/?page={number + 1}>; rel="next"'} if more else {}
        return web.json_response(items[(number - 1) * size : number * size], headers=link)

    async def _post_status(self, request: web.Request, sha: str) -> web.Response:
        if request.content_type != "application/json":
            return web.json_response({"error": "The provided content-type is not supported"}, status=406)
        body = await request.json()
        fault = _fault(body)
        if fault:
            return web.json_response({"error": fault}, status=400)
        if sha not in self.commits:
            return web.json_response({"message": "404 Commit Not Found"}, status=404)
        self.statuses += self.in_between
        self.in_between.clear()
        name = body.get("name") or body.get("context") or "default"
        status = next((one for one in self.statuses if (one.sha, one.name) == (sha, name)
                       and one.status in _UNFINISHED), None)  # fmt: skip
        if status is None:
            status = Status(len(self.statuses) + 1, sha, name)
        if status.status not in _FROM[body["state"]]:
            event = _EVENT[body["state"]]
            told = f"Cannot transition status via :{event} from :{status.status} (Reason(s): Status cannot transition)"
            return web.json_response({"message": told}, status=400)
        if status not in self.statuses:
            for older in self.statuses:
                older.retried |= (older.sha, older.name) == (sha, name)
            self.statuses.append(status)
        status.status = body["state"]
        status.description = body.get("description", status.description)
        status.target_url = body.get("target_url", status.target_url)
        return web.json_response(status.wire(), status=201)


def _fault(body: object) -> str | None:
    if not isinstance(body, dict) or set(body) - _OF_STATUS:
        return "the body is no object of these parameters"
    if body.get("state") not in _FROM:
        return "state does not have a valid value"
    for name in ("name", "context", "description", "target_url"):
        if not isinstance(body.get(name, ""), str) or len(body.get(name, "")) > 255:
            return f"{name} is invalid"
    return None


@asynccontextmanager
async def gitlab_double() -> AsyncIterator[GitLabDouble]:
    """The server while the block runs."""
    double = GitLabDouble()
    async with served(double.answer) as url:
        double.url = url
        yield double
