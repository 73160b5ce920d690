"""Which commits of its branch a Schedule's last run has not tested, and whether its ``when`` lets the next one start.

    runs, status ──► the commit that was tested last ──► a watch asks what came since ──► when, objective Risk

What was tested last stands in the Schedule's ``status.tested``, so that it outlives the runs. When nobody can say how
many commits came since, runs start as if there were some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import conditions
from dawg_orchestrator.planning.gitwatch import Look
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import MAX_BRANCH_NAME, MAX_COUNTED, MAX_SINCE, Since, Untested, Watch
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.schedule import PastRun, ScheduleSpec
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN, GitSource
from dawg_orchestrator.resources.verdict import Verdict

WHEN = "spec.when"
EVERY = timedelta(seconds=30)  # that a repository is asked for Schedules alone
_SOURCE = "spec.runTemplate.spec.source.git"
_COUNT = "commitsSince"
_COUNTS = re.compile(rf"\b{_COUNT}\b")
_VARIABLES = f"it may use {_COUNT} (a number) and lastVerdict (a text, empty before the first run)"
_SAMPLES = [{_COUNT: count, "lastVerdict": verdict} for count in (0, 1) for verdict in ("", Verdict.PASSED.value)]
_NOTHING_TESTED = frozenset({Verdict.INFRA_ERROR.value, Verdict.CANCELLED.value, Verdict.SKIPPED.value})
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_SHORT = 12  # digits of a commit that people read


@dataclass(frozen=True, slots=True)
class Ask:
    """What a Schedule wants to know of a repository."""

    watch: str
    url: str
    secret: str | None
    since: Since


@dataclass(frozen=True, slots=True)
class BranchLook:
    """What is known of the branch: what an agent has told, or why none can; neither, while none has answered."""

    told: Untested | None = None
    problem: tuple[Reason, str] | None = None


def goes_by_risk(spec: ScheduleSpec) -> bool:
    """Whether commits decide when within its window it starts."""
    return spec.smart is not None and spec.smart.objective == "Risk"


def wants_commits(spec: ScheduleSpec) -> bool:
    """Whether its starts depend on commits."""
    return goes_by_risk(spec) or (spec.when is not None and _COUNTS.search(spec.when) is not None)


def why_not_followed(spec: ScheduleSpec) -> tuple[Reason, str] | None:
    """Why nobody can count the commits that it waits for."""
    git = _git(spec)
    if git is None:
        told = f"{_SOURCE}: commits are counted there, and it is not set; until it is, every due time starts a run"
        return Reason.INVALID_SPEC, told
    if re.match(FULL_COMMIT_PATTERN, git.revision):
        told = f"{_SOURCE}.revision: no commit follows a commit; name a branch; until then every due time starts a run"
        return Reason.INVALID_SPEC, told
    return None


def ask_of(spec: ScheduleSpec, tested: str | None) -> Ask | None:
    """What has to be found out for it; None: nothing, or nobody can."""
    git = _git(spec)
    if git is None or not wants_commits(spec) or why_not_followed(spec) is not None:
        return None
    secret = git.credentials_secret_ref.name if git.credentials_secret_ref is not None else None
    return Ask(names.watch_id(git.url, secret), git.url, secret, Since(revision=revision_of(spec), commit=tested))


def add_watches(wanted: Mapping[str, dict[str, Watch]], asks: Iterable[tuple[str, Ask]]) -> dict[str, dict[str, Watch]]:
    """The watches by pool and id, with those that Schedules ask of a pool.

    Who looks at the repository for a Workflow already is asked as well, whatever its pool.
    """
    found = {pool: dict(watches) for pool, watches in wanted.items()}
    for pool, ask in asks:
        at = next((one for one, watches in found.items() if ask.watch in watches), pool)
        watches = found.setdefault(at, {})
        known = watches.get(ask.watch) or Watch(
            id=ask.watch, url=ask.url, git_secret=ask.secret, branches=[], every=EVERY
        )  # fmt: skip
        questions = {(one.revision, one.commit): one for one in (*known.since, ask.since)}
        since = [questions[key] for key in sorted(questions, key=lambda key: (key[0], key[1] or ""))][:MAX_SINCE]
        watches[ask.watch] = known.model_copy(update={"since": since, "every": min(known.every, EVERY)})
    return found


def answer_of(ask: Ask, look: Look | None) -> BranchLook:
    """What a look at the repository says about it."""
    if look is None:
        return BranchLook()
    if look.problem is not None:
        reason, message = look.problem
        url = without_password(ask.url)
        return BranchLook(problem=(reason, message if url in message else f"{url}: {message}"))
    revision, commit = ask.since.revision, ask.since.commit
    told = next((one for one in look.untested if (one.revision, one.since) == (revision, commit)), None)
    if told is None:  # asked anew since then: if the branch has not moved beyond what was tested, that is known
        told = next((one for one in look.untested if (one.revision, one.head) == (revision, commit)), None)
        told = (
            told.model_copy(update={"since": commit, "commits": 0, "files": [], "rewritten": False}) if told else None
        )
    if told is not None and told.head is None:
        message = f"{without_password(ask.url)} has no branch {revision}; name one in {_SOURCE}.revision"
        return BranchLook(problem=(Reason.REVISION_NOT_FOUND, message))
    return BranchLook(told)


def last_tested(runs: Sequence[PastRun], written: Mapping[str, Any]) -> PastRun | None:
    """The last run that says something about its commit, as far as runs and status know."""
    return _last(
        (run for run in runs if run.commit and run.verdict not in _NOTHING_TESTED), runs, written.get("tested")
    )


def last_ended(runs: Sequence[PastRun], written: Mapping[str, Any]) -> PastRun | None:
    """The last run with a verdict, as far as runs and status know."""
    return _last((run for run in runs if run.verdict), runs, written.get("lastEnded"))


def _last(fitting: Iterable[PastRun], runs: Sequence[PastRun], noted: Any) -> PastRun | None:
    there = {run.name for run in runs}
    kept = PastRun.model_validate(noted) if noted else None
    remembered = [kept] if kept is not None and kept.name not in there else []
    return max((*fitting, *remembered), key=lambda run: (run.created, run.name), default=None)


def count(look: BranchLook) -> int | None:
    """How many commits were not tested; None: nobody can say. Where nothing was tested yet, as many as can be."""
    if look.told is None:
        return None
    return look.told.commits if look.told.since is not None else MAX_COUNTED


def in_words(look: BranchLook, revision: str) -> str:
    """What has not been tested, for people."""
    told = look.told
    if told is None:
        return look.problem[1] if look.problem is not None else "no agent has counted the commits"
    if told.since is None:
        return f"no run has tested {revision} yet"
    since = f"since {told.since[:_SHORT]}"
    if told.rewritten:
        return f"{revision} was rewritten {since}, so it counts as changed by {_many(told.commits)}"
    return f"{_many(told.commits)} {since}" if told.commits else f"no commit {since}"


def _many(commits: int) -> str:
    if commits == 1:
        return "1 commit"
    return f"{commits} or more commits" if commits >= MAX_COUNTED else f"{commits} commits"


def check_when(expression: str) -> None:
    """InvalidSpec when the condition can never be worked out."""
    conditions.compile_condition(WHEN, expression)
    if conditions.steps(expression, 0) > conditions.MOST_STEPS:
        raise InvalidSpec(WHEN, "it may take too long; nest no macros")
    for sample in _SAMPLES:
        _is_true(expression, sample)


def _is_true(expression: str, variables: Mapping[str, Any]) -> bool:
    try:
        value = conditions.evaluated(WHEN, expression, variables)
    except InvalidSpec as error:
        raise InvalidSpec(WHEN, f"{error.message}; {_VARIABLES}") from error
    if not isinstance(value, bool):
        raise InvalidSpec(WHEN, f"{expression!r} gives {value!r}; it must be true or false; {_VARIABLES}")
    return value


def why_not_now(spec: ScheduleSpec, look: BranchLook, ended: PastRun | None) -> tuple[Reason, str] | None:
    """Why ``when`` starts no run; None: it does, or nobody can say."""
    if spec.when is None:
        return None
    commits, verdict = count(look), ended.verdict if ended is not None and ended.verdict else ""
    counts = _COUNTS.search(spec.when) is not None
    if counts and commits is None:
        return None
    try:
        if _is_true(spec.when, {_COUNT: commits or 0, "lastVerdict": verdict}):
            return None
    except InvalidSpec:  # of these values only
        return None
    if counts and commits == 0:
        return Reason.NO_NEW_COMMITS, f"{in_words(look, revision_of(spec))}, and {WHEN} is {spec.when!r}"
    known = [in_words(look, revision_of(spec))] if counts else []
    told = "; ".join([*known, f"the last verdict is {verdict!r}"])
    return Reason.CONDITION_FALSE, f"{WHEN} {spec.when!r} is false: {told}"


def why_now(spec: ScheduleSpec, look: BranchLook, chosen: str | None) -> str | None:
    """What waits to be tested by a run that starts, where that decides; ``chosen``: why its start was chosen."""
    if not wants_commits(spec):
        return None
    return chosen if goes_by_risk(spec) and chosen else in_words(look, revision_of(spec))


def remembered(
    spec: ScheduleSpec, runs: Sequence[PastRun], written: Mapping[str, Any], look: BranchLook
) -> dict[str, Any]:
    """Status: what was tested last, and what came since, for when runs, agents or this leader are gone."""
    if spec.when is None and not wants_commits(spec):
        return {}
    tested, ended = last_tested(runs, written), last_ended(runs, written)
    branch = written.get("branch") if wants_commits(spec) else None
    if look.told is not None and look.told.head is not None:
        branch = {"head": look.told.head, "commitsSince": count(look)}
    return {
        "tested": tested.wire() if tested is not None else None,
        "lastEnded": ended.wire() if ended is not None else None,
        "branch": branch,
    }


def watching(spec: ScheduleSpec, look: BranchLook, pool: str) -> tuple[str, Reason, str] | None:
    """Whether its branch is looked at, as its condition says it; None: it does not ask for that."""
    if not wants_commits(spec):
        return None
    unfit = why_not_followed(spec) or look.problem
    if unfit is not None:
        return "False", *unfit
    git = _git(spec)
    if look.told is None or look.told.head is None:
        url = without_password(git.url) if git is not None else ""
        return "Unknown", Reason.NO_AGENT_READY, f"no agent of pool {pool} has looked at {url} yet"
    revision = revision_of(spec)
    return "True", Reason.WATCHING, f"{revision} is at {look.told.head[:_SHORT]}: {in_words(look, revision)}"


def revision_of(spec: ScheduleSpec) -> str:
    """The branch that it tests."""
    git = _git(spec)
    return git.revision.removeprefix("refs/heads/")[:MAX_BRANCH_NAME] if git is not None else ""


def without_password(url: str) -> str:
    """The address without what somebody may have written before its host."""
    return _PASSWORD.sub("", url) if url.startswith("http") else url


def _git(spec: ScheduleSpec) -> GitSource | None:
    source = spec.run_template.spec.source
    return source.git if source is not None else None
