"""Which repositories the Workflows' git triggers want watched, and which runs a look at one of them asks for.

What has been answered stands in the Workflow's ``status.triggers``: ``{"git": {watch: {"globs": hash, "branches":
{branch: commit}}}}``. A branch that is not there is new, unless nobody has looked before, or the triggers ask for other
branches than then: history starts no runs. Each run is named by its branch and commit besides, so that a crash between
its creation and that note starts none twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from dawg_orchestrator.planning.mergequeue import is_meant, queue_trigger, queued
from dawg_orchestrator.planning.triggers import AskedRun, declared
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.globs import matches_any
from dawg_orchestrator.resources.names import BUILTIN_POOL, short_hash, triggered_name
from dawg_orchestrator.resources.protocol import MAX_WATCH_GLOBS, Change, Untested, Watch
from dawg_orchestrator.resources.pulls import PullsSeen
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.workflow import GitTrigger, RepositoryTrigger, TriggerGate, WorkflowSpec

JsonObject = dict[str, Any]

OFTENEST = timedelta(seconds=5)  # that one repository is asked
_SHORT = 12  # digits of a commit that people read


@dataclass(frozen=True, slots=True)
class Look:
    """What the last look at a repository found; ``problem`` says why there was none."""

    branches: Mapping[str, str] | None = None  # None: nobody has looked yet
    changes: Mapping[tuple[str, str], Change] = field(default_factory=dict)  # by branch and commit
    left_out: int = 0
    untested: Sequence[Untested] = ()
    problem: tuple[Reason, str] | None = None
    pulls: PullsSeen | None = None  # where a watch is of pull requests


@dataclass(frozen=True, slots=True)
class PushFacts:
    """All that decides about the git triggers of one Workflow; ``looks`` are by watch."""

    workflow: str
    uid: str
    spec: WorkflowSpec
    written: Mapping[str, Any]  # status.triggers.git
    looks: Mapping[str, Look]
    answered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PushPlan:
    """The runs to create, and what to note once they are there."""

    runs: tuple[AskedRun, ...] = ()
    noted: JsonObject = field(default_factory=dict)


def git_triggers(spec: WorkflowSpec) -> dict[str, list[GitTrigger]]:
    """The Workflow's git triggers by the watch that serves them; a merge queue is looked at as branches are."""
    found: dict[str, list[GitTrigger]] = {}
    for trigger in spec.triggers:
        for git in (trigger.git, queue_trigger(trigger)):
            if git is not None:
                found.setdefault(watch_id(git), []).append(git)
    return found


def watch_id(trigger: GitTrigger) -> str:
    """What two triggers share that look at the same repository with the same credentials."""
    return names.watch_id(trigger.url, secret_of(trigger))


def secret_of(trigger: RepositoryTrigger) -> str | None:
    """The name of the Secret that the repository asks for."""
    return trigger.credentials_secret_ref.name if trigger.credentials_secret_ref is not None else None


def pool_of_watches(spec: WorkflowSpec) -> str:
    """The pool whose agents look at repositories for the Workflow."""
    return (spec.builtin_pools.forge if spec.builtin_pools is not None else None) or BUILTIN_POOL


def plan_watches(workflows: Iterable[tuple[WorkflowSpec, Mapping[str, Any]]]) -> dict[str, Watch]:
    """The watches that Workflows of one pool want, each with what its status says under ``triggers.git``."""
    wanted: dict[str, Watch] = {}
    for spec, written in workflows:
        for name, triggers in git_triggers(spec).items():
            globs = {glob for trigger in triggers for glob in trigger.branches}
            every = max(OFTENEST, min(trigger.poll for trigger in triggers))
            known = _noted_branches(written.get(name))
            former = wanted.get(name)
            if former is not None:
                globs, every = globs | set(former.branches), min(every, former.every)
                # What one of them has not answered must be told again.
                known = {branch: at for branch, at in known.items() if former.known.get(branch) == at}
            wanted[name] = Watch(
                id=name, url=triggers[0].url, git_secret=secret_of(triggers[0]), every=every, known=known,
                branches=sorted(globs)[:MAX_WATCH_GLOBS],
            )  # fmt: skip
    return wanted


