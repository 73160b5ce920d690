"""Processes are killed while a load is under way: every task ends with one verdict, and none runs twice."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from cluster_at_hand import TASK_PODS, JsonObject, Kubectl, eventually
from localcluster import processes
from stories import Story, task

TASKS_PER_RUN = 10
HACK_UP = Path(__file__).resolve().parents[2] / "hack" / "up"


class PodsSeen:
    """Every pod of a task that ever was, by (run uid, index, attempt), also those that are gone."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._pods: dict[tuple[str, str, str], dict[str, str]] = {}  # by attempt: each pod's uid, and its Job's
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def started_twice(self) -> list[tuple[str, str, str]]:
        """Attempts for which there was more than one pod."""
        return [attempt for attempt, pods in self._pods.items() if len(pods) > 1]

    def jobs_twice(self) -> list[tuple[str, str, str]]:
        """Attempts for which there was more than one Job."""
        return [attempt for attempt, pods in self._pods.items() if len(set(pods.values())) > 1]

    def attempts(self, *runs: str) -> Counter[tuple[str, str]]:
        """How many attempts each task of these runs had, by (run uid, index)."""
        found = {run["metadata"]["name"]: run["metadata"]["uid"] for run in self._kubectl.items("testruns")}
        uids = {found[name] for name in runs}
        return Counter((run, index) for run, index, _ in self._pods if run in uids)

    def _watch(self) -> None:
        while not self._over.is_set():  # the apiserver may end any watch; the next one lists what there is first
            for line in self._lines():
                uid, job, run, index, attempt = [*line.split(), *[""] * 5][:5]
                if attempt:
                    self._pods.setdefault((run, index, attempt), {})[uid] = job

    def _lines(self) -> Iterator[str]:
        columns = "UID:.metadata.uid,JOB:.metadata.ownerReferences[0].uid," + ",".join(
            f"{name}:.metadata.labels.dawg\\.dev/{name}" for name in ("run-uid", "index", "attempt")
        )
        command = ["kubectl", "-n", self._kubectl.namespace, "get", "pods", "-l", TASK_PODS, "-o",
                   f"custom-columns={columns}", "--no-headers", "--watch"]  # fmt: skip
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ending = threading.Timer(0, lambda: (self._over.wait(), watching.terminate()))
        ending.daemon = True
        ending.start()
        assert watching.stdout is not None
        with watching.stdout:
            yield from watching.stdout
        watching.wait()
        time.sleep(0.2)


@contextmanager
def seen_pods(kubectl: Kubectl) -> Iterator[PodsSeen]:
    """Watch tasks' pods for as long as the block lasts."""
    with PodsSeen(kubectl) as seen:
        yield seen


def given_load(story: Story, pool: str, count: int = 5) -> list[str]:
    """Short tasks in runs of ten, some after others."""
    runs = []
    for number in range(count):
        tasks = [task(f"t{i}", "sleep 1", needs=[f"t{i - 5}"] if i >= 5 else []) for i in range(TASKS_PER_RUN)]
        runs.append(story.when_applied(*tasks, name=f"load-{story.mark}-{number}", pool=pool, ttlAfterFinished="1h"))
    return runs


def finished_count(story: Story, runs: list[str]) -> int:
    """How many tasks of these runs have their verdict."""
    found = {run["metadata"]["name"]: run for run in story.kubectl.items("testruns")}
    letters = "".join((found[name].get("status") or {}).get("taskVerdicts") or "" for name in runs if name in found)
    return sum(letter != "." for letter in letters)


def then_all_pass(story: Story, runs: list[str], within: float = 420) -> list[JsonObject]:
    """Every run ends, and every one of its tasks has passed."""
    total = len(runs) * TASKS_PER_RUN
    eventually(
        lambda: finished_count(story, runs) >= total, within=within, every=2,
        told=lambda: f"{finished_count(story, runs)} of {total} tasks ended",
    )  # fmt: skip
    statuses = [story.then_finishes(run, within=30) for run in runs]
    assert [status["verdict"] for status in statuses] == ["Passed"] * len(runs)
    assert [status["taskVerdicts"] for status in statuses] == ["P" * TASKS_PER_RUN] * len(runs)
    return statuses


def then_no_orphans(story: Story, runs: list[str]) -> None:
    """No Job or pod of these runs is still running."""
    names = set(runs)

    def running() -> list[str]:
        pods = story.kubectl.items("pods", TASK_PODS)
        return [
            pod["metadata"]["name"] for pod in pods
            if pod["metadata"]["annotations"].get("dawg.dev/run") in names
            and pod["status"].get("phase") in ("Pending", "Running")
        ]  # fmt: skip

    eventually(lambda: not running(), within=60, told=lambda: str(running()))


def kill_controller(kubectl: Kubectl) -> None:
    """End the leading controller without a word; its Deployment brings another."""
    before = {pod["metadata"]["uid"] for pod in _controllers(kubectl)}
    kubectl("delete", "pods", "-l", "app.kubernetes.io/component=controller", "--grace-period=0", "--force",
            "--wait=false")  # fmt: skip
    eventually(
        lambda: any(
            pod["metadata"]["uid"] not in before
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in _controllers(kubectl)
        ),
        within=60,
        told=lambda: json.dumps([pod["status"].get("phase") for pod in _controllers(kubectl)]),
    )


