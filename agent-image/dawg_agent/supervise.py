"""One Job: watches its pod, listens to its sidecar, carries its log, and says how the attempt ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from dawg_agent import attempt as rules
from dawg_agent.attempt import CHECKOUT, Sight
from dawg_agent.events import MAX_LINE, read_event
from dawg_agent.kube import Kube, lines_of
from dawg_agent.logs import LogCarrier
from dawg_agent.podstate import container_end, has_ended, has_log, trouble_of_job, trouble_of_pod
from dawg_agent.podwatch import PodWatch
from dawg_agent.upload import Door
from dawg_orchestrator.errors import ClusterError, NotFound
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import Held, JobOrder, Progress
from dawg_orchestrator.resources.results import TaskResult

LOOK_AGAIN = 2.0  # seconds until time itself may have changed the answer
LOOK_CLOSER = 4.0  # seconds between questions that no watch answers: events, the Job's existence; the second is sooner
LOG_PATIENCE = 3.0  # seconds that a result waits for the end of its log
LOG_AFTERWARDS = 600.0  # seconds that the log is carried on behind the result

log = structlog.get_logger()


class Supervisor:
    """One attempt's eyes. ``tell`` gets Progress whenever something is new."""

    def __init__(
        self, held: Held, order: JobOrder, kube: Kube, pods: PodWatch, door: Door, tell: Callable[[Progress], None]
    ) -> None:
        self._held = held
        self._order = order
        self._kube = kube
        self._pods = pods
        self._tell = tell
        self._sight = Sight()
        self._woken = asyncio.Event()
        self._view = pods.follow(held.attempt, order.job_uid, self._woken.set)
        self._listening: dict[str, asyncio.Task[None]] = {}
        self._carrier = LogCarrier(kube, door, held.attempt, order.job, order.container, self._test_is_over)
        self._carrying: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Take note that the controller deletes the Job: what ends now was killed."""
        self._sight.cancelled = True
        self._woken.set()

    async def watch(self) -> TaskResult:
        """Return how the attempt ended, as soon as that is known."""
        look_closer_at, pause = 0.0, LOOK_AGAIN
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._woken.clear()
                self._take_in()
                now = datetime.now(UTC)
                if result := rules.conclude(self._sight, self._order, now):
                    return await self._with_log(result)
                self._report(now)
                if loop.time() >= look_closer_at:
                    look_closer_at, pause = loop.time() + pause, LOOK_CLOSER
                    await self._look_closer()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), LOOK_AGAIN)
        finally:
            for task in self._listening.values():
                task.cancel()

    async def see_log_through(self) -> None:
        """Let the log come to its end, within bounds."""
        if self._carrying is None:
            return
        try:
            async with asyncio.timeout(LOG_AFTERWARDS):
                await asyncio.shield(self._carrying)
        except TimeoutError:
            log.warning("log not stored", job=self._order.job)

    def let_go(self) -> None:
        """Forget the pod."""
        if self._carrying is not None:
            self._carrying.cancel()
        self._pods.unfollow(self._held.attempt, self._view)

    def _test_is_over(self) -> bool:
        view = self._view
        return view.gone or (view.pod is not None and container_end(view.pod, self._order.container) is not None)

    def _take_in(self) -> None:
        """Bring the sight up to date and begin to listen to what has begun to speak."""
        sight, view = self._sight, self._view
        sight.pod, sight.pod_gone = view.pod, view.gone
        if sight.pod is None:
            return
        name = sight.pod["metadata"]["name"]
        if self._carrying is None and has_log(sight.pod, self._order.container):
            self._carrying = asyncio.create_task(self._carrier.carry(name))
        for container in (self._order.sidecar, CHECKOUT):
            if container and container not in self._listening and has_log(sight.pod, container):
                self._listening[container] = asyncio.create_task(self._listen(name, container))

    def _report(self, now: datetime) -> None:
        reason, message, more = rules.news(self._sight, self._order, now)
        held = self._held
        told = {"lease": held.lease, "attempt": held.attempt, "reason": reason, "message": message} | more
        self._tell(Progress.model_validate(told))

    async def _with_log(self, result: TaskResult) -> TaskResult:
        """Give the log a moment to arrive; the verdict does not wait for it longer."""
        if self._carrying is not None and self._test_is_over():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._carrying), LOG_PATIENCE)
        return result.model_copy(update={"log_stored": self._carrier.stored})

    async def _listen(self, pod: str, container: str) -> None:
        """Read a sidecar's events until its log has come to its end; a log that broke off is read again."""
        while True:
            with contextlib.suppress(ClusterError):
                async for line in lines_of(self._kube.log(pod, container, follow=True), MAX_LINE):
                    if event := read_event(line):
                        self._sight.events[event.event] = event
                        self._woken.set()
                view = self._view
                if view.gone or (view.pod is not None and container_end(view.pod, container) is not None):
                    break
            if self._view.gone:
                break
            await asyncio.sleep(0.5)
        if container == CHECKOUT:
            self._sight.checkout_read = True
        else:
            self._sight.sidecar_read = True
        self._woken.set()

    async def _look_closer(self) -> None:
        """Ask what the pod does not tell: why there is none, or why its containers are not created."""
        sight, order = self._sight, self._order
        pod = sight.pod
        if pod is not None and has_log(pod, order.container):
            return
        try:
            if pod is not None:
                scheduled = bool(pod["spec"].get("nodeName"))
                sight.trouble = trouble_of_pod(await self._kube.events(pod["metadata"]["uid"])) if scheduled else None
                return
            if not self._pods.synced.is_set():
                return
            await self._look_at_job()
            sight.trouble = None if sight.job_gone else trouble_of_job(await self._kube.events(order.job_uid))
            self._woken.set()
        except ClusterError as error:
            log.debug("cannot look closer", job=order.job, error=str(error))

    async def _look_at_job(self) -> None:
        """Whether the Job is gone, or has ended without leaving a pod; the watch may be behind, so that is asked."""
        sight, order, attempt = self._sight, self._order, self._held.attempt
        try:
            job = await self._kube.job(order.job)
        except NotFound:
            sight.job_gone = True
            return
        sight.job_gone = job["metadata"]["uid"] != order.job_uid
        if has_ended(job):
            labels = {names.RUN: attempt.run_uid, names.INDEX: attempt.index, names.ATTEMPT: attempt.attempt}
            pods, _ = await self._kube.pods(",".join(f"{name}={value}" for name, value in labels.items()))
            sight.pod_missed = not pods