def plan_pushes(facts: PushFacts) -> PushPlan:
    """What the Workflow's git triggers ask for now."""
    runs: list[AskedRun] = []
    noted: JsonObject = {}
    for name, triggers in git_triggers(facts.spec).items():
        look, known = facts.looks.get(name, Look()), facts.written.get(name)
        known = known if isinstance(known, dict) else None
        if look.branches is None:
            noted |= {name: known} if known is not None else {}
            continue
        globs = sorted({glob for trigger in triggers for glob in trigger.branches})
        asked = short_hash(*globs)
        now = {branch: at for branch, at in look.branches.items() if is_meant(globs, branch)}
        before = _noted_branches(known)
        replays = known is None or known.get("globs") != asked
        for branch, commit in now.items():
            is_news = before.get(branch) != commit and not (replays and branch not in before)
            change = look.changes.get((branch, commit))
            asking = [trigger for trigger in triggers if _is_asked_for(trigger, branch, change)] if is_news else []
            if asking:
                gating = next((trigger for trigger in asking if trigger.gate is not None), asking[0])
                runs.append(_run(facts, name, gating, branch, commit, change))
        noted[name] = {"globs": asked, "branches": dict(sorted(now.items()))}
    return PushPlan(tuple(run for run in runs if run.name not in facts.answered), noted)


def watching(spec: WorkflowSpec, looks: Mapping[str, Look]) -> tuple[str, Reason, str] | None:
    """Whether all repositories are looked at, as the Workflow's condition says it; None: it asks for none."""
    triggers = git_triggers(spec)
    if not triggers:
        return None
    for name, (first, *_) in triggers.items():
        look = looks.get(name, Look())
        if look.problem is not None:
            reason, message = look.problem
            return "False", reason, f"{first.url}: {message}" if first.url not in message else message
        if look.branches is None:
            pool = pool_of_watches(spec)
            return "Unknown", Reason.NO_AGENT_READY, f"no agent of pool {pool} has looked at {first.url} yet"
        if look.left_out:
            told = f"{first.url}: {look.left_out} matching branches are left out; name fewer in triggers.git.branches"
            return "False", Reason.TOO_MANY_BRANCHES, told
    return "True", Reason.WATCHING, f"{len(triggers)} repositories are looked at"


def _noted_branches(known: object) -> dict[str, str]:
    branches = known.get("branches") if isinstance(known, dict) else None
    return dict(branches) if isinstance(branches, dict) else {}


def _is_asked_for(trigger: GitTrigger, branch: str, change: Change | None) -> bool:
    """Whether the trigger wants a run; when nobody knows what has changed, it does."""
    if not is_meant(trigger.branches, branch):
        return False
    if not trigger.paths or change is None or change.files is None:
        return True
    return any(matches_any(trigger.paths, file) for file in change.files)


def _run(
    facts: PushFacts, watch: str, trigger: GitTrigger, branch: str, commit: str, change: Change | None
) -> AskedRun:
    what = f"{watch}/{branch}/{commit}"
    group = queued(branch)
    parameters = declared(
        facts.spec, branch=branch, commit=commit, before=change.before or "" if change is not None else "",
        repository=trigger.url, base=group.base if group else "", pullRequest=group.number if group else "",
    )  # fmt: skip
    by = f"mergeGroup {group.base} {commit[:_SHORT]}" if group else f"push {branch} {commit[:_SHORT]}"
    name = triggered_name(facts.workflow, facts.uid, what)
    gate = gate_of(facts.workflow, trigger.gate, repository_of(trigger.url))
    return AskedRun(name, what, by, parameters, {"git": source_of(trigger, commit)}, gate=gate)


def source_of(trigger: RepositoryTrigger, commit: str) -> JsonObject:
    """The git source of a run on the commit."""
    git: JsonObject = {"url": trigger.url, "revision": commit}
    if trigger.credentials_secret_ref is not None:
        git["credentialsSecretRef"] = trigger.credentials_secret_ref.wire()
    return git


def gate_of(workflow: str, gate: TriggerGate | None, repository: str) -> JsonObject | None:
    """The gate of a run that a trigger asks for."""
    if gate is None:
        return None
    context = gate.context or f"dawg/{workflow}"[:128]
    return {"repository": gate.repository or repository, "context": context, "onFlaky": gate.on_flaky}


def repository_of(url: str) -> str:
    """The repository's full name as its address has it: ``https://host/owner/name.git`` → ``owner/name``."""
    path = url.partition("://")[2].partition("/")[2] if "://" in url else url.partition(":")[2]
    return path.partition("?")[0].strip("/").removesuffix(".git")[:512]
