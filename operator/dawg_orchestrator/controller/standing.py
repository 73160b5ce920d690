"""What agents of Builtin pools look after beside their leases: repositories. Who does, and what they saw. No I/O.

An agent is told all of its duties at once, whenever its session begins or they change. So a message that is lost, or an
agent that is, loses nothing: the next one is told what Workflows have answered, and tells all that is new since then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol

from dawg_orchestrator.controller.detected import Detected
from dawg_orchestrator.controller.library import Library, Workflow
from dawg_orchestrator.planning.gitwatch import Look, git_triggers, plan_watches, pool_of_watches
from dawg_orchestrator.planning.lease import Agent
from dawg_orchestrator.planning.pullrequests import plan_pull_watches, pull_triggers, with_details
from dawg_orchestrator.resources.protocol import Duties, Sighting, Watch
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.workflow import WorkflowSpec

WatchKey = tuple[str, str]  # namespace, the watch's id


@dataclass(frozen=True, slots=True)
class Telling:
    """What an agent is to be told."""

    agent: str  # its uid
    duties: Duties


class AlsoAsking(Protocol):
    """Who else than Workflows wants repositories looked at."""

    def add_to(self, namespace: str, wanted: Mapping[str, dict[str, Watch]]) -> dict[str, dict[str, Watch]]:
        """The watches by pool and id, with its own."""

    def seen(self, namespace: str, watch: str, look: Look) -> None:
        """Something else was found in a repository."""


class Standing:
    """All watches of all namespaces; ``wake`` is called with a namespace whose duties may have changed."""

    def __init__(
        self, library: Library, agents: Mapping[str, Agent], wake: Callable[[str], None], detected: Detected
    ) -> None:
        self._library, self._agents, self._wake, self._detected = library, agents, wake, detected
        self._also: list[AlsoAsking] = []
        self._urls: dict[WatchKey, str] = {}
        self._looks: dict[WatchKey, Look] = {}
        self._holders: dict[WatchKey, str] = {}  # uid of the agent that was told to look
        self._told: dict[str, Duties] = {}  # by agent: what it was told in this session, without what is known

    def serve_also(self, others: AlsoAsking) -> None:
        """Have what others ask looked at, too."""
        self._also.append(others)

    def look_at(self, namespace: str, watch: str) -> Look | None:
        """What was found in a repository last; None: nobody has looked."""
        return self._looks.get((namespace, watch))

    def looks_of(self, workflow: Workflow) -> Mapping[str, Look]:
        """What is known of the repositories of a Workflow's triggers."""
        if workflow.spec is None:
            return {}
        names = _watches_of(workflow.spec)
        return {
            name: self._looks[workflow.namespace, name] for name in names if (workflow.namespace, name) in self._looks
        }

    def wanted(self, namespace: str) -> dict[str, dict[str, Watch]]:
        """The watches that the namespace's Workflows and others want, by pool and id."""
        by_pool: dict[str, list[Workflow]] = {}
        for (where, _), workflow in self._library.workflows.items():
            if where == namespace and workflow.spec is not None:
                by_pool.setdefault(pool_of_watches(workflow.spec), []).append(workflow)
        wanted = {
            pool: plan_watches(_noted(workflows, "git")) | plan_pull_watches(_noted(workflows, "pullRequests"))
            for pool, workflows in by_pool.items()
        }
        for others in self._also:
            wanted = others.add_to(namespace, wanted)
        return wanted

    def refuse(self, namespace: str, watch: str, why: tuple[Reason, str]) -> None:
        """A watch may not be carried out."""
        self._see((namespace, watch), replace(self._looks.get((namespace, watch), Look()), problem=why))

    def plan(self, namespace: str, wanted: Mapping[str, Mapping[str, Watch]]) -> Iterator[Telling]:
        """Who is to be told what: each watch has one agent, which stays the same while it is there."""
        mine = {agent.uid: agent for agent in self._agents.values() if agent.namespace == namespace}
        given: dict[str, list[Watch]] = {uid: [] for uid in mine if uid in self._told}
        kept = {watch for watches in wanted.values() for watch in watches}
        for pool, watches in wanted.items():
            able = [agent.uid for agent in mine.values() if agent.pool == pool and _can(agent)]
            for name, watch in watches.items():
                if able:
                    holder, self._urls[namespace, name] = _nearest(name, able), watch.url
                    self._holders[namespace, name] = holder
                    given.setdefault(holder, []).append(watch)
        for key in [key for key in self._holders if key[0] == namespace and key[1] not in kept]:
            del self._holders[key]
            self._urls.pop(key, None)
        # What may not be carried out keeps the reason why.
        asked = {watch for watches in self.wanted(namespace).values() for watch in watches}
        for key in [key for key in self._looks if key[0] == namespace and key[1] not in asked]:
            del self._looks[key]
        for uid, load in given.items():
            duties = Duties(watches=load)
            if _without_known(duties) != self._told.get(uid):
                yield Telling(uid, duties)

    def agent_for(self, namespace: str, pool: str, name: str) -> str | None:
        """The agent (uid) of a pool that looks after something of that name; None: none can now."""
        able = [
            one.uid for one in self._agents.values() if (one.namespace, one.pool) == (namespace, pool) and _can(one)
        ]
        return _nearest(name, able) if able else None

    def told(self, telling: Telling) -> None:
        """The agent was told."""
        self._told[telling.agent] = _without_known(telling.duties)

    def changed(self, namespace: str) -> None:
        """Somebody there wants something else watched, or can watch no more."""
        self._wake(namespace)

    def session_changed(self, agent: Agent) -> None:
        """It has begun a session and knows of nothing, or has ended one."""
        self._told.pop(agent.uid, None)
        self._wake(agent.namespace)

    def hear(self, agent: Agent, sighting: Sighting) -> None:
        """What an agent saw; of one that was not asked, nothing."""
        key = (agent.namespace, sighting.watch)
        if self._holders.get(key) != agent.uid:
            return
        known = self._looks.get(key, Look())
        if sighting.reason is not None:
            self._see(key, replace(known, problem=(sighting.reason, sighting.message)))
            return
        if sighting.pulls is not None:
            self._see(key, Look(pulls=with_details(known.pulls, sighting.pulls)))
            return
        told = {(change.branch, change.commit): change for change in sighting.changes}
        for at, change in told.items():
            if at not in known.changes:
                self._detected.tell_change(agent.namespace, self._urls[key], change)
        # What some Workflow may still ask about stays, as long as the branch is at that commit.
        changes = {
            at: change for at, change in (dict(known.changes) | told).items() if sighting.branches.get(at[0]) == at[1]
        }
        self._see(key, Look(sighting.branches, changes, sighting.left_out, sighting.untested))

    def _see(self, key: WatchKey, look: Look) -> None:
        if self._looks.get(key) == look:
            return
        self._looks[key] = look
        namespace, name = key
        self._library.wake_where(
            lambda one: one.namespace == namespace and one.spec is not None and name in _watches_of(one.spec)
        )
        for others in self._also:
            others.seen(namespace, name, look)


def _can(agent: Agent) -> bool:
    return agent.connected and not agent.draining


def _nearest(name: str, agents: Iterable[str]) -> str:
    """The same agent for the same watch, whoever else comes or goes (rendezvous hashing)."""
    return max(agents, key=lambda uid: sha256(f"{uid}\x00{name}".encode()).digest())


def _without_known(duties: Duties) -> Duties:
    return Duties(watches=[_without_what_is_known(watch) for watch in duties.watches])


def _without_what_is_known(watch: Watch) -> Watch:
    pulls = watch.pulls.model_copy(update={"first": False}) if watch.pulls is not None else None
    return watch.model_copy(update={"known": {}, "pulls": pulls})


def _watches_of(spec: WorkflowSpec) -> set[str]:
    return {*git_triggers(spec), *pull_triggers(spec)}


def _noted(workflows: Iterable[Workflow], kind: str) -> Iterator[tuple[WorkflowSpec, Mapping[str, Any]]]:
    """What their statuses say of the triggers of a kind."""
    for one in workflows:
        if one.spec is not None:
            yield one.spec, (one.status.get("triggers") or {}).get(kind) or {}
