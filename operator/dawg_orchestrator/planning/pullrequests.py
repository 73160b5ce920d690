"""Which runs the pull requests of a repository ask for.

What has been answered stands in the Workflow's ``status.triggers``: ``{"pullRequests": {watch: {"pulls": {number:
"head@hash of the base"}, "held": {number: why it starts nothing}}}}``. A pull request that stands elsewhere than there
is new, unless nobody has looked before: history starts no runs. What waits, for an approval or for its merge commit, is
not written there, and so is new until it starts. Closed ones stay a while, so that one that is missing for a moment, or
reopened as it was, is nothing new. Each run is named by pull request, head and base besides, so that a crash between
its creation and that note starts none twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dawg_orchestrator.planning.gitwatch import (
    OFTENEST,
    Look,
    gate_of,
    pool_of_watches,
    repository_of,
    secret_of,
    source_of,
)
from dawg_orchestrator.planning.triggers import AskedRun, declared
from dawg_orchestrator.resources.globs import matches_any
from dawg_orchestrator.resources.names import FORK, short_hash, triggered_name
from dawg_orchestrator.resources.protocol import Watch
from dawg_orchestrator.resources.pulls import MAX_PULLS, PullFact, PullsAsked, PullsSeen
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.workflow import PullRequestTrigger, WorkflowSpec

JsonObject = dict[str, Any]
Condition = tuple[str, Reason, str]

MOST_NOTED = 2 * MAX_PULLS  # pull requests of a repository, the closed ones included
_MOST_HELD = 20  # of which status says why they start nothing
_TOLD = 3  # of which the condition does
_SHORT = 12  # digits of a commit that people read
_APPROVED = re.compile(r"Approved ([0-9a-f]{40}(?:[0-9a-f]{24})?) by \S.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PullFacts:
    """All that decides about the pullRequest triggers of one Workflow; ``approvals`` name a commit by number."""

    workflow: str
    uid: str
    spec: WorkflowSpec
    written: Mapping[str, Any]  # status.triggers.pullRequests
    looks: Mapping[str, Look]
    approvals: Mapping[int, str] = field(default_factory=dict)
    answered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PullPlan:
    """The runs to create, and what to note once they are there."""

    runs: tuple[AskedRun, ...] = ()
    noted: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """The trigger wants the commit tested."""

    trigger: PullRequestTrigger
    commit: str


@dataclass(frozen=True, slots=True)
class Held:
    """The trigger wants no run: for good, or until something changes beside the pull request."""

    why: str
    waits: bool = True


def read_fork_approvals(annotations: Mapping[str, str]) -> dict[int, str]:
    """The commits of forks that somebody lets run, by the number of the pull request."""
    found = {}
    for key, text in annotations.items():
        number = key.removeprefix(FORK)
        said = _APPROVED.fullmatch(text)
        if key.startswith(FORK) and re.fullmatch(r"[1-9][0-9]{0,15}", number) and said is not None:
            found[int(number)] = said[1]
    return found


def pull_triggers(spec: WorkflowSpec) -> dict[str, list[PullRequestTrigger]]:
    """The Workflow's pullRequest triggers by the watch that serves them."""
    found: dict[str, list[PullRequestTrigger]] = {}
    for trigger in spec.triggers:
        if trigger.pull_request is not None:
            found.setdefault(_watch_id(trigger.pull_request), []).append(trigger.pull_request)
    return found


def plan_pull_watches(workflows: Iterable[tuple[WorkflowSpec, Mapping[str, Any]]]) -> dict[str, Watch]:
    """The watches that Workflows of one pool want, each with what its status says under ``triggers.pullRequests``."""
    wanted: dict[str, Watch] = {}
    for spec, written in workflows:
        for name, triggers in pull_triggers(spec).items():
            noted = written.get(name)
            mine = Watch(
                id=name, url=triggers[0].url, git_secret=secret_of(triggers[0]), branches=[],
                every=max(OFTENEST, min(trigger.poll for trigger in triggers)), known=_noted_pulls(noted),
                pulls=PullsAsked(
                    repository=_repository(triggers[0]), paths=any(trigger.paths for trigger in triggers),
                    merges=any(trigger.test == "Merge" for trigger in triggers), first=not isinstance(noted, dict),
                ),
            )  # fmt: skip
            wanted[name] = _both(wanted[name], mine) if name in wanted else mine
    return wanted


