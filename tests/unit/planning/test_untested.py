"""Schedules that go by commits: what they ask of repositories, what they remember, and whether they start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NOON, Reason, Verdict, a_task_spec
from dawg_orchestrator.learning.timing import Span
from dawg_orchestrator.learning.waiting import choose_start_by_risk
from dawg_orchestrator.planning.cron import due_times
from dawg_orchestrator.planning.gitwatch import Look
from dawg_orchestrator.planning.schedule import ScheduledRun, ScheduleFacts, SchedulePlan, StartRun, plan_schedule
from dawg_orchestrator.planning.untested import BranchLook, add_watches, answer_of, ask_of, in_words
from dawg_orchestrator.planning.window import Choice, Choose, Window
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_time, parse_time
from dawg_orchestrator.resources.protocol import Since, Untested, Watch
from dawg_orchestrator.resources.schedule import ScheduleSpec, ScheduleStatus

URL = "https://git.example.org/shop/web.git"
OLD, NEW, NEWER = "a" * 40, "b" * 40, "c" * 40
HOUR = timedelta(hours=1)
DUE = NOON + HOUR
COMMITS = "commitsSince > 0"
RISK = {"window": "30m", "objective": "Risk"}


def a_schedule(source: Any = None, **spec: Any) -> ScheduleFacts:
    """An hourly Schedule of a branch that was made at noon."""
    run = {"tasks": [a_task_spec()], "source": {"git": {"url": URL, "revision": "main", **(source or {})}}}
    declared = {"cron": ["0 * * * *"], "runTemplate": {"spec": run}, "when": COMMITS}
    parsed = ScheduleSpec.model_validate({**declared, **spec})
    return ScheduleFacts("team", "nightly", "uid-nightly", 1, NOON, 1, parsed, {}, ())


def told(commits: int, since: str | None = OLD, **fields: Any) -> BranchLook:
    known = {"revision": "main", "since": since, "head": NEW if commits else OLD, "commits": commits, "files": ["a.py"]}
    return BranchLook(Untested.model_validate(known | fields))


def a_run(name: str, hours: float, commit: str | None, verdict: Verdict | None = None) -> ScheduledRun:
    return ScheduledRun(name, f"uid-{name}", NOON + hours * HOUR, verdict, commit)


def started(plan: SchedulePlan) -> list[str | None]:
    return [action.because for action in plan.actions if isinstance(action, StartRun)]


def missed(plan: SchedulePlan) -> list[tuple[str, str]]:
    return [(entry["reason"], entry["message"]) for entry in plan.status.get("missed", [])]


def condition(plan: SchedulePlan, of: str) -> tuple[str, str, str]:
    found = next(one for one in plan.status["conditions"] if one["type"] == of)
    return found["status"], found["reason"], found["message"]


# when


def test_with_a_new_commit_a_due_time_starts_a_run_that_says_how_many_there_are() -> None:
    plan = plan_schedule(replace(a_schedule(), branch=told(3)), DUE)

    assert (started(plan), missed(plan)) == ([f"3 commits since {OLD[:12]}"], [])
    assert plan.status["branch"] == {"head": NEW, "commitsSince": 3}
    assert condition(plan, "Ready")[:2] == ("True", "Scheduled")
    assert condition(plan, "Watching")[:2] == ("True", "Watching")


def test_without_one_it_is_recorded_with_its_reason_and_settled() -> None:
    plan = plan_schedule(replace(a_schedule(), branch=told(0)), DUE)

    assert started(plan) == []
    assert missed(plan) == [("NoNewCommits", f"no commit since {OLD[:12]}, and spec.when is '{COMMITS}'")]
    assert (plan.status["settledUntil"], plan.check_again_at) == (format_time(DUE), DUE + HOUR)
    assert condition(plan, "Ready")[:2] == ("True", "Scheduled")


@pytest.mark.parametrize(
    ("look", "why"),
    [
        pytest.param(BranchLook(), "no agent has counted the commits", id="nobody has looked"),
        pytest.param(
            BranchLook(problem=(Reason.SOURCE_UNREACHABLE, "no answer")), "no answer", id="it cannot be reached"
        ),
        pytest.param(told(1000, since=None), "no run has tested main yet", id="nothing was tested yet"),
        pytest.param(told(1000), f"1000 or more commits since {OLD[:12]}", id="more than anybody counts"),
        pytest.param(
            told(1, rewritten=True), f"main was rewritten since {OLD[:12]}, so it counts as changed by 1 commit",
            id="forced away",
        ),
    ],
)  # fmt: skip
def test_what_nobody_can_count_starts_and_says_why(look: BranchLook, why: str) -> None:
    plan = plan_schedule(replace(a_schedule(), branch=look), DUE)

    assert (started(plan), missed(plan)) == ([why], [])


def test_without_a_source_every_due_time_starts_and_the_condition_names_the_field() -> None:
    facts = a_schedule(runTemplate={"spec": {"tasks": [a_task_spec()]}})
    at_commit = a_schedule({"revision": OLD})

    plan = plan_schedule(replace(facts, branch=BranchLook(problem=(Reason.INVALID_SPEC, "…"))), DUE)
    fixed = plan_schedule(at_commit, DUE)

    assert len(started(plan)) == len(started(fixed)) == 1
    assert condition(plan, "Watching")[:2] == ("False", "InvalidSpec")
    assert condition(plan, "Watching")[2].startswith("spec.runTemplate.spec.source.git: ")
    assert condition(fixed, "Watching")[2].startswith("spec.runTemplate.spec.source.git.revision: ")


@pytest.mark.parametrize(
    ("when", "verdict", "commits", "reason"),
    [
        ("commitsSince > 0 || lastVerdict != 'Passed'", Verdict.FAILED, 0, None),
        ("commitsSince > 0 || lastVerdict != 'Passed'", Verdict.PASSED, 0, "NoNewCommits"),
        ("commitsSince >= 5", Verdict.PASSED, 4, "ConditionFalse"),
        ("lastVerdict == 'Failed'", Verdict.PASSED, 0, "ConditionFalse"),
        ("lastVerdict == 'Failed'", Verdict.FAILED, 0, None),
        ("10 / commitsSince > 0", Verdict.PASSED, 0, "InvalidSpec"),
    ],
)
def test_a_condition_speaks_of_commits_and_the_last_verdict(
    when: str, verdict: Verdict, commits: int, reason: str | None
) -> None:
    facts = replace(a_schedule(when=when), branch=told(commits), runs=(a_run("r", 0.5, OLD, verdict),))

    plan = plan_schedule(facts, DUE)

    if reason == "InvalidSpec":
        assert condition(plan, "Ready")[2].startswith("spec.when: '10 / commitsSince > 0' cannot be evaluated")
    else:
        assert [word for word, _ in missed(plan)] == ([reason] if reason else [])
        assert len(started(plan)) == (0 if reason else 1)


def test_a_run_that_a_person_asks_for_needs_no_commit() -> None:
    plan = plan_schedule(replace(a_schedule(), branch=told(0), trigger="ada"), NOON + timedelta(minutes=1))

    assert len([action for action in plan.actions if isinstance(action, StartRun)]) == 1


# What is remembered


def noted(plan: SchedulePlan) -> str | None:
    return (plan.status.get("tested") or {}).get("commit")


def test_the_commit_of_the_last_run_is_kept_when_the_runs_are_gone() -> None:
    runs = (a_run("first", 0.1, OLD, Verdict.PASSED), a_run("second", 0.2, NEW, Verdict.FAILED))
    with_runs = plan_schedule(replace(a_schedule(), runs=runs), NOON + HOUR / 2)
    gone = plan_schedule(replace(a_schedule(), written=with_runs.status), NOON + HOUR / 2)
    # The newest run is deleted first where no failed ones are kept.
    left = plan_schedule(replace(a_schedule(), written=with_runs.status, runs=runs[:1]), NOON + HOUR / 2)

    assert [noted(plan) for plan in (with_runs, gone, left)] == [NEW, NEW, NEW]
    assert gone.status["lastEnded"]["verdict"] == left.status["lastEnded"]["verdict"] == "Failed"
    ScheduleStatus.model_validate(gone.status)


@pytest.mark.parametrize("verdict", [Verdict.INFRA_ERROR, Verdict.CANCELLED, Verdict.SKIPPED])
def test_a_run_that_says_nothing_about_its_commit_has_not_tested_it(verdict: Verdict) -> None:
    first = a_run("first", 0.1, OLD, Verdict.PASSED)
    going = plan_schedule(replace(a_schedule(), runs=(first, a_run("second", 0.2, NEW))), NOON + HOUR / 2)
    runs = (first, a_run("second", 0.2, NEW, verdict))

    ended = plan_schedule(replace(a_schedule(), written=going.status, runs=runs), NOON + HOUR / 2)

    assert (noted(going), noted(ended)) == (NEW, OLD)


# What is asked


def test_what_schedules_ask_joins_the_watch_of_a_workflow_whatever_its_pool() -> None:
    ask = ask_of(a_schedule().spec, OLD)
    other = ask_of(a_schedule({"revision": "refs/heads/next"}).spec, None)
    assert ask is not None
    assert other is not None
    every = timedelta(minutes=5)
    watch = Watch(id=names.watch_id(URL, None), url=URL, branches=["**"], every=every, known={"main": OLD})

    joined = add_watches({"forge": {watch.id: watch}}, [("builtin", ask), ("builtin", other), ("builtin", ask)])
    alone = add_watches({}, [("builtin", ask)])

    (both,) = joined["forge"].values()
    assert set(joined) == {"forge"}
    assert (both.branches, both.known, both.every) == (["**"], {"main": OLD}, timedelta(seconds=30))
    assert both.since == [Since(revision="main", commit=OLD), Since(revision="next")]
    assert [one.branches for one in alone["builtin"].values()] == [[]]


def test_other_credentials_are_another_watch() -> None:
    secret = ask_of(a_schedule({"credentialsSecretRef": {"name": "robot"}}).spec, OLD)
    plain = ask_of(a_schedule().spec, OLD)
    assert secret is not None
    assert plain is not None

    assert len(add_watches({}, [("builtin", secret), ("builtin", plain)])["builtin"]) == 2


@pytest.mark.parametrize(
    "spec", [{"when": None}, {"when": "lastVerdict != 'Passed'"}, {"when": None, "smart": {"window": "1h"}}]
)
def test_a_schedule_that_does_not_go_by_commits_asks_nothing(spec: Any) -> None:
    assert ask_of(a_schedule(**spec).spec, OLD) is None


def test_an_answer_to_another_question_is_none_unless_the_branch_is_where_it_was_tested() -> None:
    ask = ask_of(a_schedule().spec, NEW)
    assert ask is not None
    at_new = Untested(revision="main", since=OLD, head=NEW, commits=2)
    at_newer = Untested(revision="main", since=OLD, head=NEWER, commits=3)

    assert answer_of(ask, None) == BranchLook()
    assert answer_of(ask, Look({}, untested=[at_newer])) == BranchLook()
    known = answer_of(ask, Look({}, untested=[at_new])).told
    assert known is not None
    assert (known.commits, in_words(BranchLook(known), "main")) == (0, f"no commit since {NEW[:12]}")


def test_a_branch_that_is_not_there_and_a_password_in_an_address() -> None:
    ask = ask_of(a_schedule({"url": "https://robot:hunter2@git.example.org/x"}).spec, OLD)
    assert ask is not None
    gone = answer_of(ask, Look({}, untested=[Untested(revision="main", since=OLD)]))
    broken = answer_of(ask, Look(problem=(Reason.SOURCE_UNREACHABLE, "no answer")))

    assert gone.problem is not None
    assert gone.problem[0] is Reason.REVISION_NOT_FOUND
    assert gone.problem[1].startswith("https://git.example.org/x has no branch main;")
    assert broken.problem == (Reason.SOURCE_UNREACHABLE, "https://git.example.org/x: no answer")


# Objective Risk


def by_risk(look: BranchLook) -> Choose:
    def choose(window: Window) -> Choice:
        if look.told is None:
            return window.announced or Choice(window.opens, "nobody knows")
        span = Span(window.due, window.opens, window.closes)
        return Choice(*choose_start_by_risk(look.told, in_words(look, "main"), [], span))

    return choose


def at(facts: ScheduleFacts, look: BranchLook, minutes: float) -> SchedulePlan:
    return plan_schedule(replace(facts, branch=look), DUE + timedelta(minutes=minutes), by_risk(look))


def test_low_risk_waits_within_the_window_until_high_risk_comes() -> None:
    facts = a_schedule(when=None, smart=RISK)
    low, high = told(1, files=["README.md"]), told(3, files=["README.md", "src/api/x.py"])

    early = at(facts, low, -30)
    waits = at(replace(facts, written=early.status), low, 5)
    comes = at(replace(facts, written=waits.status), high, 7)

    assert started(waits) == []
    assert waits.status["predictedStart"] == early.status["predictedStart"] > format_time(DUE + timedelta(minutes=29))
    assert waits.status["predictionReason"].startswith(f"1 commit since {OLD[:12]}, low: README.md is documentation; ")
    assert started(comes) == [f"3 commits since {OLD[:12]}, high: src/api/x.py is api; it does not wait"]


def test_when_the_window_ends_it_starts_whatever_came_unless_when_says_no() -> None:
    for when, starts in ((None, 1), (COMMITS, 0)):
        facts = a_schedule(when=when, smart=RISK)
        waits = at(facts, told(0), 5)
        ends = at(replace(facts, written=waits.status), told(0), 29.95)

        assert (started(waits), len(started(ends))) == ([], starts)
        assert [reason for reason, _ in missed(ends)] == ([] if starts else ["NoNewCommits"])


def test_another_leader_that_knows_nothing_yet_keeps_to_what_was_announced() -> None:
    facts = a_schedule(when=None, smart=RISK)
    waits = at(facts, told(0), 5)

    unknown = at(replace(facts, written=waits.status), BranchLook(), 6)

    assert started(unknown) == []
    assert unknown.status["predictedStart"] == waits.status["predictedStart"]
    assert len(started(at(facts, BranchLook(), 0))) == 1  # nothing announced: at its due time


class Cluster:
    """What lasts: the status as last written, and every run that was ever created."""

    def __init__(self, facts: ScheduleFacts) -> None:
        self.facts = facts
        self.created: list[Any] = []
        self.recorded = 0

    def look(self, now: Any, look: BranchLook, choose: Callable[[BranchLook], Choose], *, dies: bool) -> None:
        plan = plan_schedule(replace(self.facts, branch=look), now, choose(look))
        for action in plan.actions:
            if isinstance(action, StartRun) and action.due is not None:
                self.created.append(action.due)
                run = ScheduledRun(action.name, f"uid-{action.name}", now, Verdict.PASSED, OLD)
                self.facts = replace(self.facts, runs=(*self.facts.runs, run))
        if not dies:
            self.recorded = sum(entry.get("count", 1) for entry in plan.status.get("missed", []))
            self.facts = replace(self.facts, written=plan.status)
            ScheduleStatus.model_validate(plan.status)


LOOKS = [BranchLook(), told(0), told(2), told(2, files=["src/api/x.py"]), BranchLook(problem=(Reason.TIMEOUT, "no"))]
steps = st.lists(
    st.tuples(
        st.sampled_from([10.0, 65.0, 600.0, 1500.0, 1795.0, 3700.0, -700.0, 20000.0]), st.booleans(),
        st.sampled_from(LOOKS),
    ),
    min_size=1, max_size=16,
)  # fmt: skip


@settings(max_examples=150)
@given(
    steps, st.sampled_from([None, "7m", "45m", "3h"]), st.sampled_from([None, COMMITS]), st.sampled_from([None, "15m"])
)
def test_each_due_time_starts_one_run_or_is_recorded_whatever_is_pushed(
    history: list[tuple[float, bool, BranchLook]], window: str | None, when: str | None, deadline: str | None
) -> None:
    spec = {"concurrencyPolicy": "Allow", "successfulRunsHistoryLimit": 1000, "startingDeadline": deadline}
    smart = {"window": window, "objective": "Risk"} if window is not None else None
    cluster = Cluster(a_schedule(cron=["*/30 * * * *", "7 * * * *"], when=when, smart=smart, **spec))
    now = latest = NOON
    for seconds, dies, look in history:
        now += timedelta(seconds=seconds)
        latest = max(latest, now)
        cluster.look(now, look, by_risk, dies=dies)
    cluster.look(latest, told(0), by_risk, dies=False)
    settled = parse_time(cluster.facts.written["settledUntil"])
    cluster.look(max(latest, parse_time(cluster.facts.written["predictedStart"])), told(1), by_risk, dies=False)

    end = parse_time(cluster.facts.written["settledUntil"])
    due = due_until(cluster, end)
    assert end > settled
    assert set(cluster.created) <= set(due)
    assert len(set(cluster.created)) == len(cluster.created)
    assert len(cluster.created) + cluster.recorded == len(due)


def due_until(cluster: Cluster, end: Any) -> list[Any]:
    found = []
    for time in due_times(cluster.facts.spec.cron, "UTC", NOON):
        if time > end:
            return found
        found.append(time)
    return found
