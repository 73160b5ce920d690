"""Real Jobs on a real cluster, supervised as an agent does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from dawg_agent.kube import Kube
from dawg_agent.podwatch import PodWatch
from dawg_agent.supervise import Supervisor
from dawg_agent.upload import Door
from dawg_orchestrator.cluster.client import JOBS, PODS, Cluster, Resource
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import Forbidden
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import AttemptRef, Held, JobOrder, LeaseId, Progress
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from integration.agent.uploads import TOKEN, Uploads, serve_uploads

NAMESPACES = Resource("", "v1", "namespaces")
QUOTAS = Resource("", "v1", "resourcequotas")
PATIENCE = 90.0


@pytest.fixture
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    name = f"dawg-agent-{uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await cluster.delete(NAMESPACES, None, name)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - any of many things may make it hold
            await asyncio.sleep(0.05)


@dataclass
class Watching:
    """A Job under supervision."""

    supervisor: Supervisor
    result: asyncio.Task[TaskResult]
    told: list[Progress] = field(default_factory=list)

    async def hears(self, reason: Reason) -> Progress:
        await until(lambda: any(progress.reason is reason for progress in self.told))
        return next(progress for progress in reversed(self.told) if progress.reason is reason)

    async def ends(self) -> TaskResult:
        return await asyncio.wait_for(asyncio.shield(self.result), PATIENCE)


@dataclass
class Bench:
    """Creates Jobs as the controller does, and agents to supervise them."""

    cluster: Cluster
    namespace: str
    image: str
    uploads: Uploads
    stack: contextlib.AsyncExitStack

    async def job(self, *command: str, image: str | None = None, **container: Any) -> tuple[AttemptRef, JobOrder]:
        uid = uuid4().hex
        labels = {names.RUN: uid, names.INDEX: "0", names.ATTEMPT: "1"}
        test = {"name": "test", "image": image or self.image, "command": list(command)} | container
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [test]}
        manifest = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"job-{uid[:10]}", "labels": labels},
            "spec": {
                "backoffLimit": 0,
                "podReplacementPolicy": "Failed",
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        made = await self.cluster.create(JOBS, self.namespace, manifest)
        attempt = AttemptRef(namespace=self.namespace, run="x", run_uid=uid, index=0, attempt=1)
        return attempt, JobOrder(job=made["metadata"]["name"], job_uid=made["metadata"]["uid"])

    async def agent(self) -> Callable[[AttemptRef, JobOrder], Watching]:
        """An agent with its one pod watch."""
        credentials = find_credentials()
        kube = Kube(credentials.server, self.namespace, credentials.ssl_context, lambda: credentials.token)
        self.stack.push_async_callback(kube.close)
        pods = PodWatch(kube)
        keeping = asyncio.create_task(pods.keep())
        door = await self.stack.enter_async_context(Door(self.uploads.url, self.token, self.token))
        tasks: list[asyncio.Task[Any]] = [keeping]

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.stack.push_async_callback(stop)

        def supervise(attempt: AttemptRef, order: JobOrder) -> Watching:
            told: list[Progress] = []
            held = Held(lease=LeaseId(term=1, number=1), attempt=attempt, job=order)
            supervisor = Supervisor(held, order, kube, pods, door, told.append)
            tasks.append(result := asyncio.create_task(supervisor.watch()))
            self.stack.callback(supervisor.let_go)
            return Watching(supervisor, result, told)

        return supervise

    token: Any = None

    async def run(self, *command: str, **more: Any) -> Watching:
        attempt, order = await self.job(*command, **more)
        return (await self.agent())(attempt, order)

    async def pod_of(self, order: JobOrder) -> str:
        pods, _ = await self.cluster.list(PODS, self.namespace)
        return next(str(pod["metadata"]["name"]) for pod in pods if pod["metadata"]["labels"]["job-name"] == order.job)


@pytest.fixture
async def bench(cluster: Cluster, namespace: str, test_image: str, tmp_path: Any) -> AsyncIterator[Bench]:
    (tmp_path / "token").write_text(TOKEN)
    async with serve_uploads() as uploads, contextlib.AsyncExitStack() as stack:
        yield Bench(cluster, namespace, test_image, uploads, stack, tmp_path / "token")


async def until_job_has(bench: Bench, order: JobOrder, pods: str) -> None:
    """Wait until so many of its pods as it may have, which is one, are ready or failed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            job = await bench.cluster.get(JOBS, bench.namespace, order.job)
            if (job.get("status") or {}).get(pods):
                return
            await asyncio.sleep(0.1)


async def test_exit_code_start_node_and_log_are_told(bench: Bench) -> None:
    watching = await bench.run("sh", "-c", "echo hello; echo there >&2; sleep 1; exit 3")
    result = await watching.ends()

    assert (result.exit_code, result.infrastructure, result.killed) == (3, None, False)
    assert result.started_at is not None
    assert result.node
    assert result.log_stored
    assert sorted(bytes(bench.uploads.log).splitlines()) == [b"hello", b"there"]
    assert Reason.RUNNING in {progress.reason for progress in watching.told}


