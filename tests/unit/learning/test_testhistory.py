"""What tests did lately, and what follows for the next run."""

from __future__ import annotations

import pytest

from dawg_orchestrator.learning.repositories import repository_name
from dawg_orchestrator.learning.testhistory import rate_of, records_of, suites_of
from dawg_orchestrator.resources.protocol import TestRecord


def a_record(place: str, **workflows: tuple[int, int]) -> TestRecord:
    runs, failures = (sum(part) for part in zip(*workflows.values(), strict=True)) if workflows else (1, 0)
    return TestRecord(place=place, runs=runs, failures=failures, seconds=2.0, workflows=workflows)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("tests/test_cart.py", "tests/test_cart.py"),
        ("test_cart.py", "shop/tests/test_cart.py"),  # run in a folder
        ("/dawg/workspace/tests/test_cart.py", "tests/test_cart.py"),  # an absolute path
        ("./tests/test_cart.py", "tests/test_cart.py"),
        ("tests.test_cart", "tests/test_cart.py"),  # pytest's classes, in a module and out of it
        ("tests.test_cart.TestCart", "tests/test_cart.py"),
        ("tests.test_cart.TestCart", "shop/tests/test_cart.py"),
        ("test_cart", "tests/test_cart.py"),
        ("org.shop.CartTest", "src/test/java/org/shop/CartTest.java"),
        ("src/cart.test.ts", "web/src/cart.test.ts"),
        ("forge.example/org/shop/pkg/cart", "pkg/cart/cart_test.go"),  # Go's packages
    ],
)
def test_a_file_is_found_however_a_report_names_it(place: str, path: str) -> None:
    record = a_record(place)

    assert records_of([path], [a_record("other.Thing"), record]) == {path: record}


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("tests/test_cart.py", "tests/test_pay.py"),
        ("tests/test_cart.py", "other/test_cart.py"),
        ("one.test_cart", "two/test_cart.py"),
        ("org.other.CartTest", "src/test/java/org/shop/CartTest.java"),
        ("forge.example/org/shop/pkg/cart", "pkg/pay/pay_test.go"),
        ("forge.example/org/shop/pkg/cart", "pkg/cart/cart.py"),
    ],
)
def test_a_file_is_not_taken_for_another(place: str, path: str) -> None:
    assert records_of([path], [a_record(place)]) == {}


def test_one_failure_in_one_run_is_no_certainty() -> None:
    assert rate_of(a_record("a", unit=(1, 1))) == 0.5
    assert rate_of(a_record("a", unit=(99, 99))) == 0.99
    assert rate_of(a_record("a", unit=(99, 0))) == 0


def test_suites_are_the_workflows_of_these_tests_the_most_likely_to_fail_first() -> None:
    records = {
        "a": a_record("a", unit=(9, 0), e2e=(9, 3)),
        "b": a_record("b", unit=(9, 0), lint=(9, 0)),
        "c": a_record("c", nightly=(9, 9)),
    }

    assert suites_of(["a", "b"], records) == ["e2e", "unit", "lint"]
    assert suites_of(["a", "c"], records)[0] == "nightly"
    assert suites_of(["unknown"], records) == []


@pytest.mark.parametrize(
    "url",
    ["https://forge.example/org/shop.git", "https://Forge.Example:443/org/shop/", "git@forge.example:org/shop.git",
     "ssh://git@forge.example:2222/org/shop", "https://user@forge.example/org/shop"],
)  # fmt: skip
def test_a_repository_has_one_name_however_its_address_is_written(url: str) -> None:
    assert repository_name(url) == "forge.example/org/shop"


def test_other_repositories_have_other_names() -> None:
    urls = ["https://forge.example/org/shop", "https://forge.example/org/Shop", "https://forge.example:8443/org/shop",
            "https://other.example/org/shop", "https://forge.example:nonsense/x"]  # fmt: skip

    assert len({repository_name(url) for url in urls}) == len(urls)