def plan_pulls(facts: PullFacts) -> PullPlan:
    """What the Workflow's pullRequest triggers ask for now."""
    runs: list[AskedRun] = []
    noted: JsonObject = {}
    for name, triggers in pull_triggers(facts.spec).items():
        seen, known = facts.looks.get(name, Look()).pulls, facts.written.get(name)
        known = known if isinstance(known, dict) else None
        if seen is None:
            noted |= {name: known} if known is not None else {}
            continue
        before, held = _noted_pulls(known), dict[str, str]()
        after = dict(before)
        for pull in sorted(seen.pulls, key=lambda one: -one.number):
            number = str(pull.number)
            answers = [_answer(trigger, pull, before, seen, facts, is_first=known is None) for trigger in triggers]
            starts = [one for one in answers if isinstance(one, Start)]
            holds = [one for one in answers if isinstance(one, Held)]
            if starts:
                gating = next((one for one in starts if one.trigger.gate is not None), starts[0])
                runs.append(_run(facts, name, gating, pull))
            elif holds and len(held) < _MOST_HELD:
                held[number] = holds[0].why
            if starts or not any(one.waits for one in holds):
                after[number] = pull.at
        noted[name] = {"pulls": _newest(after, seen)} | ({"held": held} if held else {})
    return PullPlan(tuple(run for run in runs if run.name not in facts.answered), noted)


def watching_pulls(spec: WorkflowSpec, looks: Mapping[str, Look], noted: Mapping[str, Any]) -> Condition | None:
    """Whether all pull requests are looked at, as the Workflow's condition says it; None: it asks for none."""
    told: list[str] = []
    for name, triggers in pull_triggers(spec).items():
        look, place = looks.get(name, Look()), f"pull requests of {_repository(triggers[0])}"
        if look.problem is not None:
            return "False", look.problem[0], f"{place}: {look.problem[1]}"
        if look.pulls is None:
            pool = pool_of_watches(spec)
            return "Unknown", Reason.NO_AGENT_READY, f"no agent of pool {pool} has looked at {place} yet"
        if not look.pulls.merges and any(trigger.test == "Merge" for trigger in triggers):
            return "False", Reason.NO_MERGE_COMMIT, f"{place}: the forge makes no merge commits; set test: Head"
        if look.pulls.more:
            told.append(f"{place}: the {MAX_PULLS} that changed last are followed")
        held = (noted.get(name) or {}).get("held") or {}
        told += [f"#{number} {why}" for number, why in list(held.items())[:_TOLD]]
        told += [f"{len(held) - _TOLD} more start nothing"] if len(held) > _TOLD else []
    if not pull_triggers(spec):
        return None
    return "True", Reason.WATCHING, "; ".join(["pull requests are looked at", *told])


def watching_all(*conditions: Condition | None) -> Condition | None:
    """One answer for all that a Workflow has looked at: the worst."""
    there = [one for one in conditions if one is not None]
    worst = next((one for status in ("False", "Unknown") for one in there if one[0] == status), None)
    if worst is not None or not there:
        return worst
    return "True", Reason.WATCHING, "; ".join(message for _, _, message in there)


def with_details(before: PullsSeen | None, now: PullsSeen) -> PullsSeen:
    """What is seen now, with what was known in detail of those that stand where they stood."""
    known = {(one.number, one.at): one for one in (before.pulls if before is not None else ()) if one.detailed}
    pulls = [
        one if one.detailed or (old := known.get((one.number, one.at))) is None
        else one.model_copy(update={"detailed": True, "files": old.files, "merge": old.merge})
        for one in now.pulls
    ]  # fmt: skip
    return now.model_copy(update={"pulls": pulls})


def _answer(
    trigger: PullRequestTrigger, pull: PullFact, before: Mapping[str, str], seen: PullsSeen, facts: PullFacts,
    *, is_first: bool,
) -> Start | Held | None:  # fmt: skip
    """None: the trigger does not mean the pull request as it stands, or has answered it."""
    number = str(pull.number)
    if not matches_any(trigger.branches, pull.base):
        return None
    if before.get(number) == pull.at:  # it was answered, by a run or by this
        return _NEVER if pull.from_fork and trigger.forks == "Never" else None
    if ("updated" if number in before else "opened") not in trigger.events:
        return None
    if pull.draft and not trigger.drafts:
        return Held("is a draft")
    if _misses(trigger, pull):
        return None
    approved = False
    if pull.from_fork and trigger.forks == "Never":
        return _NEVER
    if pull.from_fork and trigger.forks == "Approved":
        if facts.approvals.get(pull.number) != pull.head:
            return Held(f"comes from a fork: commit {pull.head} waits for an approval")
        approved = True
    if is_first and not approved:
        return None
    return _ready(trigger, pull, seen)


