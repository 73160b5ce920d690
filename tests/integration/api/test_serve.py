"""The role as a process: real listeners, TLS, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import realparts
from apirole import Role
from dawg_orchestrator.api.serve import _bind
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster
from dawg_orchestrator.resources.names import API_VERSION
from dawg_orchestrator.store.history import History


@pytest.fixture
def role(real_cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Role]:
    role = Role(tmp_path, namespace)
    yield role
    role.end()


def test_each_listener_serves_its_own_door_only(role: Role) -> None:
    role.until_ready()

    assert json.loads(role.get("PEOPLE", "/v1/version")[1])["version"]
    assert role.get("UPLOADS", "/v1/learned", "https")[0] == 401
    assert role.get("UPLOADS", "/v1/learned", "http")[0] == 0
    assert role.get("PEOPLE", "/v1/learned")[0] == 404
    assert role.get("UPLOADS", "/v1/history", "https")[0] == 404
    assert role.get("PEOPLE", "/metrics")[0] == 404
    assert b'dawg_api_requests_total{door="uploads"' in role.get("METRICS", "/metrics")[1]


def test_webhooks_have_a_door_of_their_own_if_they_are_on(
    role: Role, real_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    with_door = Role(
        tmp_path / "hooks", namespace, environment={"DAWG_WEBHOOKS": "true"}, WEBHOOKS=realparts.free_port()
    )
    try:
        with_door.until_ready()
        assert with_door.get("WEBHOOKS", "/hooks/team/checks")[0] == 405
        assert with_door.get("WEBHOOKS", "/v1/version")[0] == 404
        assert with_door.get("PEOPLE", "/hooks/team/checks")[0] == 404
        role.until_ready()
        assert role.get("PEOPLE", "/hooks/team/checks")[0] == 404
    finally:
        log = with_door.end()
    assert "webhooks=True" in log


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
