"""What happens in an AgentPool next: how many agents there should be.

    desired = clamp(ceil((queued + running) / slots), minimum, maximum), up at once, down after a quiet period

The minimum follows ``scaling.schedule``; ``burstAgents`` are added while anything runs. An agent is taken away in
three steps: it drains (no more work), it is idle and marked removable, its Deployment shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cronsim import CronSim, CronSimError

from dawg_orchestrator.planning.lease import SILENCE, Agent
from dawg_orchestrator.planning.plan import (
    CreateDeployment,
    DeleteDeployment,
    DrainAgent,
    MarkRemovable,
    PoolAction,
    PoolPlan,
    ScaleDeployment,
)
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, ScalingWindow
from dawg_orchestrator.resources.conditions import Condition, read_conditions, set_condition
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.names import deployment_name
from dawg_orchestrator.resources.reasons import Reason

_ASK_OWNERS_AGAIN = timedelta(seconds=10)  # whether a Secret may be used by now


@dataclass(frozen=True, slots=True)
class DeploymentFact:
    """A Deployment of agents as the cluster has it."""

    name: str
    template_hash: str
    replicas: int
    created: str  # RFC 3339, for a stable order
    version: int = 0  # resourceVersion


@dataclass(frozen=True, slots=True)
class AgentFact:
    """One agent: its pod, and its session if there is one."""

    pod: str
    pod_uid: str
    template_hash: str
    created: str
    ready: bool  # the pod's Ready condition
    failed: bool  # evicted or otherwise over: no capacity
    removable: bool  # its pod is marked with a low deletion cost
    session: Agent | None = None
    busy: int = 0

    @property
    def serving(self) -> bool:
        """Whether tasks can be given to it."""
        return self.session is not None and self.session.connected and not self.session.draining and not self.failed

    @property
    def slots(self) -> int:
        """How many of its slots work; those of a warm agent may all be broken."""
        return self.session.slots if self.serving and self.session is not None else 0


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """All that decides about one pool."""

    namespace: str
    name: str
    generation: int
    term: int
    spec: AgentPoolSpec
    template_hash: str
    deployments: tuple[DeploymentFact, ...]
    agents: tuple[AgentFact, ...]
    queued: int
    running: int
    oldest_queued: datetime | None
    written: Mapping[str, Any]
    quiet_since: datetime | None
    serving_since: datetime  # before it this leader heard nobody
    refused: tuple[Reason, str] | None = None  # why its agents may not be created or changed


def minimum_agents(spec: AgentPoolSpec, now: datetime) -> int:
    """minAgents, or more inside a window of scaling.schedule; never above maxAgents."""
    wanted = [spec.min_agents, *(window.min_agents for window in spec.scaling.schedule if is_open(window, now))]
    return min(max(wanted), spec.max_agents)


def is_open(window: ScalingWindow, now: datetime) -> bool:
    """Whether now is at most ``for`` after a time of the window's cron (UTC); a bad expression is never open."""
    try:
        first = next(CronSim(window.cron, (now - window.for_).astimezone(UTC)))
    except (CronSimError, StopIteration):
        return False
    return first <= now


def desired_agents(spec: AgentPoolSpec, queued: int, running: int, now: datetime) -> int:
    """How many agents the work asks for, within the pool's limits."""
    waiting = 0 if spec.paused else queued
    wanted = math.ceil((waiting + running) / spec.slots)
    burst = spec.scaling.burst_agents if running or waiting else 0
    return max(minimum_agents(spec, now), min(wanted + burst, spec.max_agents))


def plan_pool(facts: PoolFacts, now: datetime) -> PoolPlan:
    """The plan for one pool: Deployments, drains, status."""
    desired = desired_agents(facts.spec, facts.queued, facts.running, now)
    current = _current(facts)
    keeping = [agent for agent in facts.agents if not _leaving(agent)]
    have = _kept_replicas(facts, current)
    quiet_since = (facts.quiet_since or now) if desired < have else None
    target, look = have, None
    if desired > have:
        target = desired
    elif quiet_since is not None:
        due = quiet_since + facts.spec.scaling.scale_down_after
        target, look = (desired, None) if now >= due else (have, due)
    actions = [*_retire_old_templates(facts, now), *_remove_drained(facts)] if facts.refused is None else []
    scaled = None
    if facts.refused is not None:
        look = now + _ASK_OWNERS_AGAIN
    elif current is None:
        # First: if the cluster does not take the new agents, the old ones stay.
        name = deployment_name(facts.name, facts.template_hash)
        actions.insert(0, CreateDeployment(name, facts.template_hash, desired))
    elif target > have:
        actions += _grow(facts, current, keeping, target - have)
        scaled = (Reason.SCALED_UP, f"{have} → {target} agents: {facts.queued} tasks wait, {facts.running} run")
    elif target < have:
        going = _shrink(facts, keeping, have - target, now)
        actions += going
        if going:
            scaled = (Reason.SCALED_DOWN, f"{have} → {have - len(going)} agents: {facts.running} tasks run")
    looks = [at for at in (look, _next_window(facts.spec, now), _all_heard_at(facts, now)) if at is not None]
    status = _status(facts, desired, scaled is not None, now)
    return PoolPlan(status, tuple(dict.fromkeys(actions)), min(looks, default=None), quiet_since, scaled)


