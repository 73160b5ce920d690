"""What the roles say over HTTP, reached as people reach it: through a port-forward, with a short-lived token."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self
from urllib.parse import quote, urlencode

from cluster_at_hand import JsonObject, Kubectl, eventually

API_PODS = "app.kubernetes.io/component=api"
CONTROLLER_PODS = "app.kubernetes.io/component=controller"
PEOPLE_PORT, METRICS_PORT = 8080, 9090
_TIMEOUT = 30.0


@contextmanager
def forwarded(kubectl: Kubectl, pod: str, port: int) -> Iterator[int]:
    """The local port that leads to a pod's port for as long as the block lasts."""
    command = ["kubectl", "--namespace", kubectl.namespace, "port-forward", f"pod/{pod}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            local = re.search(r"127\.0\.0\.1:(\d+)", said)
            assert local is not None, f"kubectl port-forward {pod} said: {said}"
            yield int(local.group(1))
        finally:
            process.terminate()


def ready_pod(kubectl: Kubectl, selector: str) -> str:
    """The name of a ready pod that stays, once there is one."""

    def look() -> str | None:
        for pod in kubectl.items("pods", selector):
            conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                return str(pod["metadata"]["name"])
        return None

    return eventually(look, within=90, told=lambda: f"no ready pod of {selector}") or ""


class Api:
    """The people's door; the way there is laid anew when the api role was restarted."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._way = contextlib.ExitStack()
        self._port: int | None = None
        self._token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._way.close()

    def get(self, path: str, **query: object) -> bytes:
        """The answer's body; anything but 200 fails the test."""
        status, body = self.ask(path, **query)
        assert status == 200, f"GET {path} answered {status}: {body[:500]!r}"
        return body

    def json(self, path: str, **query: object) -> JsonObject:
        """The answer, an object."""
        answer: JsonObject = json.loads(self.get(path, **query))
        return answer

    def of_run(self, run: str, part: str = "") -> str:
        """The path of a run, or of a part of it."""
        path = f"/v1/runs/{self._kubectl.namespace}/{quote(run)}"
        return f"{path}/{part}" if part else path

    def ask(self, path: str, **query: object) -> tuple[int, bytes]:
        """Status and body."""
        whole = f"{path}?{urlencode(query)}" if query else path
        try:
            return self._ask(whole)
        except (OSError, http.client.HTTPException):
            self._way.close()
            self._port = None
            return self._ask(whole)

    def _ask(self, path: str) -> tuple[int, bytes]:
        if self._port is None:
            self._token = self._kubectl("create", "token", "dawg-viewer").strip()
            self._port = self._way.enter_context(
                forwarded(self._kubectl, ready_pod(self._kubectl, API_PODS), PEOPLE_PORT)
            )
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            return response.status, response.read()


class Controller:
    """The figures of the leading controller."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def metric(self, name: str, **labels: str) -> float:
        """The value of the series that carries these labels; 0 when there is none."""
        for line in self._metrics().splitlines():
            told, _, value = line.rpartition(" ")
            series, _, rest = told.partition("{")
            if series == name and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', rest)).items():
                return float(value)
        return 0.0

    def _metrics(self) -> str:
        pod = ready_pod(self._kubectl, CONTROLLER_PODS)
        with forwarded(self._kubectl, pod, METRICS_PORT) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
            with contextlib.closing(connection):
                connection.request("GET", "/metrics")
                return connection.getresponse().read().decode()
