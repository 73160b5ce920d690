"""Run by the chart's hooks, with Python alone: pools and Workflows after an install, no agents after an uninstall.

Its argument is a file of orders: ``{"apply": [object, ...]}`` or ``{"removeAgentsOf": [namespace, ...]}``.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# A definition that was installed a moment ago is served a moment later; meanwhile the API answers with one of these.
NOT_YET = {404, 429, 500, 503}
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.5


def ask(method: str, path: str, body: Any = None) -> None:
    """One request; repeated while the API is not ready for it. Ends the program when the API refuses."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, text = _answer(method, path, body)
        if status < 300:
            return
        if status not in NOT_YET or time.monotonic() > deadline:
            sys.exit(f"{method} {path}: {status} {text}")
        time.sleep(PAUSE_SECONDS)


def _answer(method: str, path: str, body: Any) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"],
        int(os.environ["KUBERNETES_SERVICE_PORT"]),
        timeout=10,
        context=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
    )
    headers = {
        "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
        "Content-Type": "application/apply-patch+yaml" if method == "PATCH" else "application/json",
    }
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")[:2000]
    except OSError as error:
        return 503, str(error)
    finally:
        connection.close()


def carry_out(orders: dict[str, Any]) -> None:
    for wanted in orders.get("apply", []):
        about = wanted["metadata"]
        kind = wanted["kind"].lower()
        path = f"/apis/{wanted['apiVersion']}/namespaces/{about['namespace']}/{kind}s/{about['name']}"
        ask("PATCH", f"{path}?fieldManager=dawg-chart&force=true", wanted)
        print(f"{kind} {about['name']} in {about['namespace']} is as the chart's values say")
    for namespace in orders.get("removeAgentsOf", []):
        selector = "labelSelector=dawg.dev%2Frole%3Dagent&propagationPolicy=Background"
        ask("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments?{selector}")
        print(f"no agents are left in {namespace}")


if __name__ == "__main__":
    carry_out(json.loads(Path(sys.argv[1]).read_text()))