def waiting_reason(spec: AgentPoolSpec, agents: Sequence[AgentFact], running: int, queued: int) -> tuple[Reason, str]:
    """Why a task would wait in this pool now, with numbers and what would change it."""
    serving = [agent for agent in agents if agent.serving]
    if spec.paused:
        return Reason.POOL_PAUSED, "the pool is paused; set spec.paused: false"
    if not serving:
        starting = sum(not agent.failed for agent in agents)
        return Reason.NO_AGENT_READY, f"no agent is connected yet, {starting} are starting"
    slots = sum(agent.slots for agent in serving)
    if not slots:
        told = f"{len(serving)} agents are connected, but none of their slots works"
        return Reason.NO_AGENT_READY, f"{told}; see the runner containers of their pods"
    if running < slots:
        return Reason.STARTING, f"{slots - running} of {slots} slots are free; the task starts in a moment"
    busy = f"{running} of {slots} slots of {len(serving)} agents are taken and {queued} tasks wait"
    if len(serving) >= spec.max_agents:
        return Reason.POOL_AT_MAXIMUM, f"{busy}; raise maxAgents ({spec.max_agents}) or wait for a slot"
    return Reason.WAITING_FOR_AGENT, f"{busy}; more agents are on the way (at most {spec.max_agents})"


def _current(facts: PoolFacts) -> DeploymentFact | None:
    return next((d for d in facts.deployments if d.template_hash == facts.template_hash), None)


def _leaving(agent: AgentFact) -> bool:
    return agent.failed or agent.removable or (agent.session is not None and agent.session.draining)


def _alive(facts: PoolFacts, template_hash: str) -> list[AgentFact]:
    return [agent for agent in facts.agents if agent.template_hash == template_hash and not agent.failed]


def _condemned(facts: PoolFacts, deployment: DeploymentFact) -> int:
    """Pods that an earlier shrink has given up and that are not gone yet."""
    return max(0, len(_alive(facts, deployment.template_hash)) - deployment.replicas)


def _kept_replicas(facts: PoolFacts, current: DeploymentFact | None) -> int:
    """How many agents of the current template there are or will be, without those that leave."""
    if current is None:
        return 0
    leaving = sum(_leaving(agent) for agent in _alive(facts, current.template_hash))
    return current.replicas - max(0, leaving - _condemned(facts, current))


def _grow(facts: PoolFacts, current: DeploymentFact, keeping: Sequence[AgentFact], missing: int) -> list[PoolAction]:
    """First let draining agents work again, then ask for new ones."""
    back = [
        agent for agent in facts.agents
        if agent.template_hash == facts.template_hash and _may_come_back(agent)
    ][:missing]  # fmt: skip
    actions: list[PoolAction] = [DrainAgent(agent.pod, agent.pod_uid, undo=True) for agent in back]
    if missing > len(back):
        actions.append(ScaleDeployment(current.name, current.replicas + missing - len(back)))
    return actions


def _may_come_back(agent: AgentFact) -> bool:
    """It drains, hears us, and was not yet given up."""
    session = agent.session
    draining = session is not None and session.connected and session.draining
    return draining and not agent.failed and not agent.removable


def _shrink(facts: PoolFacts, keeping: Sequence[AgentFact], count: int, now: datetime) -> list[PoolAction]:
    """First agents that never answered, then idle ones, then those with least to finish; among equals the youngest."""
    mine = [agent for agent in keeping if agent.template_hash == facts.template_hash]
    youngest = sorted(mine, key=lambda agent: (agent.created, agent.pod), reverse=True)
    mute = [agent for agent in youngest if _is_mute(facts, agent, now)][:count]
    serving = sorted((agent for agent in youngest if agent.serving), key=lambda agent: agent.busy)
    return [
        *(MarkRemovable(agent.pod) for agent in mute),
        *(DrainAgent(agent.pod, agent.pod_uid) for agent in serving[: count - len(mute)]),
    ]


def _is_mute(facts: PoolFacts, agent: AgentFact, now: datetime) -> bool:
    """It never said a word to a leader that has listened for long enough: no image, no node, no way here."""
    heard_all = now - facts.serving_since >= SILENCE
    return heard_all and agent.session is None and not agent.ready and not agent.failed


def _all_heard_at(facts: PoolFacts, now: datetime) -> datetime | None:
    due = facts.serving_since + SILENCE
    return due if now < due else None


