"""What comes through the port-forward: who is asking, whole answers, logs without gaps or repeats."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dawg_orchestrator.client.connection import Cluster, resource_path
from dawg_orchestrator.client.door import Door
from dawg_orchestrator.client.exits import DoorClosed
from dawg_orchestrator.client.logs import LogOf, LogReader
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.names import ATTEMPT, INDEX, PATCH_SERVICE_ACCOUNT
from dawg_orchestrator.resources.names import RUN as RUN_UID

from .conftest import Playground
from .stand_in_api import LOG

API_LABELS = {"app.kubernetes.io/name": "dawg", "app.kubernetes.io/component": "api"}
PATIENCE_SECONDS = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.2)


def start_pod(
    playground: Playground, name: str, labels: dict[str, str], image: str, script: str, **container: Any
) -> dict[str, Any]:
    """A pod whose container ``test`` runs a Python script."""
    main = {"name": "test", "image": image, "command": ["python", "-c", script], **container}
    spec = {"containers": [main], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return playground.create("pods", {"metadata": {"name": name, "labels": labels}, "spec": spec})


@pytest.fixture(scope="session")
def api(cluster: Cluster, namespace: str, test_image: str) -> str:
    """A stand-in for the api role, ready; gives its namespace."""
    playground = Playground(cluster, namespace)
    for account in ("dawg-viewer", PATCH_SERVICE_ACCOUNT):
        playground.create("serviceaccounts", {"metadata": {"name": account}})
    script = (Path(__file__).parent / "stand_in_api.py").read_text()
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    start_pod(playground, "api", API_LABELS, test_image, script, readinessProbe=probe)

    def ready() -> bool:
        conditions = cluster.get(resource_path("pods", namespace, "api", api="api/v1"))["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    wait_until(ready, "the stand-in is ready")
    return namespace


@pytest.fixture
def door(playground: Playground, api: str) -> Iterator[Door]:
    opened = Door(playground.cluster, [api])
    yield opened
    opened.close()


def test_who_has_no_token_asks_as_the_viewer(door: Door, api: str) -> None:
    assert door.get("/v1/whoami")["subject"] == f"system:serviceaccount:{api}:dawg-viewer"


def test_who_has_a_token_asks_as_themselves(playground: Playground, api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = playground.cluster.create(
        resource_path("serviceaccounts", api, "default", api="api/v1") + "/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}},
    )["status"]["token"]
    monkeypatch.setattr(playground.cluster, "bearer_token", lambda: token)
    door = Door(playground.cluster, [api])

    assert door.get("/v1/whoami")["subject"] == f"system:serviceaccount:{api}:default"
    assert door.get("/v1/viewers-only")["subject"] == f"system:serviceaccount:{api}:dawg-viewer"
    door.close()


def test_who_has_no_token_brings_a_patch_as_who_may_create_runs(door: Door, api: str) -> None:
    patch = b"diff --git " + bytes(300_000)

    for _ in range(2):
        subject = f"system:serviceaccount:{api}:dawg-patcher"
        assert door.send_patch(api, patch) == f"/v1/namespaces/{api}/patches {len(patch)} {subject}"
        assert door.get("/v1/whoami")["subject"] == f"system:serviceaccount:{api}:dawg-viewer"


def test_one_door_answers_many_questions_and_quotes_what_people_type(door: Door) -> None:
    paths = [door.get("/v1/whoami", {"name": f"a&b={number} ü"})["path"] for number in range(5)]

    assert paths[4] == "/v1/whoami?name=a%26b%3D4+%C3%BC"


def test_a_refusal_says_what_and_the_remedy(door: Door) -> None:
    with pytest.raises(NotFound, match=r"no /v1/nothing; ask for something else"):
        door.get("/v1/nothing")


def test_without_an_api_pod_the_door_says_where_it_looked(playground: Playground) -> None:
    with pytest.raises(DoorClosed, match=r"default: no api pod.*--release-namespace"):
        Door(playground.cluster, ["default"]).get("/v1/version")


def test_a_followed_log_has_no_gap_and_no_repeat_however_often_it_breaks_off(
    playground: Playground, door: Door
) -> None:
    run = playground.create_run()
    playground.write_status(run.name, tasks=[{"name": "unit", "index": 0, "attempt": 1}])
    reader = LogReader(playground.cluster, door, pytest.fail)
    read = b""

    for chunk in reader.read(LogOf(playground.get_run(run.name), 0, 1, follow=True)):
        read += chunk
        if len(read) >= len(LOG):
            playground.write_status(run.name, verdict="Passed")

    assert read == LOG


def test_logs_follow_ends_with_the_run(playground: Playground, api: str) -> None:
    run = playground.create_run()
    playground.write_status(run.name, tasks=[{"name": "unit", "index": 0, "attempt": 0}])

    def play() -> None:
        playground.write_status(run.name, tasks=[{"name": "unit", "index": 0, "attempt": 1}])
        time.sleep(1.0)
        playground.write_status(
            run.name, verdict="Passed", tasks=[{"name": "unit", "index": 0, "attempt": 1, "verdict": "Passed"}]
        )

    player = threading.Timer(0.5, play)
    player.start()
    result = playground.dawg("logs", run.name, "-f")

    player.join()
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == LOG


def test_logs_as_json_are_one_object_a_line(playground: Playground, api: str) -> None:
    run = playground.create_run()
    playground.write_status(
        run.name, verdict="Passed", tasks=[{"name": "unit", "index": 0, "attempt": 1, "verdict": "Passed"}]
    )

    result = playground.dawg("logs", run.name, "-o", "json")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 400
    assert lines[7] == {"task": "unit", "attempt": 1, "line": "line 0007 of the test's log"}


def test_without_an_api_logs_come_from_the_pod_and_say_so(playground: Playground, test_image: str) -> None:
    run = playground.create_run()
    labels = {RUN_UID: run.uid, INDEX: "0", ATTEMPT: "1"}
    start_pod(playground, "task", labels, test_image, "for n in range(300): print('out', n)")
    path = resource_path("pods", playground.namespace, "task", api="api/v1")
    wait_until(lambda: playground.cluster.get(path)["status"].get("phase") == "Succeeded", "the task has ended")
    playground.write_status(
        run.name, verdict="Passed", tasks=[{"name": "unit", "index": 0, "attempt": 1, "verdict": "Passed"}]
    )

    result = playground.dawg("logs", run.name, "--release-namespace", "default")

    assert result.exit_code == 0, result.output
    assert result.stdout == "".join(f"out {number}\n" for number in range(300))
    assert "showing the pod's own log instead" in result.stderr


def test_the_commands_that_ask_the_api_show_its_answers(playground: Playground, api: str) -> None:
    queue = playground.dawg("queue")
    history = playground.dawg("history", "--verdict", "Passed")
    metrics = playground.dawg("metrics", "-o", "json")
    version = playground.dawg("version")

    assert "waits" in queue.stdout
    assert "n/ended" in history.stdout
    assert json.loads(metrics.stdout)["totalTasks"] == 3
    assert "server: 7.8.9" in version.stdout


def test_a_deleted_run_is_waited_for_shown_explained_and_read_from_history(playground: Playground, api: str) -> None:
    waited = playground.dawg("wait", "ended")
    shown = playground.dawg("status", "ended")
    why = playground.dawg("why", "ended")
    logs = playground.dawg("logs", "ended", "-f")

    assert waited.exit_code == 1
    assert "is deleted" in waited.stderr
    assert "Failed" in shown.stdout
    assert "the run ended Failed" in why.stdout
    assert logs.stdout_bytes == LOG
