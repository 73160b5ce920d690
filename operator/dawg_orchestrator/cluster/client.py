"""The Kubernetes API as raw JSON over aiohttp.

Plain dicts, no generated classes: what a status patch costs is what the apiserver needs for it. HTTP errors become
the product's own errors here and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from dawg_orchestrator.cluster.credentials import Credentials
from dawg_orchestrator.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound, Unavailable

JsonObject = dict[str, Any]
JsonObjects = list[JsonObject]

MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 500
_REQUESTS_AT_ONCE = 64
_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_WATCH_SECONDS = 300  # after which the apiserver ends a watch
# It says at least a BOOKMARK about once a minute: a watch silent for longer than this is dead and is opened anew.
_WATCH_SILENCE = 90.0
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_WATCH_SILENCE)
_MAX_WATCH_LINE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API addresses it; ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return (
            f"{root}{scope}/{self.plural}" + (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")
        )


TESTRUNS = Resource("dawg.dev", "v1alpha1", "testruns")
WORKFLOWS = Resource("dawg.dev", "v1alpha1", "workflows")
SCHEDULES = Resource("dawg.dev", "v1alpha1", "schedules")
AGENTPOOLS = Resource("dawg.dev", "v1alpha1", "agentpools")
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
SECRETS = Resource("", "v1", "secrets")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
REPLICASETS = Resource("apps", "v1", "replicasets")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions")
EVENTS = Resource("events.k8s.io", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews")
SUBJECT_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews")


class WatchExpired(ClusterError):
    """The watch cannot go on from its resourceVersion (410): list again."""


class Cluster:
    """A connection to one apiserver. Use as an async context manager or call ``close``."""

    def __init__(self, credentials: Credentials, *, user_agent: str = "dawg") -> None:
        self._credentials = credentials
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._watching: aiohttp.ClientSession | None = None
        self.before_write: Callable[[], None] = lambda: None  # may raise: a former leader must not write

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._session, self._watching):
            if session is not None:
                await session.close()
        self._session = self._watching = None

    async def get(
        self, resource: Resource, namespace: str | None, name: str, *, metadata_only: bool = False
    ) -> JsonObject:
        """One object, or NotFound. ``metadata_only`` asks for nothing but metadata (for Secrets)."""
        accept = METADATA_ONLY if metadata_only else None
        return await self._request("GET", resource.path(namespace, name), accept=accept)

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        selectors: Mapping[str, str] | None = None,
        *,
        metadata_only: bool = False,
    ) -> tuple[JsonObjects, str]:
        """All objects, fetched in pages, with the resourceVersion to watch from."""
        items: JsonObjects = []
        version = ""
        async for page, version in self.pages(resource, namespace, selectors, metadata_only=metadata_only):  # noqa: B007
            items.extend(page)
        return items, version

    async def pages(
        self,
        resource: Resource,
        namespace: str | None,
        selectors: Mapping[str, str] | None = None,
        *,
        metadata_only: bool = False,
    ) -> AsyncIterator[tuple[JsonObjects, str]]:
        """Pages of objects, each with the list's resourceVersion. Selectors: labelSelector, fieldSelector."""
        accept = METADATA_LIST_ONLY if metadata_only else None
        params = {"limit": str(PAGE), **(selectors or {})}
        while True:
            page = await self._request("GET", resource.path(namespace), params=params, accept=accept)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            params["continue"] = metadata["continue"]

    async def create(self, resource: Resource, namespace: str | None, body: JsonObject, **params: str) -> JsonObject:
        """The object as created; Conflict when the name is taken."""
        return await self._request("POST", resource.path(namespace), body=body, params=params)

    async def create_subresource(
        self, resource: Resource, namespace: str, name: str, subresource: str, body: JsonObject
    ) -> JsonObject:
        """Post to a subresource, such as a pod's eviction or a service account's token."""
        return await self._request("POST", resource.path(namespace, name, subresource), body=body)

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, body: JsonObject, *, subresource: str | None = None
    ) -> JsonObject:
        """Merge-patch an object or its subresource; Conflict when ``metadata.resourceVersion`` in the body is old."""
        return await self._request("PATCH", resource.path(namespace, name, subresource), body=body, content=MERGE_PATCH)

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: JsonObject) -> JsonObject:
        """Put a whole object; Conflict when its resourceVersion is old."""
        return await self._request("PUT", resource.path(namespace, name), body=body)

    async def replace_status(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        """Put a status, and get the new metadata alone; Conflict when the resourceVersion in the body is old."""
        path = resource.path(namespace, name, "status")
        return await self._request("PUT", path, body=body, accept=METADATA_ONLY)

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
    ) -> None:
        """Delete an object, only if it still has this uid; one that is gone already is fine."""
        body: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._request("DELETE", resource.path(namespace, name), body=body)
        except NotFound:
            pass
        except Conflict:
            if uid is None:
                raise

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        version: str,
        selectors: Mapping[str, str] | None = None,
        *,
        metadata_only: bool = False,
    ) -> AsyncIterator[tuple[str, JsonObject]]:
        """(type, object) pairs from a resourceVersion on, BOOKMARKs included, until the server ends the watch.

        WatchExpired: list again. Unavailable: watch again.
        """
        params = {
            "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS), **(selectors or {}),
        }  # fmt: skip
        try:
            async with self._open_watching().get(
                self._credentials.server + resource.path(namespace),
                params=params, headers=self._headers(METADATA_ONLY if metadata_only else None), timeout=_WATCH_TIMEOUT,
            ) as response:  # fmt: skip
                if response.status != 200:
                    raise _error(response.status, await response.text(), response.headers)
                async for line in _lines(response.content):
                    event = _read(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise _error(status.get("code", 500), json.dumps(status), {})
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the watch of {resource.plural} broke: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._new_session(_REQUESTS_AT_ONCE)
        return self._session

    def _open_watching(self) -> aiohttp.ClientSession:
        """Watches last, and there is one for each namespace: they must not use up the requests' connections."""
        if self._watching is None:
            self._watching = self._new_session(limit=0)
        return self._watching

    def _new_session(self, limit: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._credentials.ssl_context, limit=limit, keepalive_timeout=60)
        return aiohttp.ClientSession(connector=connector, json_serialize=json.dumps)

    def _headers(self, accept: str | None = None, content: str | None = None) -> dict[str, str]:
        headers = {
            "User-Agent": self._user_agent,
            "Accept": accept or "application/json",
            **self._credentials.headers(),
        }
        if content:
            headers["Content-Type"] = content
        return headers

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: JsonObject | None = None,
        params: Mapping[str, str] | None = None,
        accept: str | None = None,
        content: str = "application/json",
    ) -> JsonObject:
        if method != "GET":
            self.before_write()
        data = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        headers = self._headers(accept, content if data is not None else None)
        try:
            async with self._open().request(
                method,
                self._credentials.server + path,
                params=params,
                data=data,
                headers=headers,
                timeout=_REQUEST_TIMEOUT,
            ) as response:
                payload = await response.read()
                if response.status >= 300:
                    raise _error(response.status, payload.decode(errors="replace"), response.headers)
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            raise Unavailable(f"{method} {path}: {type(error).__name__}: {error}") from error
        return _read(payload)


