"""Reports of many tools, and files that are none."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dawg_agent.reports import (
    FAILURES_BUDGET,
    ParsedReport,
    ReportBook,
    ReportError,
    name_of,
    parse_report,
    read_report,
)
from dawg_orchestrator.resources.results import Outcome, TestCase

SAMPLES = Path(__file__).parents[2] / "data" / "junit"


def read(text: str | bytes) -> ParsedReport:
    return read_report(io.BytesIO(text.encode() if isinstance(text, str) else text), "report.xml")


def outcomes(report: ParsedReport) -> dict[str, str]:
    return {case.name: case.outcome.value for case in report.cases}


@pytest.mark.parametrize(
    ("file", "expected"),
    [  # total, passed, failed, flaky, skipped, counted by hand
        ("pytest.xml", (5, 2, 2, 0, 1)),
        ("surefire-reruns.xml", (3, 1, 1, 1, 0)),
        ("nested.xml", (3, 2, 1, 0, 0)),
        ("disabled.xml", (5, 1, 1, 0, 3)),
        ("retried-by-repeating.xml", (3, 2, 0, 1, 0)),
        ("control-characters.xml", (1, 0, 1, 0, 0)),
        ("empty-with-bom.xml", (0, 0, 0, 0, 0)),
        ("latin-1.xml", (1, 1, 0, 0, 0)),
    ],
)
def test_real_cases_are_counted_whatever_the_count_attributes_say(file: str, expected: tuple[int, ...]) -> None:
    counts = parse_report(SAMPLES / file).counts

    assert (counts.total, counts.passed, counts.failed, counts.flaky, counts.skipped) == expected


@pytest.mark.parametrize(
    ("file", "because"),
    [
        ("truncated.xml", "malformed XML at line 5.*killed while it wrote"),
        ("external-entity.xml", "DTD"),
        ("not-a-report.xml", "no JUnit report.*<project>"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(file: str, because: str) -> None:
    with pytest.raises(ReportError, match=because):
        parse_report(SAMPLES / file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "{}",
        "Segmentation fault",
        "<html><body/></html>",
        "<testsuite>",
        "<testsuite/><testsuite/>",
        "\x00\x01",
    ],
)
def test_anything_else_is_refused_and_never_crashes(text: str) -> None:
    with pytest.raises(ReportError):
        read(text)


def test_entities_do_not_grow() -> None:
    bomb = '<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><testsuite name="&b;"/>'

    with pytest.raises(ReportError, match="refused"):
        read(bomb)


def test_bottomless_nesting_is_refused() -> None:
    with pytest.raises(ReportError, match="nested deeper"):
        read("<testsuite>" * 5000)


def test_a_failure_tells_message_place_and_output() -> None:
    case = next(case for case in parse_report(SAMPLES / "pytest.xml").cases if case.name == "test_discount")

    assert case.message == "AssertionError: assert 90 == 85"
    assert "tests/test_basket.py:14" in case.details
    assert "applying SPRING" in case.details
    assert name_of(case) == "tests.test_basket::test_discount"


def test_flaky_of_a_rerun_keeps_the_cause() -> None:
    case = next(case for case in parse_report(SAMPLES / "surefire-reruns.xml").cases if case.outcome is Outcome.FLAKY)

    assert case.message == "expected: 1 but was: 2"
    assert "AssertionFailedError" in case.details


def test_same_test_name_in_other_suites_is_another_test() -> None:
    assert [case.suite for case in parse_report(SAMPLES / "nested.xml").cases] == [
        "all > api > v1",
        "all > api > v1 > deep",
        "all > api",
    ]


def test_the_same_test_on_another_machine_is_no_second_try() -> None:
    report = read(
        "<testsuites>"
        '<testsuite name="a" hostname="firefox"><testcase name="t"/></testsuite>'
        '<testsuite name="a" hostname="webkit"><testcase name="t"><failure/></testcase></testsuite>'
        "</testsuites>"
    )

    assert (report.counts.passed, report.counts.failed, report.counts.flaky) == (1, 1, 0)


def test_a_skip_beside_a_pass_is_no_second_try() -> None:
    report = read('<testsuite><testcase name="t"/><testcase name="t"><skipped/></testcase></testsuite>')

    assert (report.counts.passed, report.counts.skipped) == (1, 1)


def test_a_failure_beside_a_skip_in_one_case_is_a_failure() -> None:
    assert outcomes(read('<testsuite><testcase name="t"><skipped/><failure/></testcase></testsuite>')) == {
        "t": "failed"
    }


def test_a_suite_that_broke_before_its_cases_is_a_failed_case() -> None:
    report = read('<testsuite name="db"><error message="no connection"/></testsuite>')

    assert [(case.name, case.outcome, case.message) for case in report.cases] == [
        ("db", Outcome.FAILED, "no connection")
    ]


def test_several_failures_in_one_case_are_one_failed_case() -> None:
    report = read('<testsuite><testcase name="t"><failure message="one"/><error message="two"/></testcase></testsuite>')

    assert report.counts.failed == 1
    assert report.cases[0].message == "one"
    assert "two" in report.cases[0].details


def test_terminal_colours_and_nul_bytes_do_not_cost_the_report() -> None:
    case = parse_report(SAMPLES / "control-characters.xml").cases[0]

    assert case.message == "\ufffd[31mred\ufffd[0m"
    assert "expected\ufffd green" in case.details


def test_a_forbidden_reference_at_the_border_of_two_chunks_is_still_replaced() -> None:
    for padding in range(262_090, 262_108):
        report = read(
            "<testsuite><testcase name='t'><failure>" + "x" * padding + "&#27;&#x1B;</failure></testcase></testsuite>"
        )
        assert report.counts.failed == 1


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso-8859-15", "windows-1252", "cp1252"]
)
def test_every_encoding_of_the_tools_is_read(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><testsuite><testcase name="größer"/></testsuite>'

    assert read(text.encode(encoding)).cases[0].name == "größer"


@pytest.mark.parametrize("declared", ["utf-16", "zip", "no-such", "punycode"])
def test_a_false_or_hostile_encoding_is_read_as_utf_8(declared: str) -> None:
    assert (
        read(f'<?xml version="1.0" encoding="{declared}"?><testsuite><testcase name="ü"/></testsuite>').cases[0].name
        == "ü"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.5", 1.5), ("1,5", 1.5), ("1,234.5", 1234.5), ("nan", 0), ("inf", 0), ("-1", 0), ("soon", 0)],
)
def test_times_of_all_spellings(text: str, seconds: float) -> None:
    assert read(f'<testsuite><testcase name="t" time="{text}"/></testsuite>').cases[0].duration == seconds


def a_case(number: int, outcome: Outcome = Outcome.FAILED, message: str = "no") -> TestCase:
    return TestCase(classname="c", name=f"t{number}", outcome=outcome, message=message)


def test_the_summary_fits_into_status_however_much_failed() -> None:
    book = ReportBook()
    book.add(ParsedReport("a.xml", tuple(a_case(number, message="ü" * 1000) for number in range(500))))
    for number in range(200):
        book.refuse(f"broken-{number}.xml", "is malformed " * 50)
    summary = book.summary(missing=[])

    assert summary.tests is not None
    assert summary.tests.failed == 500
    assert 0 < len(summary.failures) <= 20
    assert sum(len(case.message.encode()) for case in summary.failures) <= FAILURES_BUDGET
    assert len(summary.model_dump_json().encode()) < 24 * 1024


def test_cases_beyond_the_budget_are_counted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dawg_agent.reports.MAX_CASES", 10)
    book = ReportBook()
    book.add(ParsedReport("a.xml", tuple(a_case(number, Outcome.PASSED) for number in range(25))))

    assert book.full().truncated
    assert len(book.full().cases) == 10
    assert book.summary([]).tests.total == 25  # type: ignore[union-attr]
