"""A graph is drawn so that every line can be followed, whatever its size and wherever it is read."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from rich.console import Console

from dawg_orchestrator.client.graphs import MOST_LANES, Node, letters_of, nodes_of
from dawg_orchestrator.client.view_graph import Drawing, graph_dot, graph_json, graph_mermaid, graph_view
from dawg_orchestrator.errors import InvalidSpec
from unit.client.runs import a_run, a_task, ended


def task(name: str, *needs: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "needs": list(needs), **fields}


SHOP = [
    task("build"), task("unit", "build"), task("lint", "build"), task("types"),
    task("e2e", "unit", "build", matrix={"browser": ["firefox", "chrome"]}),
    task("gate", "unit", "lint", "types", "e2e", uses="gate"),
    task("deploy", "gate", when="params.deploy"),
    task("report", "lint", uses="notify"), task("tidy"),
]  # fmt: skip
STAGES = {"report": "onFailure", "tidy": "finally"}


def drawing(nodes: list[Node], kind: str = "Workflow") -> Drawing:
    return Drawing(kind, "shop", "checkout", f"{len(nodes)} tasks", nodes)


def shown(nodes: list[Node], *, plain: bool = False, width: int = 80) -> list[str]:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(graph_view(drawing(nodes), plain=plain))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_each_task_stands_below_what_it_needs_and_is_joined_to_it() -> None:
    assert shown(nodes_of(SHOP, STAGES))[2:] == [
        "●        build",
        "│ ●      types",
        "├─│─●    unit",
        "├─│─│─●  lint",
        "●─│─┤ │  e2e x2",
        "●─┴─┴─┤  gate (gate)",
        "●     │  deploy  when params.deploy",
        "      │",
        "      │ onFailure: when a task above did not pass",
        "      ●  report (notify)",
        "",
        "        finally: at the very end, whatever came of the others",
        "●        tidy",
    ]


def test_tasks_that_have_nothing_to_do_with_each_other_do_not_look_like_a_chain() -> None:
    lines = shown(nodes_of([task("one"), task("two"), task("three")], {}))[2:]

    columns = [line.index("●") for line in lines]
    assert all(one != other for one, other in itertools.pairwise(columns))


def test_a_terminal_that_knows_ascii_only_gets_a_graph_too() -> None:
    lines = shown(nodes_of(SHOP, STAGES), plain=True)

    assert all(line.isascii() for line in lines)
    assert "+-|-|-*  lint" in lines


def test_a_run_shows_how_far_each_task_is_and_why() -> None:
    tasks = [task("build"), task("unit", "build", shards={"count": 2}), task("ask", "unit", uses="approve")]
    waits = a_task("ask", index=3, attempt=0, reason="WaitingForApproval", message="ship it?")
    half = a_task("unit", index=2, startTime="2026-05-01T12:04:00Z", reason="Running")

    under_way = shown(nodes_of(tasks, {}, a_run(taskVerdicts="PP..", tasks=[half, waits])))[2:]
    bad = a_task("unit", index=2, verdict="Failed", reason="TestsFailed", shard=1)
    over = shown(nodes_of(tasks, {}, ended("Failed", "TestsFailed", taskVerdicts="PPFS", tasks=[bad])))[2:]

    assert under_way == ["✔  build  Passed", "▶  unit x2  Running 1/2", "·  ask (approve)  Waiting WaitingForApproval"]
    assert over == ["✔  build  Passed", "✘  unit x2  Failed TestsFailed", "○  ask (approve)  Skipped"]


def test_more_lines_than_anybody_can_follow_become_words() -> None:
    many = [task(f"t{number}") for number in range(MOST_LANES + 1)]
    lines = shown(nodes_of([*many, task("last", *(one["name"] for one in many))], {}))

    assert lines[2:4] == ["1  ●  t0", "   ●  t1"]
    assert lines[-1] == "2  ●  last  ← t0, t1, t2, t3 and 9 more"


def test_a_thousand_tasks_fit_eighty_columns_and_a_moment() -> None:
    tasks = [task(f"{'x' * 50}{number}", *(f"{'x' * 50}{n}" for n in range(max(0, number - 50), number)))
             for number in range(1000)]  # fmt: skip
    started = time.monotonic()
    lines = shown(nodes_of(tasks, {}))

    assert time.monotonic() - started < 10
    assert len(lines) == 1002
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([task("a", "b"), task("b", "c"), task("c", "b")], "in a circle: (b → c → b|c → b → c)"),
        ([task("a", "a")], "in a circle: a → a"),
        ([task("a", "ghost")], r"tasks\[a\].needs: no task is named 'ghost'"),
        ([task("a"), task("a")], "two tasks are named 'a'"),
        ([task("a", "tidy"), task("tidy")], "a task of finally, which comes later"),
    ],
)
def test_a_graph_that_cannot_be_is_told_and_not_drawn(tasks: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        nodes_of(tasks, {"tidy": "finally"})


def test_text_of_others_cannot_take_over_the_terminal() -> None:
    lines = shown(nodes_of([task("a", when="x\x1b[2J[red]")], {}))

    assert lines[-1] == "●  a  when x\\x1b[2J[red]"


def test_other_programs_get_every_task_and_every_need() -> None:
    nodes = nodes_of(SHOP, STAGES)

    told = graph_json(drawing(nodes))["tasks"]
    dot, mermaid = graph_dot(drawing(nodes)), graph_mermaid(drawing(nodes))

    needs = sum(len(one["needs"]) for one in told)
    assert [one["name"] for one in told if one["stage"] != "tasks"] == ["report", "tidy"]
    assert (dot.count("->"), mermaid.count("-->")) == (needs, needs)
    assert '"unit" -> "e2e";' in dot
    assert 'subgraph finally\n    t8["tidy"]' in mermaid


def test_verdicts_are_only_told_where_they_belong_to_these_tasks() -> None:
    tasks = [task("a", matrix={"x": ["1", "2"], "y": ["1", "2"]}), task("b", shards={"count": 3})]

    assert letters_of(tasks, "PPPPFFF") == {"a": "PPPP", "b": "FFF"}
    assert letters_of(tasks, "PPP") == {}
