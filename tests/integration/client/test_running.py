"""`dawg run`, `wait`, `cancel` against a real apiserver."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from dawg_orchestrator.client import following
from dawg_orchestrator.client.connection import resource_path
from dawg_orchestrator.client.watching import Seen, watch_run

from .conftest import Playground
from .severable import Relay

A_FILE = """
apiVersion: dawg.dev/v1alpha1
kind: TestRun
metadata: {generateName: from-file-}
spec:
  tasks: [{name: unit, image: alpine, run: 'true'}]
"""


def soon(act: Callable[[], object], seconds: float = 0.7) -> threading.Thread:
    """Do it while the command waits."""
    thread = threading.Timer(seconds, act)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("Passed", 0), ("Flaky", 0), ("Failed", 1), ("TimedOut", 1), ("InfraError", 2), ("Cancelled", 3), ("Skipped", 3)],
)
def test_wait_ends_with_the_verdicts_exit_code(playground: Playground, verdict: str, code: int) -> None:
    run = playground.create_run()
    playground.write_status(run.name, verdict=verdict)

    result = playground.dawg("wait", run.name)

    assert result.exit_code == code
    assert f"{run.name} {verdict}" in result.output


def test_wait_hears_a_verdict_that_comes_later(playground: Playground) -> None:
    run = playground.create_run()
    writer = soon(lambda: playground.write_status(run.name, verdict="Failed"))

    result = playground.dawg("wait", run.name, "--timeout", "30s")

    writer.join()
    assert result.exit_code == 1


def test_run_creates_what_stdin_says_and_answers_json(playground: Playground) -> None:
    result = playground.dawg("run", "-f", "-", "--no-wait", "-o", "json", stdin=A_FILE)

    assert result.exit_code == 0, result.output
    created = json.loads(result.stdout)
    assert created["metadata"]["name"].startswith("from-file-")
    assert playground.get_run(created["metadata"]["name"]).uid == created["metadata"]["uid"]


def test_run_from_flags_is_accepted_by_the_cluster_as_meant(playground: Playground) -> None:
    result = playground.dawg(
        "run", "--image", "python:3.12", "--env", "A=b", "--junit", "junit*.xml", "--git", "https://git.example/a.git",
        "--revision", "main", "--task-timeout", "5m", "--name", "from-flags", "--no-wait", "--", "pytest", "-q", "-x",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    [task] = playground.get_run("from-flags").spec["tasks"]
    assert task["command"] == ["pytest", "-q", "-x"]
    assert task["results"]["junit"] == ["junit*.xml"]


def test_what_the_cluster_refuses_is_wrong_usage_and_says_why(playground: Playground) -> None:
    refused = playground.dawg("run", "--git", "ftp://nowhere", "--image", "a", "--", "true")
    playground.create_run(name="taken")
    taken = playground.dawg("run", "--name", "taken", "--image", "a", "--", "true")

    assert (refused.exit_code, taken.exit_code) == (64, 64)
    assert "spec.source.git.url" in refused.output
    assert "already exists" in taken.output


def test_wait_gives_up_after_its_own_timeout_and_leaves_the_run_alone(playground: Playground) -> None:
    run = playground.create_run()
    started = time.monotonic()

    result = playground.dawg("wait", run.name, "--timeout", "1s")

    assert result.exit_code == 4
    assert time.monotonic() - started < 4
    assert f"dawg wait -n {playground.namespace} {run.name}" in result.output
    assert not playground.get_run(run.name).spec.get("cancelled")


def test_a_run_that_is_deleted_while_waited_for_ends_with_3(playground: Playground) -> None:
    run = playground.create_run()
    deleter = soon(lambda: playground.delete(resource_path("testruns", playground.namespace, run.name)))

    result = playground.dawg("wait", run.name, "--timeout", "30s")

    deleter.join()
    assert result.exit_code == 3
    assert "was deleted before it had a verdict" in result.output


def test_a_run_nobody_takes_brings_a_hint(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_NOT_SEEN_SECONDS", 1.0)
    run = playground.create_run()

    result = playground.dawg("wait", run.name, "--timeout", "2s")

    assert result.output.count("NotSeen") >= 1
    assert f"dawg why -n {playground.namespace} {run.name}" in result.stderr


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_go_on(playground: Playground) -> None:
    run = playground.create_run()
    with playground.started_dawg("wait", run.name) as process:
        assert process.stdout is not None
        assert run.name in process.stdout.readline()

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "dawg cancel" in errors
    assert not playground.get_run(run.name).spec.get("cancelled")


def test_cancel_asks_for_the_end_once(playground: Playground) -> None:
    run = playground.create_run()

    first = playground.dawg("cancel", run.name)
    assert playground.get_run(run.name).spec["cancelled"] is True
    playground.write_status(run.name, verdict="Cancelled")
    second = playground.dawg("cancel", run.name)

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "already ended Cancelled" in second.output


def test_names_that_do_not_exist_are_wrong_usage(playground: Playground) -> None:
    for command in ("wait", "status", "why", "cancel", "logs"):
        result = playground.dawg(command, "no-such-run")
        assert result.exit_code == 64, command
        assert "no-such-run" in result.output


@pytest.fixture
def relayed(playground: Playground, tmp_path: Path) -> Iterator[tuple[Relay, str]]:
    """A relay, and a kubeconfig that goes through it."""
    kubeconfig = subprocess.run(
        ["kubectl", "config", "view", "--raw", "--minify", "--flatten"], check=True, capture_output=True, text=True
    ).stdout
    config = yaml.safe_load(kubeconfig)
    server = config["clusters"][0]["cluster"]
    address = urlsplit(server["server"])
    relay = Relay(str(address.hostname), address.port or 443)
    relay.up()
    server["server"] = f"https://127.0.0.1:{relay.port}"
    server["tls-server-name"] = address.hostname
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    yield relay, str(path)
    relay.down()


def test_wait_outlives_dropped_watches_and_a_restarted_apiserver(
    playground: Playground, relayed: tuple[Relay, str]
) -> None:
    relay, kubeconfig = relayed
    run = playground.create_run()
    with playground.started_dawg("wait", run.name, "--timeout", "60s", "--kubeconfig", kubeconfig) as process:
        assert process.stdout is not None
        assert run.name in process.stdout.readline()

        relay.cut()
        playground.write_status(run.name, phase="Running", queue={"reason": "WaitingForAgent", "message": "first cut"})
        assert "Running" in process.stdout.readline()
        relay.down()
        playground.write_status(run.name, verdict="Passed")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        relay.up()
        output, errors = process.communicate(timeout=20)

    assert process.returncode == 0, errors
    assert f"{run.name} Passed" in output
    assert "trying again" in errors


def test_a_watch_hears_only_of_its_own_run(playground: Playground) -> None:
    run, other = playground.create_run(), playground.create_run()
    with closing(watch_run(playground.cluster, run.namespace, run.name, uid=run.uid)) as news:  # type: ignore[type-var]
        assert next(news) == Seen(run)
        playground.write_status(other.name, verdict="Failed")
        playground.write_status(run.name, verdict="Passed")
        heard = next(one for one in news if isinstance(one, Seen))

    assert heard.run.name == run.name
    assert heard.run.status.verdict == "Passed"