async def test_a_pod_that_was_evicted_while_no_agent_looked_is_missed(bench: Bench) -> None:
    attempt, order = await bench.job("sleep", "3600")
    await until_job_has(bench, order, "ready")
    await bench.cluster.delete(PODS, bench.namespace, await bench.pod_of(order))
    await until_job_has(bench, order, "failed")

    result = await (await bench.agent())(attempt, order).ends()

    assert (result.infrastructure, result.killed) == (Reason.POD_DELETED, False)
    assert "while no agent saw how it ended" in result.message


async def test_a_line_of_twenty_megabytes_passes(bench: Bench) -> None:
    script = "import sys; [sys.stdout.write('x' * 1048576) for _ in range(20)]; print('end')"
    result = await (await bench.run("python3", "-c", script)).ends()
    await until(lambda: bench.uploads.log_complete)

    assert result.exit_code == 0
    assert len(bench.uploads.log) == 20 * 1048576 + 4
    assert bench.uploads.log.endswith(b"xend\n")


@pytest.mark.parametrize(("image", "policy"), [("Not:a:Name", "IfNotPresent"), ("example.invalid/none:1", "Never")])
async def test_an_image_that_cannot_be_pulled_is_infrastructure(bench: Bench, image: str, policy: str) -> None:
    result = await (await bench.run("true", image=image, imagePullPolicy=policy)).ends()

    assert result.infrastructure is Reason.IMAGE_PULL
    assert image in result.message
    assert result.started_at is None


async def test_a_command_that_is_not_there_is_infrastructure(bench: Bench) -> None:
    result = await (await bench.run("no-such-command")).ends()

    assert result.infrastructure is Reason.START_FAILED
    assert "no-such-command" in result.message


async def test_a_missing_secret_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}
    watching = await bench.run("true", env=[reference])

    assert 'secret "database" not found' in (await watching.hears(Reason.SECRET_MISSING)).message


async def test_too_little_memory_is_told(bench: Bench) -> None:
    limits = {"limits": {"memory": "24Mi"}}
    watching = await bench.run("python3", "-c", "x = bytearray(200 << 20); print(len(x))", resources=limits)
    result = await watching.ends()

    assert result.oom_killed
    assert result.exit_code == 137


async def test_a_pod_that_somebody_deletes_is_infrastructure(bench: Bench) -> None:
    attempt, order = await bench.job("sleep", "600")
    watching = (await bench.agent())(attempt, order)
    await watching.hears(Reason.RUNNING)
    await bench.cluster.delete(PODS, bench.namespace, await bench.pod_of(order))
    result = await watching.ends()

    assert (result.infrastructure, result.killed, result.exit_code) == (Reason.POD_DELETED, False, None)


async def test_a_job_that_the_controller_deletes_was_killed(bench: Bench) -> None:
    attempt, order = await bench.job("sleep", "600")
    watching = (await bench.agent())(attempt, order)
    await watching.hears(Reason.RUNNING)
    watching.supervisor.cancel()
    await bench.cluster.delete(JOBS, bench.namespace, order.job)
    result = await watching.ends()

    assert (result.infrastructure, result.killed, result.exit_code) == (None, True, None)
    assert result.started_at is not None


async def test_no_node_is_waited_for_with_the_schedulers_words(bench: Bench) -> None:
    watching = await bench.run("true", resources={"requests": {"cpu": "900"}})

    assert "Insufficient cpu" in (await watching.hears(Reason.UNSCHEDULABLE)).message


async def until_no_pod_may_be_created(bench: Bench) -> None:
    """A quota is in force some time after its creation."""
    spec = {"containers": [{"name": "test", "image": bench.image}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "refused"}, "spec": spec}
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await bench.cluster._request("POST", PODS.path(bench.namespace), body=pod, params={"dryRun": "All"})
            except Forbidden as error:
                if "exceeded quota" in str(error):
                    return
            await asyncio.sleep(0.05)


async def test_a_full_quota_is_waited_for_with_its_name(bench: Bench) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tiny"}, "spec": {"hard": {"pods": "0"}}}
    await bench.cluster.create(QUOTAS, bench.namespace, quota)
    await until_no_pod_may_be_created(bench)
    watching = await bench.run("true")

    assert "tiny" in (await watching.hears(Reason.QUOTA_EXCEEDED)).message


async def test_another_agent_takes_over_and_the_log_is_whole(bench: Bench) -> None:
    attempt, order = await bench.job("sh", "-c", "for i in $(seq 60); do echo line $i; sleep 0.1; done; exit 7")
    first = (await bench.agent())(attempt, order)
    await first.hears(Reason.RUNNING)
    await until(lambda: len(bench.uploads.log) >= 50)
    first.result.cancel()
    first.supervisor.let_go()
    second = (await bench.agent())(attempt, order)
    result = await second.ends()

    assert (result.exit_code, result.log_stored) == (7, True)
    assert bytes(bench.uploads.log).splitlines() == [f"line {number}".encode() for number in range(1, 61)]


async def test_an_api_that_is_down_delays_the_log_and_not_the_verdict(bench: Bench) -> None:
    bench.uploads.down = True
    watching = await bench.run("sh", "-c", "echo hello")
    result = await watching.ends()

    assert (result.exit_code, result.log_stored) == (0, False)
    bench.uploads.down = False
    await asyncio.wait_for(watching.supervisor.see_log_through(), 30)
    assert bytes(bench.uploads.log) == b"hello\n"
    assert bench.uploads.log_complete