def _controllers(kubectl: Kubectl) -> list[JsonObject]:
    return kubectl.items("pods", "app.kubernetes.io/component=controller")


def test_the_controller_is_killed_ten_times_during_a_hundred_tasks(story: Story, kubectl: Kubectl) -> None:
    pool = story.given_pool(minAgents=2, maxAgents=4, slots=8)
    story.then_pool_has(pool, 2)
    with seen_pods(kubectl) as seen:
        runs = given_load(story, pool, count=10)
        for _ in range(10):
            kill_controller(kubectl)
        then_all_pass(story, runs)

    assert seen.started_twice() == []
    assert set(seen.attempts(*runs).values()) == {1}  # a controller's death costs no test a second attempt
    then_no_orphans(story, runs)


def test_agents_are_killed_and_their_jobs_go_on_under_others(story: Story, kubectl: Kubectl) -> None:
    pool = story.given_pool(minAgents=2, maxAgents=4, slots=8)
    story.then_pool_has(pool, 2)
    with seen_pods(kubectl) as seen:
        runs = given_load(story, pool)
        for share in (0.2, 0.4, 0.6):
            eventually(
                lambda share=share: finished_count(story, runs) >= share * len(runs) * TASKS_PER_RUN,
                within=240,
                every=1,
            )
            victim = story.agent_pods(pool)[0]["metadata"]["name"]
            kubectl("delete", "pod", victim, "--grace-period=0", "--force", "--wait=false")
        then_all_pass(story, runs)

    assert seen.started_twice() == []
    assert set(seen.attempts(*runs).values()) == {1}
    then_no_orphans(story, runs)


def test_deleted_pods_of_tasks_are_infrastructure_and_tried_again(story: Story, kubectl: Kubectl) -> None:
    pool = story.given_pool(minAgents=1, maxAgents=1, slots=8)
    run = story.when_applied(
        *(task(f"t{i}", "sleep 5", retry={"infra": {"limit": 2}, "backoff": {"initial": "1s"}}) for i in range(4)),
        pool=pool,
    )
    pods = eventually(lambda: _running_pods(kubectl, run), within=60)
    kubectl("delete", "pod", pods[0]["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")

    status = story.then_finishes(run)

    assert status["verdict"] == "Passed"
    retried = [entry for entry in status["tasks"] if entry["attempt"] == 2]
    assert [entry["retries"] for entry in retried] == [{"infra": 1, "tests": 0}]


def _running_pods(kubectl: Kubectl, run: str) -> list[JsonObject]:
    pods = kubectl.items("pods", TASK_PODS)
    return [
        pod for pod in pods
        if pod["metadata"]["annotations"].get("dawg.dev/run") == run and pod["status"].get("phase") == "Running"
    ]  # fmt: skip


def test_a_restart_of_the_apiserver_loses_nothing(story: Story, kubectl: Kubectl) -> None:
    pool = story.given_pool(minAgents=2, maxAgents=2, slots=8)
    story.then_pool_has(pool, 2)
    with seen_pods(kubectl) as seen:
        runs = given_load(story, pool)
        eventually(lambda: finished_count(story, runs) >= 20, within=120, every=1)
        processes.stop("kube-apiserver", seconds=0.1)
        subprocess.run([HACK_UP, "--cluster-only"], check=True, stdout=subprocess.DEVNULL)  # starts what is missing
        eventually(lambda: "ok" in kubectl("get", "--raw", "/readyz", check=False), within=60)
        then_all_pass(story, runs)

    # Kubernetes makes a second pod when the answer to its own creation of the first got lost, and removes it at once.
    assert seen.jobs_twice() == []
    then_no_orphans(story, runs)


def begun_tests(story: Story, pool: str, run: str) -> Counter[str]:
    """How often an agent of a warm pool began each task of a run, as the agents' own logs have it."""
    begun: Counter[str] = Counter()
    for pod in story.agent_pods(pool):
        log = story.kubectl("logs", pod["metadata"]["name"], "--container", "agent", "--tail=-1")
        events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        begun.update(event["task"] for event in events if event["event"] == "test begun" and event["run"] == run)
    return begun


def test_a_thousand_tasks_survive_a_controller_killed_at_the_half(story: Story, kubectl: Kubectl) -> None:
    pool = story.given_pool(executor="Process", minAgents=2, maxAgents=2, slots=10)
    story.then_pool_has(pool, 2)
    run = story.when_applied(task("many", "sleep 0.2", shards={"count": 250}, matrix={"part": list("abcd")}), pool=pool)

    def letters() -> str:
        return str(story.status(run).get("taskVerdicts") or "")

    eventually(lambda: letters().count("P") >= 500, within=300, told=letters)
    kill_controller(kubectl)
    at_half = letters()
    status = story.then_finishes(run, within=300)

    assert status["taskVerdicts"] == "P" * 1000
    keys = [f"many[part={part}] {shard}/250" for part in "abcd" for shard in range(1, 251)]
    begun = begun_tests(story, pool, run)
    assert begun.keys() == set(keys)
    assert {begun[key] for key, letter in zip(keys, at_half, strict=True) if letter == "P"} == {1}
    assert len(json.dumps(status)) < 256 * 1024
