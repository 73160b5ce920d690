"""The frozen expansion: what an index means, and which specs cannot be carried out."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from builders import a_graph, a_spec, a_task_spec
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.graph import NotAvailable, expand, parameter_variable
from dawg_orchestrator.resources.testrun import MAX_TASKS


def refusal(*tasks: dict[str, Any], **fields: Any) -> str:
    """What is wrong with such a spec."""
    with pytest.raises(InvalidSpec) as caught:
        expand(a_spec(*tasks, **fields))
    return str(caught.value)


def test_matrix_times_shards_keep_their_indexes_and_read_well() -> None:
    unit = a_task_spec("unit", matrix={"python": ["3.11", "3.12"], "db": ["pg"]}, shards={"count": 2})

    graph = a_graph(a_task_spec("build"), unit)

    assert [(cell.index, cell.key) for cell in graph.cells] == [
        (0, "build"),
        (1, "unit[python=3.11,db=pg] 1/2"),
        (2, "unit[python=3.11,db=pg] 2/2"),
        (3, "unit[python=3.12,db=pg] 1/2"),
        (4, "unit[python=3.12,db=pg] 2/2"),
    ]
    assert graph.of_task == {"build": (0,), "unit": (1, 2, 3, 4)}
    assert a_graph(a_task_spec("build"), unit) == graph


def test_tasks_are_ordered_after_what_they_need() -> None:
    order = a_graph(a_task_spec("c", needs=["b"]), a_task_spec("b", needs=["a"]), a_task_spec("a")).order

    assert order == ("a", "b", "c")


def test_a_circle_of_needs_is_refused_and_shown() -> None:
    said = refusal(a_task_spec("a", needs=["b"]), a_task_spec("b", needs=["c"]), a_task_spec("c", needs=["a"]))

    assert said.startswith("spec.tasks[].needs: the tasks need each other in a circle: ")
    circle = said.partition("circle: ")[2].split(" → ")
    needs = {"a": "b", "b": "c", "c": "a"}
    assert len(circle) == 4
    assert all(needs[one] == other for one, other in itertools.pairwise(circle))


def test_a_task_that_needs_itself_is_a_circle() -> None:
    assert "a → a" in refusal(a_task_spec("a", needs=["a"]))


@pytest.mark.parametrize(
    ("tasks", "fields", "expected"),
    [
        ([a_task_spec("a", needs=["nobody"])], {}, "spec.tasks[0].needs: no task is named 'nobody'"),
        ([a_task_spec("a"), a_task_spec("a")], {}, "two tasks are named 'a'"),
        (
            [a_task_spec("a"), a_task_spec("b", inputs=[{"from": "a", "path": "dist"}])], {},
            "spec.tasks[1].inputs: it takes files of 'a', so add that task to needs",
        ),
        ([a_task_spec("a", run="x", command=["y"])], {}, "exactly one of run (a script), command (a list) and uses"),
        ([a_task_spec("a", when="tasks[")], {}, "spec.tasks[0].when: this is not a CEL expression"),
        ([a_task_spec("a", env=[{"name": "DAWG_X"}])], {}, "DAWG_X: names that start with DAWG_"),
        (
            [a_task_spec("a", secrets=[{"name": "s", "key": "k", "env": "DAWG_RUN"}])], {},
            "spec.tasks[0].secrets: DAWG_RUN",
        ),
        ([a_task_spec("a", command=["x"], onFailure={"hold": "5m"})], {}, "write the command as a run script"),
        ([a_task_spec("a", matrix={"x": ["1", "1"]})], {}, "two of its cells read 'a[x=1]'"),
        ([a_task_spec("a", matrix={"x": ["1", "1,y=2"], "y": ["2", "2,y=2"]})], {}, "two of its cells read"),
        ([a_task_spec("a", matrix={"a-b": ["1"], "a.b": ["1"]})], {}, "both become DAWG_MATRIX_A_B"),
        (
            [a_task_spec("a", services=[{"name": "db", "image": "i"}, {"name": "db", "image": "j"}])], {},
            "two services are named 'db'",
        ),
        ([], {"parameters": {"a-b": "1", "a.b": "2"}}, "both become DAWG_PARAM_A_B; rename one"),
        ([], {"source": {"git": {"url": "https://example.org:port/x"}}}, "spec.source.git.url"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_out_is_refused_with_field_and_remedy(
    tasks: list[dict[str, Any]], fields: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(*tasks, **fields)


def test_inputs_may_come_from_a_need_of_a_need() -> None:
    far = a_task_spec("c", needs=["b"], inputs=[{"from": "a", "path": "dist"}])

    assert len(a_graph(a_task_spec("a"), a_task_spec("b", needs=["a"]), far).cells) == 3


def test_a_thousand_tasks_are_the_most_a_run_may_have() -> None:
    thousand = [a_task_spec(f"t{n}", matrix={"x": [str(v) for v in range(50)]}) for n in range(20)]

    assert len(a_graph(*thousand).cells) == MAX_TASKS
    assert "more than 1000 tasks" in refusal(*thousand, a_task_spec("one-more"))


def test_a_chain_of_a_thousand_tasks_expands_in_a_moment() -> None:
    tasks = [a_task_spec(f"t{n}", needs=[f"t{n - 1}"] if n else []) for n in range(MAX_TASKS)]
    spec = a_spec(*reversed(tasks))
    began = time.process_time()

    assert expand(spec).order[:2] == ("t0", "t1")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({"tests": {"list": "pytest -q"}}, {}),
        ({"uses": "analyze-failure", "image": None}, {}),
        ({"cache": {"key": ["x"]}}, {}),
        ({}, {"selection": {"mode": "observe"}}),
    ],
)
def test_what_a_later_release_does_is_refused_as_not_available(fields: dict[str, Any], spec: dict[str, Any]) -> None:
    with pytest.raises(NotAvailable):
        expand(a_spec(a_task_spec("a", **fields), **spec))


def test_parameters_become_variables_in_upper_case() -> None:
    assert parameter_variable("test-suite") == "DAWG_PARAM_TEST_SUITE"


A_PATCH = {"git": {"url": "https://git.example/shop.git"}, "patchRef": "sha256:" + "0" * 64}


def test_a_patch_goes_on_top_of_a_repositorys_commit() -> None:
    expand(a_spec(a_task_spec("a"), source=A_PATCH))

    with pytest.raises(InvalidSpec, match=r"spec\.source\.patchRef"):
        expand(a_spec(a_task_spec("a"), source={"patchRef": A_PATCH["patchRef"]}))


def test_what_no_server_has_is_never_published() -> None:
    with pytest.raises(InvalidSpec, match=r"spec.gate: with source.patchRef") as refused:
        expand(a_spec(a_task_spec("a"), source=A_PATCH, gate={"repository": "org/repo"}))

    assert not isinstance(refused.value, NotAvailable)
