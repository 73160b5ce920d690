"""Why a run is as it is and what would change that. Pure: facts in, explanations out, the same ones each time."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.client.remedies import REMEDIES
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.wording import risk_of, why_of
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import TaskStatus
from dawg_orchestrator.resources.verdict import GREEN

_GREEN = {verdict.value for verdict in GREEN}
_NOT_SHOWN = frozenset({Reason.GATE_NOT_ALLOWED, Reason.FORGE_REFUSED, Reason.FORGE_UNREACHABLE, Reason.NO_AGENT_READY})
_NAMED_TASKS = 3  # of those that share a reason
_MAX_EVENTS = 5
_NAMED_BY_TASK = (Reason.WAITING_FOR_APPROVAL, Reason.WAITING_FOR_RUNS)  # without the task's name it is of no use
_SAID_OTHERWISE = ("BackoffLimitExceeded",)  # of a Job whose one attempt failed: the task says so, and why


@dataclass(frozen=True, slots=True)
class Explanation:
    """One answer: the product's word, what happened, what would change it."""

    reason: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """The controller as its Deployment shows it."""

    name: str
    namespace: str
    ready: bool
    watches: tuple[str, ...] | None  # None: its environment does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What could be read. None stands for what could not, and why not is in ``unread``."""

    run: Run
    pools: Mapping[str, Mapping[str, Any]] | None = None  # by name
    queue: Sequence[Mapping[str, Any]] | None = None  # the namespace's waiting tasks
    events: Sequence[Mapping[str, Any]] = ()  # warnings about the run, its Jobs and their pods
    releases: Sequence[Release] | None = None
    unread: Sequence[str] = ()


def explain(facts: Facts) -> list[Explanation]:
    """The answers, the most important first; never none."""
    run = facts.run
    if run.status.verdict is not None:
        found = list(_ended(run))
    elif not run.seen:
        found = list(_not_seen(facts))
    else:
        found = [*_whole_run(run), *_gate(run), *_pools(facts), *_tasks(run, _is_unfinished), *_ahead(facts)]
    found += _events(facts)
    found = list(_each_once(_with_known_pools(found, facts))) or [_under_way(run)]
    found += _risk(run)
    if run.status.verdict is None:
        found += _override(run)
    return found + [Explanation("NotRead", problem, "") for problem in facts.unread]


def _ended(run: Run) -> Iterator[Explanation]:
    reason, message = why_of(run)
    verdict = str(run.status.verdict)
    whole = _explained(run, reason or verdict, f"the run ended {verdict}" + (f": {message}" if message else ""))
    yield whole
    for one in _tasks(run, lambda task: task.verdict is not None and task.verdict not in _GREEN):
        if one.message not in whole.message:
            yield one
    yield from _override(run)
    merge = run.condition("MergeAllowed")
    if run.status.merge_blocked and merge is not None:
        yield Explanation(merge.reason, f"the merge is blocked: {merge.message or 'a task that decides did not pass'}")
    yield from _gate(run)


def _override(run: Run) -> Iterator[Explanation]:
    """What became of somebody's word that the merge is allowed whatever the verdict."""
    said = run.condition("Overridden")
    if said is None:
        return
    if said.status == "True":
        yield _explained(run, said.reason, f"the merge is allowed {said.message}")
    elif said.reason == Reason.OVERRIDE_IGNORED:
        yield _explained(run, said.reason, f"an override is ignored: {said.message}")
    elif run.status.verdict is None:
        yield Explanation(said.reason, f"an override {said.message}", f"for a verdict at once: dawg cancel {run.name}")


def _gate(run: Run) -> Iterator[Explanation]:
    """Why the forge does not show the verdict."""
    gate = run.status.gate
    if gate is not None and Reason.of(gate.reason) in _NOT_SHOWN:
        told = f"the forge does not show the verdict: {gate.message}" if gate.message else "the forge does not show it"
        yield _explained(run, str(gate.reason), told)


