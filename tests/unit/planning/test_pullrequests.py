"""Which pull requests ask for a run, of what: each as it stands once, strangers only as the policy says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from builders import a_task_spec
from dawg_orchestrator.planning.gitwatch import Look
from dawg_orchestrator.planning.pullrequests import (
    MOST_NOTED,
    PullFacts,
    PullPlan,
    plan_pull_watches,
    plan_pulls,
    pull_triggers,
    read_fork_approvals,
    watching_all,
    watching_pulls,
    with_details,
)
from dawg_orchestrator.resources.pulls import MAX_PULLS, PullFact, PullsSeen
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.workflow import WorkflowSpec

URL = "https://git.example.org/shop/web.git"
OLD, NEW, NEWER, MERGE = "a" * 40, "b" * 40, "c" * 40, "d" * 40
ALL_PARAMETERS = ("pullRequest", "branch", "base", "author", "commit", "head", "repository", "fork")


def spec(*triggers: dict[str, Any], parameters: tuple[str, ...] = (), **fields: Any) -> WorkflowSpec:
    known = {
        "tasks": [a_task_spec()],
        "triggers": [{"pullRequest": {"url": URL, **trigger}} for trigger in triggers or ({},)],
        "parameters": [{"name": name} for name in parameters],
    }  # fmt: skip
    return WorkflowSpec.model_validate(known | fields)


def pull(number: int = 7, head: str = NEW, base: str = "main", **fields: Any) -> PullFact:
    known = {"number": number, "head": head, "base": base, "branch": "work", "author": "ada", "from_fork": False}
    return PullFact.model_validate(known | fields)


def plan(of: WorkflowSpec, *pulls: PullFact, after: PullPlan | None = None, **fields: Any) -> PullPlan:
    """What is planned when a look finds these; ``after`` what was planned before."""
    (watch,) = pull_triggers(of)
    seen = PullsSeen(pulls=list(pulls), **{name: fields.pop(name) for name in ("more", "merges") if name in fields})
    written = after.noted if after is not None else {}
    return plan_pulls(PullFacts("checks", "w-1", of, written, {watch: Look(pulls=seen)}, **fields))


def quiet(of: WorkflowSpec, *pulls: PullFact) -> PullPlan:
    """After a first look that found these."""
    first = plan(of, *pulls)
    assert first.runs == ()
    return first


def started(made: PullPlan) -> list[tuple[str, str]]:
    return [(run.by.split()[1], run.source["git"]["revision"]) for run in made.runs if run.source]


def held(made: PullPlan) -> dict[str, str]:
    (noted,) = made.noted.values()
    return dict(noted.get("held", {}))


def test_what_is_open_at_the_first_look_starts_nothing() -> None:
    checks = spec()
    first = quiet(checks, pull(1), pull(2))

    assert started(plan(checks, pull(1), pull(2), after=first)) == []


def test_a_new_one_asks_for_one_run_of_exactly_its_head() -> None:
    checks = spec({"credentialsSecretRef": {"name": "robot"}}, parameters=ALL_PARAMETERS)

    (run,) = plan(checks, pull(12, head=NEW), after=quiet(checks)).runs

    assert run.source == {"git": {"url": URL, "revision": NEW, "credentialsSecretRef": {"name": "robot"}}}
    assert run.parameters == {
        "pullRequest": "12", "branch": "work", "base": "main", "author": "ada", "commit": NEW, "head": NEW,
        "repository": URL, "fork": "false",
    }  # fmt: skip
    assert run.by == f"pullRequest #12 {NEW[:12]}"


def test_it_is_answered_once_by_this_leader_and_by_the_next() -> None:
    checks = spec()
    before = quiet(checks)
    first = plan(checks, pull(), after=before)

    assert plan(checks, pull(), after=before).runs == first.runs  # who died before the note asks for the same name
    assert started(plan(checks, pull(), after=before, answered=frozenset({first.runs[0].name}))) == []
    assert started(plan(checks, pull(), after=first)) == []


def test_a_new_head_and_another_base_are_news_and_a_closed_one_is_not() -> None:
    checks = spec()
    before = quiet(checks, pull(1, OLD), pull(2, OLD), pull(3, OLD))

    made = plan(checks, pull(1, NEW), pull(2, OLD, base="release"), after=before)

    assert sorted(started(made)) == [("#1", NEW), ("#2", OLD)]


def test_one_that_is_missing_for_a_moment_or_reopened_as_it_was_is_nothing_new() -> None:
    checks = spec()
    closed = plan(checks, after=quiet(checks, pull(1, OLD)))

    assert started(plan(checks, pull(1, OLD), after=closed)) == []
    assert started(plan(checks, pull(1, NEW), after=closed)) == [("#1", NEW)]


@pytest.mark.parametrize(
    ("branches", "base", "wanted"),
    [(["main"], "main", True), (["main"], "docs", False), (["release/*"], "release/1", True), (["**"], "a/b", True)],
)
def test_bases_are_globs(branches: list[str], base: str, wanted: bool) -> None:
    checks = spec({"branches": branches})

    assert bool(plan(checks, pull(base=base), after=quiet(checks)).runs) is wanted


def test_one_that_comes_to_a_base_that_is_asked_for_is_tested() -> None:
    checks = spec({"branches": ["main"]})
    before = plan(checks, pull(base="docs"), after=quiet(checks))
    assert started(before) == []

    assert started(plan(checks, pull(base="main"), after=before)) == [("#7", NEW)]


@pytest.mark.parametrize(("events", "expected"), [(["opened"], ["#2"]), (["updated"], ["#1"])])
def test_events_choose_between_new_ones_and_new_commits(events: list[str], expected: list[str]) -> None:
    checks = spec({"events": events})

    made = plan(checks, pull(1, NEW), pull(2, NEW), after=quiet(checks, pull(1, OLD)))

    assert [number for number, _ in started(made)] == expected
    assert started(plan(checks, pull(1, NEW), pull(2, NEW), after=made)) == []


def test_drafts_are_tested_unless_they_are_left_out_and_then_as_soon_as_they_are_ready() -> None:
    assert started(plan(spec(), pull(draft=True), after=quiet(spec()))) == [("#7", NEW)]
    checks = spec({"drafts": False})
    draft = plan(checks, pull(draft=True), after=quiet(checks, pull(8, draft=True)))
    assert (started(draft), held(draft)) == ([], {"7": "is a draft"})

    assert sorted(started(plan(checks, pull(), pull(8), after=draft))) == [("#7", NEW), ("#8", NEW)]


@pytest.mark.parametrize(
    ("files", "wanted"), [(["src/a.py"], True), (["docs/a"], False), ([], False), (None, True)]
)  # fmt: skip
def test_paths_leave_out_what_changes_none_of_them(files: list[str] | None, wanted: bool) -> None:
    checks = spec({"paths": ["src/**"]})
    unknown = plan(checks, pull(), after=quiet(checks))
    assert (started(unknown), held(unknown)) == ([], {"7": "is being looked at"})

    made = plan(checks, pull(detailed=True, files=files), after=unknown)

    assert bool(made.runs) is wanted
    assert started(plan(checks, pull(), after=made)) == []


# The merge commit


def test_a_merge_is_tested_only_once_there_is_one_of_the_head() -> None:
    checks = spec({"test": "Merge"}, parameters=("commit", "head"))
    waits = plan(checks, pull(), after=quiet(checks))
    conflict = plan(checks, pull(detailed=True), after=waits)
    assert started(waits) == started(conflict) == []
    assert held(conflict) == {"7": "has no merge commit of its head; conflicts have to be resolved"}

    made = plan(checks, pull(detailed=True, merge=MERGE), after=conflict)

    assert started(made) == [("#7", MERGE)]
    assert made.runs[0].parameters == {"commit": MERGE, "head": NEW}
    assert started(plan(checks, pull(detailed=True, merge=NEWER), after=made)) == []  # the base has moved


def test_a_forge_without_merge_commits_says_what_would_help_and_then_starts_what_has_waited() -> None:
    checks = spec({"test": "Merge"})
    (watch,) = pull_triggers(checks)
    waits = plan(checks, pull(), merges=False, after=quiet(checks))
    told = watching_pulls(checks, {watch: Look(pulls=PullsSeen(merges=False))}, waits.noted)

    assert started(waits) == []
    assert told is not None
    assert (told[0], told[1], "set test: Head" in told[2]) == ("False", Reason.NO_MERGE_COMMIT, True)
    assert started(plan(spec({"test": "Head"}), pull(), after=waits)) == [("#7", NEW)]


def test_a_gate_never_holds_a_commit_that_was_not_tested_though_the_schema_was_got_around() -> None:
    checks = spec({"test": "Merge", "gate": {}})

    made = plan(checks, pull(detailed=True, merge=MERGE), after=quiet(checks))

    assert started(made) == []
    assert "a gate does not go with test: Merge" in held(made)["7"]


def test_the_gate_is_on_the_head_of_the_repository_that_was_looked_at() -> None:
    checks = spec({"gate": {"onFlaky": "Block"}})
    other = spec({"gate": {"context": "ci"}, "repository": "shop/elsewhere"})

    assert plan(checks, pull(), after=quiet(checks)).runs[0].gate == {
        "repository": "shop/web", "context": "dawg/checks", "onFlaky": "Block",
    }  # fmt: skip
    assert plan(other, pull(), after=quiet(other)).runs[0].gate == {
        "repository": "shop/elsewhere", "context": "ci", "onFlaky": "Allow",
    }  # fmt: skip


# Forks


def test_a_fork_starts_nothing_by_default_and_the_condition_says_why() -> None:
    checks = spec()
    (watch,) = pull_triggers(checks)

    made = plan(checks, pull(from_fork=True), after=quiet(checks))
    again = plan(checks, pull(from_fork=True), after=made)

    assert started(made) == started(again) == []
    assert held(made) == held(again) == {"7": "comes from a fork, and forks is Never"}
    told = watching_pulls(checks, {watch: Look(pulls=PullsSeen())}, again.noted)
    assert told == (
        "True", Reason.WATCHING, "pull requests are looked at; #7 comes from a fork, and forks is Never",
    )  # fmt: skip


def test_a_fork_runs_after_an_approval_of_exactly_that_commit() -> None:
    checks = spec({"forks": "Approved"}, parameters=("fork",))
    there, new = pull(7, from_fork=True), pull(8, from_fork=True)
    waits = plan(checks, there, new, after=quiet(checks, there))
    assert started(waits) == []
    assert held(waits)["8"] == f"comes from a fork: commit {NEW} waits for an approval"

    assert started(plan(checks, there, new, after=waits, approvals={8: OLD, 9: NEW})) == []
    both = plan(checks, there, new, after=waits, approvals={7: NEW, 8: NEW})
    assert sorted(started(both)) == [("#7", NEW), ("#8", NEW)]
    assert both.runs[0].source is not None
    assert "untrusted" not in both.runs[0].source
    assert both.runs[0].parameters == {"fork": "true"}

    pushed = plan(checks, pull(8, NEWER, from_fork=True), after=both, approvals={8: NEW})
    assert started(pushed) == []
    assert NEWER in held(pushed)["8"]


def test_a_fork_in_the_sandbox_is_marked_as_a_strangers_and_others_are_not() -> None:
    checks = spec({"forks": "Sandbox"})

    own, foreign = sorted(plan(checks, pull(1), pull(2, from_fork=True), after=quiet(checks)).runs, key=lambda r: r.by)

    assert foreign.source == {"git": {"url": URL, "revision": NEW}, "untrusted": True}
    assert own.source == {"git": {"url": URL, "revision": NEW}}


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("fork.dawg.dev/7", f"Approved {NEW} by ada", {7: NEW}),
        ("fork.dawg.dev/7", f"Approved {NEW} by system:serviceaccount:a:b", {7: NEW}),
        ("fork.dawg.dev/7", f"Approved {NEW[:12]} by ada", {}),
        ("fork.dawg.dev/7", f"Approved {NEW}", {}),
        ("fork.dawg.dev/7", f"approved {NEW} by ada", {}),
        ("fork.dawg.dev/07", f"Approved {NEW} by ada", {}),
        ("fork.dawg.dev/x", f"Approved {NEW} by ada", {}),
        ("approval.dawg.dev/7", f"Approved {NEW} by ada", {}),
    ],
)
def test_an_approval_names_a_whole_commit_and_who_gives_it(key: str, text: str, expected: dict[int, str]) -> None:
    assert read_fork_approvals({key: text, "other": "x"}) == expected


# What is asked of agents, and what is remembered


def test_workflows_share_a_watch_that_serves_all_of_them() -> None:
    one, two = spec({"poll": "60s", "paths": ["src/**"]}), spec({"poll": "1s", "test": "Merge"})
    (watch,) = pull_triggers(one)
    noted = {watch: {"pulls": {"1": "x", "2": "x"}}}

    made = plan_pull_watches([(one, noted), (two, {watch: {"pulls": {"1": "y", "2": "x"}}})])[watch]

    assert (made.every, made.known) == (timedelta(seconds=5), {"2": "x"})
    assert made.pulls is not None
    assert (made.pulls.repository, made.pulls.paths, made.pulls.merges, made.pulls.first) == (
        "shop/web", True, True, False,
    )  # fmt: skip


@pytest.mark.parametrize("turn", [1, -1])
def test_who_looks_for_the_first_time_has_nothing_told_anew(turn: int) -> None:
    checks = spec()
    (watch,) = pull_triggers(checks)

    made = plan_pull_watches([(checks, {watch: {"pulls": {"1": "x"}}}), (checks, {})][::turn])[watch]

    assert made.known == {"1": "x"}
    assert made.pulls is not None
    assert made.pulls.first is False
    alone = plan_pull_watches([(checks, {})])[watch].pulls
    assert alone is not None
    assert alone.first is True


def test_all_that_are_open_are_remembered_and_so_many_others() -> None:
    checks = spec()
    everyone = [pull(number) for number in range(1, MAX_PULLS + 1)]
    before = quiet(checks, *everyone)
    for round_ in range(1, 4):
        others = [pull(number + round_ * MAX_PULLS) for number in range(1, MAX_PULLS)]
        before = plan(checks, pull(1), *others, after=before)

    (noted,) = before.noted.values()
    assert len(noted["pulls"]) == MOST_NOTED
    assert "1" in noted["pulls"]
    assert "2" not in noted["pulls"]


@pytest.mark.parametrize("spoilt", ["?", {"pulls": "?"}, {"pulls": {"x": 1}}, {"pulls": {"7": ["x"]}}])
def test_what_somebody_wrote_into_status_by_hand_breaks_nothing(spoilt: Any) -> None:
    checks = spec()
    (watch,) = pull_triggers(checks)

    plan(checks, pull(), after=PullPlan((), {watch: spoilt}))
    plan_pull_watches([(checks, {watch: spoilt})])


def test_what_was_answered_stays_noted_while_nobody_looks() -> None:
    checks = spec()
    before = quiet(checks, pull())

    assert plan_pulls(PullFacts("checks", "w-1", checks, before.noted, {})).noted == before.noted


def test_details_are_kept_as_long_as_a_pull_request_stands_where_it_stood() -> None:
    known = PullsSeen(pulls=[pull(1, detailed=True, files=["a"]), pull(2, OLD, detailed=True, files=["a"])])

    one, two = with_details(known, PullsSeen(pulls=[pull(1), pull(2, NEW)])).pulls

    assert (one.detailed, one.files) == (True, ["a"])
    assert (two.detailed, two.files) == (False, None)


def test_the_condition_says_who_looks_what_hinders_and_how_many_are_followed() -> None:
    checks = spec()
    (watch,) = pull_triggers(checks)

    def told(look: Look | None, noted: Mapping[str, Any] | None = None) -> tuple[str, Reason, str] | None:
        return watching_pulls(checks, {watch: look} if look else {}, {watch: noted or {}})

    assert watching_pulls(spec(triggers=[]), {}, {}) is None
    assert told(None) == (
        "Unknown", Reason.NO_AGENT_READY, "no agent of pool builtin has looked at pull requests of shop/web yet",
    )  # fmt: skip
    hindered = Look(problem=(Reason.FORGE_SECRET_MISSING, "the pool holds no forge Secret"))
    assert told(hindered) == (
        "False", Reason.FORGE_SECRET_MISSING, "pull requests of shop/web: the pool holds no forge Secret",
    )  # fmt: skip
    crowded = told(Look(pulls=PullsSeen(more=True)), {"held": {str(n): "is a draft" for n in range(5)}})
    assert crowded is not None
    assert crowded[2] == (
        "pull requests are looked at; pull requests of shop/web: the 200 that changed last are followed;"
        " #0 is a draft; #1 is a draft; #2 is a draft; 2 more start nothing"
    )
    good, bad = ("True", Reason.WATCHING, "a"), ("False", Reason.FORGE_REFUSED, "b")
    assert watching_all(None, good) == good
    assert watching_all(good, bad) == bad
    assert watching_all(good, ("Unknown", Reason.NO_AGENT_READY, "c"), bad) == bad
    assert watching_all(None, None) is None
