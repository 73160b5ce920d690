"""Which repositories are watched, and which runs a look at one asks for: each push once, and no history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from builders import a_task_spec
from dawg_orchestrator.planning.gitwatch import (
    Look,
    PushFacts,
    PushPlan,
    git_triggers,
    plan_pushes,
    plan_watches,
    watching,
)
from dawg_orchestrator.resources.protocol import Change
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.workflow import WorkflowSpec

URL = "https://git.example.org/shop/web.git"
OLD, NEW, NEWER = "a" * 40, "b" * 40, "c" * 40


def spec(*triggers: dict[str, Any], parameters: tuple[str, ...] = (), **fields: Any) -> WorkflowSpec:
    known = {
        "tasks": [a_task_spec()], "triggers": [{"git": {"url": URL, **trigger}} for trigger in triggers or ({},)],
        "parameters": [{"name": name} for name in parameters],
    }  # fmt: skip
    return WorkflowSpec.model_validate(known | fields)


def change(files: list[str] | None, branch: str = "main", commit: str = NEW) -> Change:
    return Change(branch=branch, commit=commit, before=OLD, files=files)


def looked(branches: Mapping[str, str], *changes: Change) -> Look:
    return Look(dict(branches), {(one.branch, one.commit): one for one in changes})


def plan(of: WorkflowSpec, look: Look, written: Mapping[str, Any] | None = None, **fields: Any) -> PushPlan:
    (watch,) = git_triggers(of)
    return plan_pushes(PushFacts("checks", "w-1", of, written or {}, {watch: look}, **fields))


def after_first_look(of: WorkflowSpec, branches: Mapping[str, str]) -> dict[str, Any]:
    """What status says when all these were there at the first look."""
    return plan(of, looked(branches)).noted


def pushed(made: PushPlan) -> list[str]:
    return [run.by for run in made.runs]


def test_the_first_look_replays_no_history() -> None:
    made = plan(spec(), looked({"main": OLD, "feature/x": NEW}))

    assert pushed(made) == []
    (noted,) = made.noted.values()
    assert noted["branches"] == {"main": OLD, "feature/x": NEW}


def test_a_push_asks_for_one_run_on_exactly_that_commit() -> None:
    checks = spec(parameters=("branch", "commit", "before", "repository"))

    (run,) = plan(checks, looked({"main": NEW}, change(["a"])), after_first_look(checks, {"main": OLD})).runs

    assert run.source == {"git": {"url": URL, "revision": NEW}}
    assert run.parameters == {"branch": "main", "commit": NEW, "before": OLD, "repository": URL}
    assert run.by == f"push main {NEW[:12]}"


def test_a_push_is_answered_once_by_this_leader_and_by_the_next() -> None:
    checks = spec()
    before = after_first_look(checks, {"main": OLD})
    first = plan(checks, looked({"main": NEW}), before)

    died_before_the_note = plan(checks, looked({"main": NEW}), before)
    assert died_before_the_note.runs == first.runs  # of the same name: it is there already
    assert pushed(plan(checks, looked({"main": NEW}), before, answered=frozenset({first.runs[0].name}))) == []
    assert pushed(plan(checks, looked({"main": NEW}), first.noted)) == []


def test_new_and_forced_branches_are_pushes_and_deleted_ones_are_forgotten() -> None:
    checks = spec()
    before = after_first_look(checks, {"main": OLD, "gone": OLD})

    made = plan(checks, looked({"main": NEWER, "feature/x": NEW}), before)

    assert pushed(made) == [f"push main {NEWER[:12]}", f"push feature/x {NEW[:12]}"]
    (noted,) = made.noted.values()
    assert "gone" not in noted["branches"]


def test_a_branch_that_comes_back_at_another_commit_asks_again() -> None:
    checks = spec()
    gone = plan(checks, looked({}), after_first_look(checks, {"x": OLD}))

    assert pushed(plan(checks, looked({"x": NEW}), gone.noted)) == [f"push x {NEW[:12]}"]


@pytest.mark.parametrize(
    ("branches", "branch", "wanted"),
    [
        (["feature/*", "develop"], "feature/x", True),
        (["feature/*", "develop"], "develop", True),
        (["feature/*"], "feature/x/y", False),
        (["feature/**"], "feature/x/y", True),
        (["*"], "feature/x", False),
        (["**"], "feature/x", True),
    ],
)
def test_branches_are_globs(branches: list[str], branch: str, wanted: bool) -> None:
    checks = spec({"branches": branches})

    made = plan(checks, looked({branch: NEW}), after_first_look(checks, {"main": OLD}))

    assert bool(made.runs) is wanted


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["src/a.py"], True),
        (["docs/a.md", "src/deep/b.py"], True),
        (["docs/a.md"], False),
        ([], False),
        (None, True),  # too many to name, or nobody can say: it is tested
    ],
)
def test_a_push_that_changes_nothing_below_the_paths_asks_for_nothing_and_is_noted(
    files: list[str] | None, wanted: bool
) -> None:
    checks = spec({"paths": ["src/**"]})

    made = plan(checks, looked({"main": NEW}, change(files)), after_first_look(checks, {"main": OLD}))

    assert bool(made.runs) is wanted
    assert next(iter(made.noted.values()))["branches"] == {"main": NEW}


def test_a_commit_of_which_nothing_else_is_known_is_tested() -> None:
    checks = spec({"paths": ["src/**"]})

    assert plan(checks, looked({"main": NEW}), after_first_look(checks, {"main": OLD})).runs


def test_two_triggers_of_one_repository_ask_for_one_run() -> None:
    checks = spec({"branches": ["main"], "paths": ["docs/**"]}, {"branches": ["main"], "paths": ["src/**"]})
    before = after_first_look(checks, {"main": OLD})

    assert len(plan(checks, looked({"main": NEW}, change(["src/a", "docs/b"])), before).runs) == 1


def test_wider_branches_replay_no_history_but_miss_no_push() -> None:
    before = after_first_look(spec({"branches": ["main"]}), {"main": OLD, "old-work": OLD})

    made = plan(spec({"branches": ["**"]}), looked({"main": NEW, "old-work": OLD}), before)

    assert pushed(made) == [f"push main {NEW[:12]}"]
    (noted,) = made.noted.values()
    assert noted["branches"] == {"main": NEW, "old-work": OLD}


def test_what_was_answered_stays_noted_while_nobody_looks() -> None:
    checks = spec()
    before = after_first_look(checks, {"main": OLD})

    assert plan(checks, Look(), before).noted == before


def test_what_somebody_wrote_into_status_by_hand_is_a_first_look() -> None:
    (watch,) = git_triggers(spec())

    assert pushed(plan(spec(), looked({"main": NEW}), {watch: "?"})) == []
    assert pushed(plan(spec(), looked({"main": NEW}), {watch: {"branches": ["x"]}})) == []


def test_workflows_share_a_watch_that_serves_all_of_them() -> None:
    one = spec({"branches": ["main"], "poll": "60s"})
    two = spec({"branches": ["feature/*"], "poll": "1s"})
    (watch,) = git_triggers(one)
    noted = {watch: {"branches": {"main": OLD, "feature/x": OLD}}}

    made = plan_watches([(one, noted), (two, {watch: {"branches": {"main": NEW, "feature/x": OLD}}})])

    assert list(made) == [watch]
    assert made[watch].branches == ["feature/*", "main"]
    assert made[watch].every == timedelta(seconds=5)  # no oftener, whoever asks
    assert made[watch].known == {"feature/x": OLD}  # of main one of them has not heard


def test_the_same_repository_with_another_secret_is_another_watch() -> None:
    assert len(git_triggers(spec({}, {"credentialsSecretRef": {"name": "robot"}}))) == 2


def test_the_condition_says_who_looks_and_what_hinders() -> None:
    checks = spec()
    (watch,) = git_triggers(checks)
    refused = Look(problem=(Reason.SOURCE_REFUSED, f"{URL}: the server refuses"))

    assert watching(spec(triggers=[]), {}) is None
    assert watching(checks, {}) == (
        "Unknown", Reason.NO_AGENT_READY, f"no agent of pool builtin has looked at {URL} yet",
    )  # fmt: skip
    assert watching(checks, {watch: refused}) == ("False", Reason.SOURCE_REFUSED, f"{URL}: the server refuses")
    assert watching(checks, {watch: looked({})}) == ("True", Reason.WATCHING, "1 repositories are looked at")
    crowded = watching(checks, {watch: Look({}, left_out=3)})
    assert crowded is not None
    assert crowded[1] is Reason.TOO_MANY_BRANCHES
