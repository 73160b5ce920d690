"""The little of the Kubernetes API that an agent needs, as plain JSON: pods, one Job, events, logs as bytes.

Built-in steps read and patch more; which, their service account's role says.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from dawg_orchestrator.errors import ClusterError, Forbidden, Invalid, NotFound, Unavailable

JsonObject = dict[str, Any]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS = 300  # the apiserver ends a watch after this long
# Bookmarks come about once a minute: a watch that is silent for longer than two of them has died without a word.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=150)
_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_LOG_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=None)  # a quiet test may be quiet for hours
_MAX_WATCH_LINE = 16 * 1024 * 1024
_PAGE = 250


class WatchExpired(ClusterError):
    """410: what was watched from is too old; list again."""


async def lines_of(chunks: AsyncIterator[bytes], longest: int) -> AsyncIterator[bytes]:
    """Cut a stream into lines; what exceeds ``longest`` bytes without a line's end is dropped."""
    left = bytearray()
    dropping = False
    async for chunk in chunks:
        left += chunk
        *whole, rest = bytes(left).split(b"\n")
        left = bytearray(rest)
        for line in whole:
            if not dropping:
                yield line
            dropping = False
        if len(left) > longest:
            left.clear()
            dropping = True
    if left and not dropping:
        yield bytes(left)


class Kube:
    """A connection to the apiserver for one namespace; every method raises ClusterError."""

    def __init__(self, url: str, namespace: str, tls: ssl.SSLContext | bool, token: Callable[[], str | None]) -> None:
        self._url = url.rstrip("/")
        self._namespace = namespace
        self._tls = tls
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def in_cluster(cls, namespace: str) -> Kube:
        """Connect as the pod's service account; the token is read anew for each request because it changes."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        tls = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        return cls(url, namespace, tls, lambda: (_ACCOUNT / "token").read_text(encoding="utf-8").strip())

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def pods(self, selector: str) -> tuple[list[JsonObject], str]:
        """List pods page by page; return them and the resourceVersion to watch from."""
        found: list[JsonObject] = []
        params = {"labelSelector": selector, "limit": str(_PAGE)}
        while True:
            page = await self._json(f"/api/v1/namespaces/{self._namespace}/pods", params)
            found += page.get("items") or []
            metadata = page.get("metadata") or {}
            if not (going_on := metadata.get("continue")):
                return found, metadata.get("resourceVersion", "")
            params["continue"] = going_on

    async def watch_pods(self, selector: str, version: str) -> AsyncIterator[tuple[str, JsonObject]]:
        """Yield (type, pod) from a version on, until the apiserver ends the watch; raise WatchExpired for 410."""
        params = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        async with self._open(path, params, _WATCH_TIMEOUT) as response:
            async for line in lines_of(response.content.iter_any(), _MAX_WATCH_LINE):
                if not line:
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    kind = WatchExpired if status.get("code") == 410 else Unavailable
                    raise kind(status.get("message", "the watch failed"), status.get("code", 0))
                yield event["type"], event["object"]

    async def pod(self, name: str) -> JsonObject:
        """Read one pod."""
        return await self._json(f"/api/v1/namespaces/{self._namespace}/pods/{name}", {})

    async def job(self, name: str) -> JsonObject:
        """Read one Job."""
        return await self._json(f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{name}", {})

    async def events(self, uid: str) -> list[JsonObject]:
        """Read the events about one object."""
        params = {"fieldSelector": f"involvedObject.uid={uid}", "limit": "100"}
        answer = await self._json(f"/api/v1/namespaces/{self._namespace}/events", params)
        return answer.get("items") or []

    async def log(self, pod: str, container: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield a container's log from its beginning, as bytes in whatever pieces they come."""
        params = {"container": container} | ({"follow": "true"} if follow else {})
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log"
        async with self._open(path, params, _LOG_TIMEOUT) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def read(self, path: str, params: dict[str, str] | None = None) -> JsonObject:
        """Read whatever the path names."""
        return await self._json(path, params or {})

    async def patch(self, path: str, changes: list[JsonObject]) -> JsonObject:
        """Apply a JSON patch; return what the object is then."""
        body = json.dumps(changes).encode()
        async with self._open(path, {}, _REQUEST_TIMEOUT, method="PATCH", body=body) as response:
            answer: JsonObject = await response.json(content_type=None)
            return answer

    async def _json(self, path: str, params: dict[str, str]) -> JsonObject:
        async with self._open(path, params, _REQUEST_TIMEOUT) as response:
            answer: JsonObject = await response.json(content_type=None)
            return answer

    @asynccontextmanager
    async def _open(
        self,
        path: str,
        params: dict[str, str],
        limits: aiohttp.ClientTimeout,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a request; translate every way in which it can fail."""
        if self._session is None:
            # each followed log takes a connection for as long as its test runs
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls, limit=0))
        try:
            token = self._token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if body is not None:
                headers["Content-Type"] = "application/json-patch+json"
            url = f"{self._url}{path}"
            async with self._session.request(
                method, url, params=params, headers=headers, data=body, timeout=limits
            ) as response:
                if response.status >= 400:
                    raise _error(response.status, (await response.text())[:500])
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            raise Unavailable(f"the apiserver does not answer: {error or type(error).__name__}") from error


def _error(status: int, text: str) -> ClusterError:
    kinds = {404: NotFound, 410: WatchExpired, 401: Forbidden, 403: Forbidden, 400: Invalid, 422: Invalid}
    return kinds.get(status, Unavailable)(text, status)
