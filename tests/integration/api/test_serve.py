"""The role as a process: real listeners, TLS, signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dawg_orchestrator.api.serve import _bind
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster
from dawg_orchestrator.resources.names import API_VERSION
from dawg_orchestrator.store.history import History

ROOT = Path(__file__).parents[3]
SERVE = """
import os
from dawg_orchestrator.api.serve import main
from dawg_orchestrator.settings import ApiSettings
main(ApiSettings.from_environment(os.environ))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_certificate(folder: Path) -> None:
    folder.mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=dawg-api", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


class Role:
    """The api role under test."""

    def __init__(self, folder: Path, namespace: str, **ports: int) -> None:
        self.ports = {name: free_port() for name in ("UPLOADS", "PEOPLE", "METRICS")} | ports
        make_certificate(folder / "tls")
        self.trust = ssl.create_default_context(cafile=str(folder / "tls" / "tls.crt"))
        environment = {
            "PYTHONPATH": str(ROOT / "operator"), "PYTHONWARNINGS": "error", "DAWG_NAMESPACES": namespace,
            "DAWG_DATA_DIR": str(folder / "data"), "DAWG_TLS_DIR": str(folder / "tls"),
            "DAWG_CONTROLLER_SERVICE_ACCOUNT": "dawg:dawg-controller", "DAWG_FREE_SPACE_FLOOR": "1",
            **{f"DAWG_{name}_PORT": str(port) for name, port in self.ports.items()},
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE], env=os.environ | environment, stdout=subprocess.PIPE, text=True
        )

    def get(self, door: str, path: str, scheme: str = "http") -> tuple[int, bytes]:
        """(status, body); status 0 while nobody listens."""
        url = f"{scheme}://localhost:{self.ports[door]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10, context=self.trust) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def until_ready(self) -> None:
        """Wait for readiness; fail if the process ends first."""
        end = time.monotonic() + 30
        while self.get("METRICS", "/readyz")[0] != 200:
            assert self.process.poll() is None, "the api role ended"
            assert time.monotonic() < end, "the api role did not become ready"
            time.sleep(0.1)


@pytest.fixture
def role(real_cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Role]:
    role = Role(tmp_path, namespace)
    yield role
    role.process.kill()
    role.process.communicate()


def test_each_listener_serves_its_own_door_only(role: Role) -> None:
    role.until_ready()

    assert json.loads(role.get("PEOPLE", "/v1/version")[1])["version"]
    assert role.get("UPLOADS", "/v1/learned", "https")[0] == 401
    assert role.get("UPLOADS", "/v1/learned", "http")[0] == 0
    assert role.get("PEOPLE", "/v1/learned")[0] == 404
    assert role.get("UPLOADS", "/v1/history", "https")[0] == 404
    assert role.get("PEOPLE", "/metrics")[0] == 404
    assert b'dawg_api_requests_total{door="uploads"' in role.get("METRICS", "/metrics")[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_all_listeners_at_once_and_cleanly(role: Role, number: signal.Signals) -> None:
    role.until_ready()
    idle = socket.create_connection(("localhost", role.ports["PEOPLE"]))
    began = time.monotonic()
    role.process.send_signal(number)

    assert role.process.wait(timeout=15) == 0
    assert time.monotonic() - began < 5
    idle.close()


async def test_history_survives_a_kill(role: Role, real_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    role.until_ready()
    spec = {"tasks": [{"name": "unit", "run": "true"}]}
    body = {"apiVersion": API_VERSION, "kind": "TestRun", "metadata": {"name": "run"}, "spec": spec}
    await real_cluster.create(TESTRUNS, namespace, body)
    await real_cluster.patch(TESTRUNS, namespace, "run", {"status": {"verdict": "Passed"}}, subresource="status")
    end = time.monotonic() + 30
    while b"dawg_api_runs_recorded_total 1.0" not in role.get("METRICS", "/metrics")[1]:
        assert time.monotonic() < end, "the run was not recorded"
        await asyncio.sleep(0.1)
    role.process.kill()
    role.process.wait()
    await real_cluster.delete(TESTRUNS, namespace, "run")

    history = await History.open(
        f"sqlite:///{tmp_path}/data/history.db", tmp_path / "data", max_file_bytes=1, free_space_floor=0
    )  # fmt: skip
    assert await history.runs.find(namespace, "run") is not None
    await history.close()


def test_a_port_that_is_taken_ends_the_process_with_its_number(role: Role, tmp_path: Path, namespace: str) -> None:
    role.until_ready()
    second = Role(tmp_path / "second", namespace, PEOPLE=role.ports["PEOPLE"])

    output, _ = second.process.communicate(timeout=30)

    assert second.process.returncode == 1
    assert f"port {role.ports['PEOPLE']} cannot be listened on" in output


def test_answers_do_not_wait_for_the_askers_acknowledgement() -> None:
    with _bind(0) as bound, socket.create_connection(("localhost", bound.getsockname()[1])):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