def _remove_drained(facts: PoolFacts) -> list[PoolAction]:
    """Mark drained agents; once their pods are unready, shrink their Deployment by as many.

    ReplicaSets delete unready pods first, and of these the marked ones, so it is these that go.
    """
    actions: list[PoolAction] = []
    for deployment in facts.deployments:
        alive = _alive(facts, deployment.template_hash)
        late = [agent for agent in alive if agent.removable and agent.serving]  # answered after it was given up
        actions += [DrainAgent(agent.pod, agent.pod_uid) for agent in late]
        drained = [agent for agent in alive if _is_drained(agent)]
        actions += [MarkRemovable(agent.pod) for agent in drained if not agent.removable]
        going = [agent for agent in alive if _is_drained(agent) or agent.session is None]
        gone = sum(agent.removable and not agent.ready for agent in going) - _condemned(facts, deployment)
        if gone > 0:
            actions.append(ScaleDeployment(deployment.name, max(0, deployment.replicas - gone)))
    return actions


def _is_drained(agent: AgentFact) -> bool:
    session = agent.session
    return session is not None and session.draining and session.drained and not agent.busy


def _retire_old_templates(facts: PoolFacts, now: datetime) -> list[PoolAction]:
    """Agents of former templates drain; a Deployment without replicas goes."""
    actions: list[PoolAction] = []
    for deployment in facts.deployments:
        if deployment.template_hash == facts.template_hash:
            continue
        if deployment.replicas == 0:
            actions.append(DeleteDeployment(deployment.name))
            continue
        same = _alive(facts, deployment.template_hash)
        actions += [DrainAgent(agent.pod, agent.pod_uid) for agent in same if agent.serving]
        actions += [MarkRemovable(a.pod) for a in same if _is_mute(facts, a, now) and not a.removable]
        if not same and now - facts.serving_since >= SILENCE:
            actions.append(ScaleDeployment(deployment.name, 0))  # its pods cannot even be created
    return actions


def _next_window(spec: AgentPoolSpec, now: datetime) -> datetime | None:
    """When a window of the schedule opens or closes next, as far as one can say cheaply: look every minute."""
    return now + timedelta(minutes=1) if spec.scaling.schedule else None


def _status(facts: PoolFacts, desired: int, scaled: bool, now: datetime) -> dict[str, Any]:
    alive = [agent for agent in facts.agents if not agent.failed]
    serving = [agent for agent in alive if agent.slots]
    slots = sum(agent.slots for agent in serving)
    status: dict[str, Any] = {
        "term": facts.term,
        "observedGeneration": facts.generation,
        "agents": len(alive),
        "readyAgents": len(serving),
        "desiredAgents": desired,
        "busySlots": facts.running,
        "utilization": min(100, round(100 * facts.running / slots)) if slots else 0,
        "queuedTasks": facts.queued,
        "conditions": [condition.wire() for condition in _conditions(facts, desired, len(serving), now)],
    }
    if facts.oldest_queued is not None:
        status["oldestQueuedSeconds"] = max(0, int((now - facts.oldest_queued).total_seconds()))
    last = facts.written.get("lastScaleTime")
    if scaled or last:
        status["lastScaleTime"] = format_time(now) if scaled else last
    return status


def _conditions(facts: PoolFacts, desired: int, serving: int, now: datetime) -> tuple[Condition, ...]:
    known = read_conditions(facts.written.get("conditions") or (), ("Ready", "ScalingLimited"))
    wanted = math.ceil((facts.queued + facts.running) / facts.spec.slots)
    failed = sum(agent.failed for agent in facts.agents)
    if facts.refused is not None:
        ready = (False, *facts.refused)
    elif facts.spec.paused:
        ready = (False, Reason.POOL_PAUSED, Reason.POOL_PAUSED.sentence)
    elif serving >= desired:
        ready = (True, Reason.AGENTS_READY, f"{serving} agents are connected")
    elif failed:
        ready = (
            serving > 0,
            Reason.AGENTS_FAILING,
            f"{serving} of {desired} agents are connected, {failed} pods failed",
        )
    else:
        ready = (serving > 0, Reason.AGENTS_STARTING, f"{serving} of {desired} agents are connected")
    known = set_condition(
        known, "Ready", "True" if ready[0] else "False", ready[1], ready[2], generation=facts.generation, now=now
    )
    limited = wanted > facts.spec.max_agents
    reason = Reason.AT_MAXIMUM if limited else Reason.WITHIN_LIMITS
    message = (
        f"the queue asks for {wanted} agents, maxAgents is {facts.spec.max_agents}" if limited else reason.sentence
    )
    return set_condition(
        known, "ScalingLimited", str(limited), reason, message, generation=facts.generation, now=now  # type: ignore[arg-type]
    )  # fmt: skip
