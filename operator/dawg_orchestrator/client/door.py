"""The api role's door for people: logs, history and the live queue, through a port-forward with the person's token."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from dawg_orchestrator.client.connection import READ_SECONDS, Cluster, JsonObject, connect, resource_path
from dawg_orchestrator.client.exits import DoorClosed
from dawg_orchestrator.client.portforward import ForwardedConnection
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import ClusterError, Forbidden, Invalid, NotFound
from dawg_orchestrator.resources.names import PATCH_SERVICE_ACCOUNT

DEFAULT_RELEASE_NAMESPACE = "dawg"
VIEWER = "dawg-viewer"
PEOPLE_PORT = 8080
_VIEWER_SECONDS = 600
_API_PODS = "app.kubernetes.io/name=dawg,app.kubernetes.io/component=api"
_CHUNK = 1 << 16
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Question:
    """A request, and the service account whose token stands in where the person has none."""

    method: str
    path: str
    query: Mapping[str, str]
    account: tuple[str, str] | None = None  # namespace, name; None: the viewer of the release
    body: bytes | None = None


class Dropped(DoorClosed):
    """An answer broke off; ask again from where it stopped."""


def release_namespaces(cluster: Cluster, target: Target) -> tuple[str, ...]:
    """Where the release may be, most likely first."""
    if target.release_namespace:
        return (target.release_namespace,)
    candidates = (cluster.context_namespace, target.namespace, DEFAULT_RELEASE_NAMESPACE)
    return tuple(dict.fromkeys(name for name in candidates if name))


def run_path(namespace: str, name: str, part: str = "") -> str:
    """The door's path of a run."""
    path = f"/v1/runs/{quote(namespace, safe='')}/{quote(name, safe='')}"
    return f"{path}/{part}" if part else path


class Door:
    """Requests to the api role. Nothing is opened before the first one; one connection serves them all."""

    def __init__(self, cluster: Cluster, candidates: Sequence[str]) -> None:
        self._cluster = cluster
        self._candidates = candidates
        self._connection: ForwardedConnection | None = None
        self._pod: tuple[str, str] | None = None
        self._tokens: dict[tuple[str, str] | None, str] = {}  # by the account that stands in for the person
        self._knows_person = True

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """A JSON answer; NotFound and Forbidden as the api says, DoorClosed if it cannot be asked."""
        return self._answer(_Question("GET", path, query or {}))

    def send_patch(self, namespace: str, patch: bytes) -> str:
        """Bring a patch of git for runs of a namespace; return what their ``source.patchRef`` names it by."""
        path = f"/v1/namespaces/{quote(namespace, safe='')}/patches"
        answer = self._answer(_Question("POST", path, {}, (namespace, PATCH_SERVICE_ACCOUNT), patch))
        return str(answer["ref"])

    def open(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Ask now, then give the answer's bytes while they come; those raise Dropped if they break off.

        Silence of READ_SECONDS counts as broken off: nobody can tell it from a dead connection.
        """
        return self._chunks(self._request(_Question("GET", path, query)))

    def _answer(self, question: _Question) -> Any:
        try:
            body = self._read(self._request(question).read)
        except Dropped:  # a kept connection may have died while nobody used it; all of these may be asked twice
            self.close()
            body = self._read(self._request(question).read)
        try:
            return json.loads(body)
        except ValueError as error:
            raise DoorClosed(f"the api's answer to {question.path} is no JSON: {error}") from error

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while chunk := self._read(lambda: response.read1(_CHUNK)):
                yield chunk
            if response.length:
                raise Dropped("the api's answer broke off")
        finally:
            self.close()

    def close(self) -> None:
        """End the port-forward; the next request opens another, to whichever pod is ready then."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._pod = None

    def _request(self, question: _Question) -> http.client.HTTPResponse:
        response = self._send(question)
        if response.status == 401:
            # Some clusters sign people in at a proxy, whose tokens the apiserver itself does not know; and the token
            # of who stands in for them has become too old when a command goes on for long.
            self.close()
            self._knows_person = False
            self._tokens.clear()
            response = self._send(question)
        if response.status >= 400:
            raise self._refusal(response.status, self._read(response.read))
        return response

    def _send(self, question: _Question) -> http.client.HTTPResponse:
        namespace, pod = self._pod or self._find_pod()
        token = (self._cluster.bearer_token() if self._knows_person else None) or self._token_of(question.account)
        if self._connection is None:
            self._connection = ForwardedConnection(self._cluster, namespace, pod, PEOPLE_PORT, READ_SECONDS)
        target = f"{question.path}?{urlencode(question.query)}" if question.query else question.path
        headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}

        def exchange() -> http.client.HTTPResponse:
            assert self._connection is not None  # noqa: S101
            self._connection.request(question.method, target, body=question.body, headers=headers)
            return self._connection.getresponse()

        return self._read(exchange)

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise Dropped(f"the port-forward to the api broke off: {error or type(error).__name__}") from error

    def _find_pod(self) -> tuple[str, str]:
        problems = []
        for namespace in self._candidates:
            try:
                pods = self._cluster.items(resource_path("pods", namespace, api="api/v1"), {"labelSelector": _API_PODS})
            except (Forbidden, NotFound) as error:
                problems.append(f"{namespace}: {error}")
                continue
            ready = [pod["metadata"]["name"] for pod in pods if _is_ready(pod)]
            if ready:
                self._pod = namespace, ready[0]
                return self._pod
            problems.append(f"{namespace}: {'no api pod is ready yet' if pods else 'no api pod'}")
        raise DoorClosed(
            f"the api role was not found ({'; '.join(problems)}); "
            "name the release's namespace with --release-namespace or DAWG_NAMESPACE"
        )

    def _token_of(self, account: tuple[str, str] | None) -> str:
        assert self._pod is not None  # noqa: S101
        if account in self._tokens:
            return self._tokens[account]
        namespace, name = account or (self._pod[0], VIEWER)
        path = resource_path("serviceaccounts", namespace, name, api="api/v1") + "/token"
        body: JsonObject = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _VIEWER_SECONDS},
        }
        try:
            self._tokens[account] = token = str(self._cluster.create(path, body)["status"]["token"])
        except ClusterError as error:
            raise DoorClosed(
                f"the kubeconfig has no token that the api knows, and none can be had for {namespace}/{name}: {error}"
            ) from error
        return token

    def _refusal(self, status: int, body: bytes) -> Exception:
        try:
            answer = json.loads(body)
            message = f"{answer['error']}; {answer['remedy']}"
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {status}"
        self.close()
        if status == 404:
            return NotFound(message, status)
        if status == 403:
            return Forbidden(message, status)
        if status in (400, 422):
            return Invalid(message, status)
        return DoorClosed(f"the api answered: {message}")


@contextmanager
def opened(target: Target) -> Iterator[tuple[Cluster, Door]]:
    """The cluster and its door; both are left as they were found."""
    with connect(target) as cluster:
        door = Door(cluster, release_namespaces(cluster, target))
        try:
            yield cluster, door
        finally:
            door.close()


def _is_ready(pod: JsonObject) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