_NEVER = Held("comes from a fork, and forks is Never", waits=False)


def _misses(trigger: PullRequestTrigger, pull: PullFact) -> bool:
    """Whether it is known to change nothing that the trigger is for."""
    if not trigger.paths or pull.files is None:
        return False
    return not any(matches_any(trigger.paths, file) for file in pull.files)


def _ready(trigger: PullRequestTrigger, pull: PullFact, seen: PullsSeen) -> Start | Held:
    """What is to be tested, once all is known that it takes."""
    if trigger.test == "Merge" and trigger.gate is not None:  # the schema was got around
        return Held("is not tested: a gate does not go with test: Merge")
    if trigger.test == "Merge" and not seen.merges:
        return Held("has no merge commit on this forge; set test: Head")
    if (trigger.paths or trigger.test == "Merge") and not pull.detailed:
        return Held("is being looked at")
    if trigger.test == "Head":
        return Start(trigger, pull.head)
    if pull.merge is None:
        return Held("has no merge commit of its head; conflicts have to be resolved")
    return Start(trigger, pull.merge)


def _run(facts: PullFacts, watch: str, start: Start, pull: PullFact) -> AskedRun:
    trigger = start.trigger
    what = f"{watch}/{pull.number}/{pull.at}"
    source: JsonObject = {"git": source_of(trigger, start.commit)}
    if pull.from_fork and trigger.forks == "Sandbox":
        source["untrusted"] = True
    parameters = declared(
        facts.spec, pullRequest=str(pull.number), branch=pull.branch, base=pull.base, author=pull.author,
        commit=start.commit, head=pull.head, repository=trigger.url, fork="true" if pull.from_fork else "false",
    )  # fmt: skip
    return AskedRun(
        triggered_name(facts.workflow, facts.uid, what), what, f"pullRequest #{pull.number} {pull.head[:_SHORT]}",
        parameters, source, gate=gate_of(facts.workflow, trigger.gate, _repository(trigger)),
    )  # fmt: skip


def _newest(pulls: Mapping[str, str], seen: PullsSeen) -> dict[str, str]:
    """All that are open, and as many others as are remembered."""
    there = {str(pull.number) for pull in seen.pulls}
    kept = sorted(pulls, key=lambda number: (number in there, int(number)), reverse=True)[:MOST_NOTED]
    return {number: pulls[number] for number in sorted(kept, key=int)}


def _noted_pulls(known: object) -> dict[str, str]:
    pulls = known.get("pulls") if isinstance(known, dict) else None
    if not isinstance(pulls, dict):
        return {}
    return {number: str(at) for number, at in pulls.items() if re.fullmatch(r"[1-9][0-9]{0,15}", str(number))}


def _both(one: Watch, other: Watch) -> Watch:
    """A watch that serves both; what one of them has not answered is told in detail again."""
    assert one.pulls is not None and other.pulls is not None  # noqa: S101, PT018
    known = {number: at for number, at in one.known.items() if other.known.get(number) == at}
    if one.pulls.first or other.pulls.first:  # who looks for the first time asks for nothing
        known = other.known if one.pulls.first else one.known
    asked = one.pulls.model_copy(
        update={
            "paths": one.pulls.paths or other.pulls.paths, "merges": one.pulls.merges or other.pulls.merges,
            "first": one.pulls.first and other.pulls.first,
        }
    )  # fmt: skip
    return one.model_copy(update={"known": known, "every": min(one.every, other.every), "pulls": asked})


def _watch_id(trigger: PullRequestTrigger) -> str:
    """What two triggers share that look at the same pull requests with the same credentials."""
    return short_hash("pulls", trigger.url, secret_of(trigger) or "", _repository(trigger))


def _repository(trigger: PullRequestTrigger) -> str:
    """The repository's full name on the forge."""
    return trigger.repository or repository_of(trigger.url)
