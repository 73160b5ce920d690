"""The Kubernetes API as the person sees it: their kubeconfig, their rights, objects as plain JSON.

Errors become the product's own here and nowhere else in the client.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from dawg_orchestrator import __version__
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound, Unavailable
from dawg_orchestrator.resources.names import GROUP, VERSION

JsonObject = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
_PAGE = 500
_SHOWN = 500  # characters of an answer that is no JSON
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NO_CLUSTER = "set KUBECONFIG or --kubeconfig to the cluster's kubeconfig"


def resource_path(plural: str, namespace: str, name: str = "", *, api: str = f"apis/{GROUP}/{VERSION}") -> str:
    """The URL path of a collection or an object; names are quoted, since people type them."""
    path = f"/{api}/namespaces/{quote(namespace, safe='')}/{plural}"
    return f"{path}/{quote(name, safe='')}" if name else path


class Cluster:
    """One apiserver, with the person's credentials. Every call raises ClusterError's children only."""

    def __init__(self, configuration: Configuration, *, namespace: str, context_namespace: str | None) -> None:
        self.configuration = configuration
        self.namespace = namespace
        self.context_namespace = context_namespace
        self._client = ApiClient(configuration)
        self._client.user_agent = f"dawg/{__version__}"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        """One object or one page of a list."""
        return self._json("GET", path, query=query)

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[JsonObject]:
        """All objects of a list, fetched in pages."""
        found: list[JsonObject] = []
        asked = {"limit": str(_PAGE), **(query or {})}
        while True:
            page = self.get(path, asked)
            found.extend(page.get("items") or [])
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            asked["continue"] = token

    def create(self, path: str, body: JsonObject) -> JsonObject:
        """Create an object; never repeated by itself, so that generateName makes one object only."""
        return self._json("POST", path, body=body)

    def merge(self, path: str, patch: JsonObject) -> JsonObject:
        """Carry out a merge patch."""
        return self._json("PATCH", path, body=patch, content_type="application/merge-patch+json")

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], *, read_seconds: float) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer that is read while it comes; silence of ``read_seconds`` ends it with Unavailable."""
        response = self._send("GET", path, query=query, timeout=(CONNECT_SECONDS, read_seconds))
        try:
            with _translated():
                yield response
        finally:
            response.close()

    def bearer_token(self) -> str | None:
        """The token of the kubeconfig, of its exec plugin or of OIDC; None if the person signs in another way."""
        settings: JsonObject = dict(self.configuration.auth_settings())
        value = str((settings.get("BearerToken") or {}).get("value") or "")
        return value.removeprefix("Bearer ") if value.startswith("Bearer ") else None

    def signed_url(self, path: str, query: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Address and headers of a request that somebody else carries out."""
        with _translated():
            _, url, headers, *_ = self._client.param_serialize(
                "GET", path, query_params=list(query.items()), auth_settings=["BearerToken"]
            )
        return url, dict(headers)

    def close(self) -> None:
        """End all connections."""
        self._client.rest_client.pool_manager.clear()
        self._client.close()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _json(self, method: str, path: str, **request: Any) -> JsonObject:
        response = self._send(method, path, **request)
        try:
            with _translated():
                answer = json.loads(response.data)
        except ValueError as error:
            raise Unavailable(f"{self.configuration.host} does not speak like a Kubernetes API: {error}") from error
        return answer if isinstance(answer, dict) else {}

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
        timeout: tuple[float, float] = (CONNECT_SECONDS, READ_SECONDS),
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body is not None else {})
        with _translated():
            serialized = self._client.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response: urllib3.BaseHTTPResponse = self._client.call_api(*serialized, _request_timeout=timeout).response
            if response.status >= 400:
                raise _error(response.status, response.data, response.reason or "")
        return response


def connect(target: Target) -> Cluster:
    """Read the kubeconfig (in a pod without one: its service account) and say which namespace is meant."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries are no news for the person
    configuration = Configuration()
    context_namespace = _load(configuration, target)
    namespace = target.namespace or context_namespace or "default"
    return Cluster(configuration, namespace=namespace, context_namespace=context_namespace)


def _load(configuration: Configuration, target: Target) -> str | None:
    """Fill in the configuration; return the context's namespace."""
    if target.kubeconfig is None and target.context is None and not _kubeconfig_exists() and _POD_NAMESPACE.exists():
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    with _complaints() as complaints:
        try:
            contexts, active = list_kube_config_contexts(target.kubeconfig)  # type: ignore[no-untyped-call]
            load_kube_config(target.kubeconfig, target.context, configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the kubeconfig cannot be used: {error}; {_NO_CLUSTER}") from error
    if complaints and not configuration.auth_settings() and not configuration.cert_file:
        raise Forbidden(f"the kubeconfig's credentials cannot be had: {'; '.join(complaints)}")
    chosen = next((one for one in contexts if one["name"] == target.context), active)
    namespace = (chosen.get("context") or {}).get("namespace")
    return str(namespace) if namespace else None


def _kubeconfig_exists() -> bool:
    import os

    return any(Path(part).expanduser().exists() for part in KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep) if part)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What the Kubernetes client only logs: that an exec plugin failed, without which the API would just say 401."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    listener = Listener(level=logging.ERROR)
    logging.getLogger().addHandler(listener)
    try:
        yield heard
    finally:
        logging.getLogger().removeHandler(listener)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        raise _error(int(error.status or 0), error.body or b"", str(error.reason)) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unavailable(f"the cluster does not answer: {_innermost(error)}; {_NO_CLUSTER}") from error


def _innermost(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return _innermost(reason) if isinstance(reason, BaseException) else str(error)


_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 413: Invalid, 422: Invalid,
}  # fmt: skip


def _error(status: int, body: bytes | str, reason: str) -> ClusterError:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        message = text.strip()[:_SHOWN] or reason or f"the cluster answered with HTTP {status}"
    if status == 401:
        message = f"{message}: the cluster does not accept the kubeconfig's credentials; sign in again"
    return _BY_STATUS.get(status, Unavailable)(message, status)