def _not_seen(facts: Facts) -> Iterator[Explanation]:
    namespace = facts.run.namespace
    releases = facts.releases
    if releases is None:
        message = f"no controller has taken the run; whether namespace {namespace!r} is watched could not be read"
        yield Explanation(Reason.NOT_SEEN, message, "ask who runs the release to list it in the chart's `namespaces`")
        return
    if not releases:
        message = "no controller has taken the run, and none was found"
        remedy = "install the chart, or name the release's namespace with --release-namespace"
        yield Explanation(Reason.NOT_SEEN, message, remedy)
    for release in releases:
        yield _unseen_by(release, namespace)


def _unseen_by(release: Release, namespace: str) -> Explanation:
    where = f"release {release.name!r} in namespace {release.namespace!r}"
    if release.watches is not None and namespace not in release.watches:
        message = f"{where} watches {', '.join(release.watches) or 'nothing'}, not {namespace!r}"
        names = ",".join((*release.watches, namespace))
        remedy = (
            f"helm upgrade {release.name} charts/dawg --namespace {release.namespace} --reuse-values "
            f"--set 'namespaces={{{names}}}'"
        )
        return Explanation(Reason.NOT_SEEN, message, f"{remedy}, or create the run in {' or '.join(release.watches)}")
    logs = f"kubectl -n {release.namespace} logs -l app.kubernetes.io/name=dawg,app.kubernetes.io/component=controller"
    if not release.ready:
        return Explanation(Reason.NOT_SEEN, f"the controller of {where} is not ready", f"see why: {logs}")
    watched = "should watch the namespace" if release.watches is None else f"watches {namespace!r}"
    return Explanation(
        Reason.NOT_SEEN, f"{where} {watched}, but has not taken the run yet", f"if it lasts, see: {logs}"
    )


def _whole_run(run: Run) -> Iterator[Explanation]:
    queue = run.status.queue
    told_by_task = queue is not None and any(task.reason == queue.reason for task in run.status.tasks)
    if queue is not None and queue.reason in _NAMED_BY_TASK and told_by_task:
        return
    if queue is not None and queue.reason:
        position = f" (position {queue.position})" if queue.position is not None else ""
        yield _explained(run, queue.reason, (queue.message or "the run waits") + position)


def _pools(facts: Facts) -> Iterator[Explanation]:
    """What is wrong with the pools that unfinished tasks go to."""
    if facts.pools is None:
        return
    run = facts.run
    for name in sorted(_wanted_pools(facts)):
        pool = facts.pools.get(name)
        if pool is None:
            yield _pool_missing(facts, name)
            continue
        spec = pool.get("spec") or {}
        if spec.get("paused"):
            yield _explained(run, Reason.POOL_PAUSED, f"pool {name!r} is paused", name)
        for condition in (pool.get("status") or {}).get("conditions") or []:
            failing = condition.get("type") == "Ready" and condition.get("status") != "True"
            limited = condition.get("type") == "ScalingLimited" and condition.get("status") == "True"
            if failing or limited:
                message = f"pool {name!r}: {condition.get('message') or condition.get('reason')}"
                reason = Reason.POOL_AT_MAXIMUM if limited else str(condition.get("reason"))
                yield _explained(run, reason, message, name)


def _wanted_pools(facts: Facts) -> set[str]:
    run = facts.run
    wanted = {pool for task in run.status.tasks if _is_unfinished(task) and (pool := run.pool_of(task))}
    wanted |= {str(entry["pool"]) for entry in facts.queue or () if entry.get("run") == run.name and entry.get("pool")}
    if not run.status.tasks and not wanted and run.lists_tasks:
        return {str(run.spec.get("pool") or "default")}
    return wanted


def _pool_missing(facts: Facts, name: str) -> Explanation:
    namespace = facts.run.namespace
    there = ", ".join(sorted(facts.pools or {}))
    remedy = f"create it, or a run with another pool: {there}" if there else f"create an AgentPool {name!r} there"
    return Explanation(Reason.POOL_NOT_FOUND, f"namespace {namespace!r} has no AgentPool {name!r}", remedy)


