"""How far a commit reaches, how risky it is, and why."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.learning.changes import ChangedFile
from dawg_orchestrator.learning.cochange import CoChanges, co_changes, failing_tests
from dawg_orchestrator.learning.components import touched_by
from dawg_orchestrator.learning.impact import (
    Evidence,
    Impact,
    block_decision,
    estimated_seconds,
    judge,
    rank_tests,
    with_probability,
)
from dawg_orchestrator.learning.importgraph import ImportGraph
from dawg_orchestrator.learning.riskrules import LEVELS, Level, is_graver
from dawg_orchestrator.resources.workflow import RiskRule


def changed(*paths: str, lines: int = 10) -> list[ChangedFile]:
    return [ChangedFile(path, added=lines, deleted=0) for path in paths]


def judged(files: Sequence[ChangedFile], **more: object) -> Impact:
    touched = touched_by((path for file in files for path in file.paths), None)
    return judge(Evidence(files=files, touched=touched, **more))  # type: ignore[arg-type]


def rules(*pairs: tuple[str, Level]) -> list[RiskRule]:
    return [RiskRule(paths=[glob], level=level) for glob, level in pairs]


@pytest.mark.parametrize(
    ("path", "level", "area"),
    [
        ("src/ai/prompt.py", "critical", "ai"),
        ("backend/orders.go", "critical", "backend"),
        ("db/migrations/0001.sql", "critical", "backend"),
        ("shop/api/orders.py", "high", "api"),
        ("shop/integrations/stripe.py", "high", "integrations"),
        (".github/workflows/ci.yml", "high", "delivery"),
        ("frontend/src/cart.tsx", "medium", "ui"),
        ("shop/cart.py", "medium", "code"),
        ("docs/guide.md", "low", "documentation"),
        ("src/ai/README.md", "low", "documentation"),
        ("tests/api/test_orders.py", "low", "tests"),
        ("requirements.txt", "high", "delivery"),
    ],
)
def test_where_nobody_says_otherwise_the_kind_of_area_decides(path: str, level: Level, area: str) -> None:
    impact = judged(changed(path))

    assert (impact.level, impact.areas, impact.source) == (level, (area,), "rules")
    assert path in impact.reasons[0]


def test_the_gravest_of_all_rules_that_fit_any_file_counts() -> None:
    files = changed("docs/a.md", "shop/cart.py", "web/x.css")

    assert judged(files).level == "medium"
    assert judged(files, rules=rules(("shop/**", "critical"), ("shop/cart.py", "low"))).level == "critical"
    assert judged(files, rules=rules(("**", "low"))).level == "medium"


def test_a_workflows_rule_counts_for_documentation_and_tests_that_it_names_and_nothing_else_does() -> None:
    files = changed("docs/law.md", "tests/test_pay.py", lines=100_000)

    assert judged(files).level == "low"
    assert judged(files).score < 0.1
    assert judged(files, rules=rules(("docs/law.md", "high"))).level == "high"


def test_code_that_was_moved_into_tests_is_as_risky_as_where_it_was() -> None:
    moved = ChangedFile("tests/pay.py", "renamed", 0, 0, old_path="backend/pay.py")

    assert judged([moved]).level == "critical"


def test_a_submodule_or_link_among_documentation_is_no_documentation() -> None:
    assert judged([ChangedFile("docs/theme", kind="submodule")]).level == "high"
    assert judged([ChangedFile("docs/a.md", kind="symlink")], rules=()).score >= 0


def test_files_that_nobody_looked_at_are_not_low() -> None:
    impact = judged(changed("docs/a.md"), more_files=5)

    assert impact.level == "high"
    assert "5 more files were not looked at" in impact.reasons


def test_a_change_that_much_depends_on_is_higher_than_its_path() -> None:
    graph = ImportGraph({f"shop/m{number}.py": {"shop/cart.py"} for number in range(99)} | {"shop/cart.py": set()})
    files = changed("shop/cart.py", "web/a.py", "lib/b.py", "tool/c.py", "bin/d.py", lines=400)

    impact = judged(files, imports=graph)

    assert impact.parts["centrality"] == 1.0
    assert impact.level == "high"
    assert "99 files depend on shop/cart.py" in impact.reasons


def test_generated_files_do_not_make_a_commit_large() -> None:
    small = judged(changed("web/a.css"))
    locked = judged([*changed("web/a.css"), ChangedFile("web/yarn.lock", added=50_000, deleted=9000)])

    assert locked.parts["size"] == small.parts["size"]


_FILES = st.lists(
    st.sampled_from(["src/ai/x.py", "api/y.py", "web/z.css", "docs/a.md", "tests/test_q.py", "lib/k.py"]),
    min_size=1, max_size=6, unique=True,
)  # fmt: skip


@given(_FILES, st.integers(0, 10**9), st.sampled_from(LEVELS), st.floats(0, 1))
def test_scores_stay_in_their_range_and_rules_and_models_only_raise(
    paths: list[str], lines: int, level: Level, probability: float
) -> None:
    files = changed(*paths, lines=lines)
    plainly = judged(files)
    ruled = judged(files, rules=rules(("**", level)))
    modelled, _ = with_probability(plainly.level, "rules", probability)

    assert 0 <= plainly.score <= 1
    assert not is_graver(plainly.level, ruled.level)
    assert not is_graver(level, ruled.level)
    assert not is_graver(plainly.level, modelled)


@pytest.mark.parametrize(
    ("probability", "level", "source"),
    [(None, "medium", "rules"), (0.1, "medium", "rules"), (0.6, "high", "model"), (0.8, "critical", "model")],
)
def test_the_graver_of_rules_and_model_counts_and_says_whose_word_it_is(
    probability: float | None, level: Level, source: str
) -> None:
    assert with_probability("medium", "rules", probability) == (level, source)


def test_tests_are_ranked_by_nearness_and_by_what_the_past_says() -> None:
    graph = ImportGraph(
        {"shop/cart.py": set(), "shop/pay.py": {"shop/cart.py"}, "tests/test_cart.py": {"shop/cart.py"},
         "tests/test_pay.py": {"shop/pay.py"}, "tests/helpers.py": {"shop/cart.py"}}
    )  # fmt: skip
    past = co_changes([("shop/cart.py", "e2e/test_buy.py")] * 9 + [("shop/cart.py",)], {"shop/cart.py"})
    evidence = Evidence(
        files=changed("shop/cart.py"), touched=touched_by(["shop/cart.py"], None), together=past, imports=graph,
        present=frozenset({*graph.imports, "e2e/test_buy.py"}),
        failing={"tests/test_pay.py": 0.4, "tests/gone.py": 1.0},
    )  # fmt: skip

    ranked = rank_tests(evidence, graph.reached(["shop/cart.py"]))

    calm = rank_tests(replace(evidence, failing={}), graph.reached(["shop/cart.py"]))
    assert calm == ["e2e/test_buy.py", "tests/test_cart.py", "tests/test_pay.py"]
    assert ranked == ["e2e/test_buy.py", "tests/test_pay.py", "tests/test_cart.py"]


def test_the_duration_of_unknown_tests_is_that_of_the_others_and_is_counted() -> None:
    assert estimated_seconds(["a", "b", "c"], {"a": 10.0, "b": 20.0}) == (45.0, 1)
    assert estimated_seconds(["a"], {}) == (0.0, 1)


@pytest.mark.parametrize(
    ("level", "at", "block"),
    [("high", "high", True), ("critical", "high", True), ("medium", "high", False), ("critical", None, False)],
)
def test_a_level_blocks_from_the_one_on_that_was_named(level: Level, at: Level | None, block: bool) -> None:
    decided, why = block_decision(level, at, 0.25)

    assert decided is block
    assert why


# Imports


def test_what_a_change_reaches_is_found_by_breadth_and_cycles_end() -> None:
    graph = ImportGraph({"b": {"a"}, "c": {"b"}, "a": {"c"}, "test_d.py": {"c", "a"}})

    reached = graph.reached(["a"])

    assert reached.distances == {"a": 0, "b": 1, "test_d.py": 1, "c": 2}
    assert (reached.tests, reached.cut) == ({"test_d.py": 1}, False)


def test_a_reach_that_is_cut_says_so() -> None:
    chain = ImportGraph({f"m{number + 1}": {f"m{number}"} for number in range(50)})

    assert chain.reached(["m0"], deepest=5).cut
    assert len(chain.reached(["m0"], most=7).distances) == 7
    assert not chain.reached(["m0"], deepest=50).cut


@given(st.dictionaries(st.integers(0, 12), st.sets(st.integers(0, 12), max_size=4), max_size=13))
def test_what_is_reached_is_the_closure_over_importers(edges: dict[int, set[int]]) -> None:
    graph = ImportGraph({str(one): {str(other) for other in others} for one, others in edges.items()})
    closure = {"0"}
    while grown := {one for one, others in graph.imports.items() if one not in closure and closure & set(others)}:
        closure |= grown

    assert set(graph.reached(["0"], deepest=99).distances) == closure


# What changes together


def counted(commits: Iterable[Sequence[str]], of: set[str]) -> CoChanges:
    return co_changes(commits, of, half_life=1e12)


def test_support_confidence_and_lift_are_those_of_their_definitions() -> None:
    commits = [("a", "b"), ("a", "b"), ("a", "b", "c"), ("a",), ("b",), ("c",), ("d",), ("d",)]

    pair = next(one for one in counted(commits, {"a"}).pairs if one.partner == "b")

    assert (pair.times, round(pair.support, 6), round(pair.confidence, 6)) == (3, 3.0, 0.75)
    assert pair.lift == pytest.approx(0.75 / (4 / 8))


def test_a_file_that_usually_changes_too_and_did_not_is_a_miss() -> None:
    commits = [("model.py", "schema.sql"), ("model.py", "schema.sql"), ("model.py", "schema.sql"), *[("x",)] * 9]

    past = counted(commits, {"model.py"})

    assert [pair.partner for pair in past.misses({"model.py"})] == ["schema.sql"]
    assert past.misses({"model.py", "schema.sql"}) == []
    assert past.misses({"model.py"}, present={"model.py"}) == []


def test_bulk_commits_say_nothing_and_are_counted() -> None:
    bulk = tuple(f"f{number}" for number in range(40))

    past = counted([bulk, ("f1", "f2")], {"f1"})

    assert (past.commits, past.bulk, [pair.partner for pair in past.pairs]) == (1, 1, ["f2"])


def test_what_was_long_ago_weighs_less() -> None:
    commits = [("a", "new")] * 10 + [("a", "old")] * 10

    past = co_changes(commits, {"a"}, half_life=5)

    confidence = {pair.partner: pair.confidence for pair in past.pairs}
    assert confidence["new"] == pytest.approx(0.8, abs=1e-9)
    assert confidence["old"] == pytest.approx(0.2, abs=1e-9)


def test_counts_are_those_of_a_plain_count_over_random_histories() -> None:
    dice = random.Random(7)  # noqa: S311
    commits = [tuple(dice.sample("abcdefgh", dice.randint(1, 4))) for _ in range(300)]

    for pair in counted(commits, {"a", "b"}).pairs:
        both = sum(pair.path in one and pair.partner in one for one in commits)
        mine, theirs = (sum(name in one for one in commits) for name in (pair.path, pair.partner))
        assert pair.times == both
        assert pair.confidence == pytest.approx(both / mine)
        assert pair.lift == pytest.approx(both * len(commits) / mine / theirs)


def test_tests_that_fail_with_these_paths_are_found() -> None:
    history = [(("a.py",), ("t1",)), (("a.py", "b.py"), ("t1", "t2")), (("b.py",), ("t3",)), (("a.py",), ())]

    assert failing_tests(history, {"a.py"}, half_life=1e12) == {"t1": 0.667, "t2": 0.333}