def _read(text: bytes) -> JsonObject:
    """An answer or event of the API; what a broken proxy says in its place is no reason to end."""
    try:
        said = json.loads(text)
    except ValueError as error:
        raise Unavailable(f"the answer is not JSON: {text[:100].decode(errors='replace')!r}") from error
    if not isinstance(said, dict):
        raise Unavailable(f"the answer is no JSON object: {text[:100].decode(errors='replace')!r}")
    return said


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length up to our own bound; aiohttp's own readline stops at 128 KiB, objects may be larger."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        *whole, tail = rest.split(b"\n")
        rest = bytearray(tail)
        if len(rest) > _MAX_WATCH_LINE:
            raise Unavailable("a watch event is larger than 8 MiB")
        for line in whole:
            if line:
                yield bytes(line)
        await asyncio.sleep(0)


def _error(status: int, text: str, headers: Mapping[str, str]) -> ClusterError:
    """The error of the tree in errors.py that an HTTP status stands for, with the server's message."""
    try:
        message = json.loads(text).get("message") or text
    except (ValueError, AttributeError):
        message = text
    message = message[:2000]
    if status == 404:
        return NotFound(message, status)
    if status == 409:
        return Conflict(message, status)
    if status == 410:
        return WatchExpired(message, status)
    if status in (400, 405, 413, 415, 422):
        return Invalid(message, status)
    if status in (401, 403):
        return Forbidden(message, status)
    try:
        retry_after = float(headers.get("Retry-After", ""))
    except ValueError:
        retry_after = None
    return Unavailable(message, status, retry_after)