def _is_unfinished(task: TaskStatus) -> bool:
    return task.verdict is None


def _tasks(run: Run, chosen: Callable[[TaskStatus], bool]) -> Iterator[Explanation]:
    """The tasks' reasons, each with the tasks that have it."""
    by_reason: dict[str, list[TaskStatus]] = {}
    for task in run.status.tasks:
        if chosen(task) and task.reason and task.reason != Reason.RUNNING:
            by_reason.setdefault(task.reason, []).append(task)
    for reason, tasks in by_reason.items():
        named = ", ".join(run.key(task) for task in tasks[:_NAMED_TASKS])
        more = f" and {len(tasks) - _NAMED_TASKS} more" if len(tasks) > _NAMED_TASKS else ""
        message = tasks[0].message or _sentence(reason)
        yield _explained(run, reason, f"{named}{more}: {message}" if message else named + more, run.pool_of(tasks[0]))


def _ahead(facts: Facts) -> Iterator[Explanation]:
    own = [entry for entry in facts.queue or () if entry.get("run") == facts.run.name]
    positions = [entry["position"] for entry in own if isinstance(entry.get("position"), int)]
    if positions and min(positions) > 1:
        message = f"{min(positions) - 1} tasks are ahead in the queue"
        yield _explained(facts.run, Reason.WAITING_FOR_AGENT, message, str(own[0].get("pool", "")))


def _events(facts: Facts) -> Iterator[Explanation]:
    """The cluster's own warnings, newest first."""
    if facts.run.status.verdict in _GREEN:
        return
    telling = [event for event in facts.events if event.get("reason") not in _SAID_OTHERWISE]
    for event in telling[:_MAX_EVENTS]:
        involved = event.get("involvedObject") or event.get("regarding") or {}
        count = event.get("count") or 1
        times = f" ({count} times)" if count > 1 else ""
        text = event.get("message") or event.get("note") or ""
        yield Explanation(str(event.get("reason")), f"{involved.get('kind')} {involved.get('name')}: {text}{times}")


def _risk(run: Run) -> Iterator[Explanation]:
    """Why its tests are as urgent as they are."""
    risk = run.status.risk
    if risk is not None and risk.level is not None:
        yield Explanation("Risk", f"the risk of the commit is {risk_of(risk)}")


def _under_way(run: Run) -> Explanation:
    running = [task for task in run.status.tasks if _is_unfinished(task)]
    message = f"{len(running)} tasks are under way" if running else "the run is under way; nothing holds it up"
    return Explanation(Reason.RUNNING, message, f"follow it with: dawg wait {run.name}")


def _explained(run: Run, reason: str, message: str, pool: str | None = None) -> Explanation:
    # A pool's name in a spec is anybody's text, and the remedy is a command that people copy.
    pool = shlex.quote(pool or (str(run.spec.get("pool") or "default") if run.lists_tasks else "POOL"))
    known = {"name": run.name, "namespace": run.namespace, "pool": pool}
    return Explanation(str(reason), message, REMEDIES.get(reason, "").format(**known))


def _sentence(reason: str) -> str:
    return next((known.sentence for known in Reason if known.value == reason), "")


def _with_known_pools(explanations: Sequence[Explanation], facts: Facts) -> Iterator[Explanation]:
    """Of several words about a missing pool the one that names the pools there are."""
    names_pools = any(one.reason == Reason.POOL_NOT_FOUND and one.remedy for one in explanations)
    for one in explanations:
        if not names_pools or one.reason != Reason.POOL_NOT_FOUND or one.remedy:
            yield one


def _each_once(explanations: Iterable[Explanation]) -> Iterator[Explanation]:
    """Each explanation that says more than an earlier one of the same reason."""
    told: list[Explanation] = []
    for one in explanations:
        if not any(one.reason == other.reason and other.message in one.message for other in told):
            told.append(one)
            yield one
