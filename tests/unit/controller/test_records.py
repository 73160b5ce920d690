"""Runs as the desk keeps them: all that was declared, in little memory."""

from __future__ import annotations

from builders import NOON, a_task_spec, run_object
from dawg_orchestrator.controller.records import Run, parse_run, refresh_run
from dawg_orchestrator.resources.reasons import Reason


def parsed(name: str, **spec: object) -> Run:
    return parse_run(run_object(name, a_task_spec("unit"), a_task_spec("e2e", needs=["unit"]), **spec), {}, {}, NOON)


def test_runs_that_declare_the_same_tasks_share_them_and_nothing_else() -> None:
    one, other = parsed("one", parameters={"browser": "firefox"}), parsed("other", priority="low")

    assert one.graph is other.graph
    assert one.spec.tasks is not None
    assert other.spec.tasks is not None
    assert one.spec.tasks[0] is other.spec.tasks[0]
    assert (one.spec.parameters, other.spec.parameters) == ({"browser": "firefox"}, {})
    assert (one.spec.priority, other.spec.priority) == ("medium", "low")


def test_runs_that_declare_all_the_same_share_that_until_one_of_them_is_changed() -> None:
    tested = {"parameters": {"browser": "firefox"}}
    first, one, other = (parsed(name, **tested) for name in ("first", "one", "other"))
    changed = run_object("other", a_task_spec("unit"), a_task_spec("e2e", needs=["unit"]), cancelled=True, **tested)

    refresh_run(one, run_object("one", a_task_spec("unit"), a_task_spec("e2e", needs=["unit"]), **tested))
    refresh_run(other, changed)

    assert one.spec is parsed("another", **tested).spec
    assert one.spec == first.spec
    assert (one.spec.cancelled, other.spec.cancelled) == (False, True)


def test_what_is_wrong_besides_the_tasks_is_found_although_the_tasks_are_known() -> None:
    good, bad = parsed("good"), parsed("bad", selection={"mode": "observe"})

    assert good.invalid is None
    assert bad.invalid is not None
    assert bad.invalid[0] is Reason.NOT_AVAILABLE


def test_a_status_is_read_as_it_was_written_be_it_short_or_long() -> None:
    run = parsed("run")
    for status in ({}, {"term": 1}, {"message": "ein Prüflauf, " * 400, "tasks": [{"index": n} for n in range(300)]}):
        run.status = status
        assert run.status == status
    assert len(run.packed_status) < 4000


def test_which_run_a_run_repeats_is_what_its_annotation_says_if_that_can_be_a_name() -> None:
    def repeats(said: str) -> str | None:
        obj = run_object("run")
        obj["metadata"]["annotations"] = {"dawg.dev/rerun-of": said}
        return parse_run(obj, {}, {}, NOON).rerun_of

    assert repeats("checkout-x7k2p") == "checkout-x7k2p"
    assert (repeats(""), repeats("x" * 254)) == (None, None)
    assert parsed("run").rerun_of is None
