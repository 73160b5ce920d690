"""What tests wrote: through the api for runs, through the kubelet for bare Jobs."""

from __future__ import annotations

import http.client
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.place import NAMESPACE
from localcluster import commands, kubectl

_PATIENCE = 20.0  # seconds until a log is stored


class Api:
    """The people's door of the api role, over one connection."""

    def __init__(self, connection: http.client.HTTPConnection, token: str) -> None:
        self._connection, self._token = connection, token

    def run_log(self, run: str, index: int = 0) -> bytes:
        """The log of one task of a run, once it is stored."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            path = f"/v1/runs/{NAMESPACE}/{run}/log?index={index}"
            self._connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            answer = self._connection.getresponse()
            body = answer.read()
            if answer.status == 200 and body:
                return body
            if time.monotonic() > deadline:
                raise TimeoutError(f"the log of {run} is not stored: {answer.status} {body[:200]!r}")
            time.sleep(0.05)


@contextmanager
def api() -> Iterator[Api]:
    """The door, opened by a port-forward."""
    token = kubectl.run("--namespace", NAMESPACE, "create", "token", "dawg-viewer").strip()
    command = kubectl.command("--namespace", NAMESPACE, "port-forward", "deployment/dawg-api", ":8080")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            assert forward.stdout is not None  # noqa: S101
            port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert port is not None  # noqa: S101
            yield Api(http.client.HTTPConnection("127.0.0.1", int(port.group(1)), timeout=30), token)
        finally:
            forward.terminate()


def job_log(job: str) -> bytes:
    """The log of a Job's pod."""
    return commands.run(kubectl.command("--namespace", NAMESPACE, "logs", f"job/{job}")).encode()
