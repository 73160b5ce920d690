"""What steps make of what they see, without a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from grpc_health.v1 import health_pb2 as pb

from dawg_agent.steps import health_check, notify
from dawg_agent.steps.about import About, listed
from dawg_agent.steps.addresses import Addresses
from dawg_agent.steps.faults import StepBroken, StepFailed
from dawg_agent.steps.health_check import Finding
from dawg_agent.steps.notify import Heard, is_due, with_told
from dawg_agent.steps.probes import health_request, health_state, host_and_port
from dawg_agent.steps.prometheus import QueryFailed, Sample, samples_of
from dawg_orchestrator.resources.protocol import EndedTask

ILL = {"healthy": False, "step": "earlier/1"}
WELL = {"healthy": True, "step": "earlier/1"}


def about(**tasks: str) -> About:
    nothing: Any = None
    return About(
        namespace="shop", run="watch-1", run_uid="run-1", index=2, task="tell", workflow="watch",
        tasks={name: EndedTask(verdict=verdict) for name, verdict in tasks.items()},
        addresses=Addresses({}), kept=nothing, kube=nothing,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("when", "healthy", "last", "due"),
    [
        ("Change", False, None, True),  # the first word is one of trouble
        ("Change", True, None, False),
        ("Change", False, ILL, False),
        ("Change", True, ILL, True),
        ("Change", True, WELL, False),
        ("Change", False, WELL, True),
        ("Failure", False, ILL, True),
        ("Failure", True, ILL, False),
        ("Always", True, WELL, True),
    ],
)  # fmt: skip
def test_an_address_is_told_when_there_is_news_for_it(
    when: Literal["Change", "Always", "Failure"], healthy: bool, last: Mapping[str, Any] | None, due: bool
) -> None:
    assert is_due(when, healthy=healthy, last=last, step="run-1/2") is due


@pytest.mark.parametrize("when", ["Change", "Always", "Failure"])
def test_a_step_that_is_tried_again_tells_nobody_twice(when: Literal["Change", "Always", "Failure"]) -> None:
    told = with_told({}, "$HOOK", {"healthy": False, "step": "run-1/2"})["told"]["$HOOK"]

    assert not is_due(when, healthy=False, last=told, step="run-1/2")


def test_what_is_kept_of_addresses_is_bounded_and_of_the_newest() -> None:
    value: dict[str, Any] = {}
    for number in range(100):
        value = with_told(value, f"address {number}", {"at": f"2026-01-01T00:00:{number:03}Z"})

    assert len(value["told"]) == 64
    assert "address 99" in value["told"]


def test_who_was_not_told_is_said_with_the_reason() -> None:
    outcome = notify.outcome_of([Heard("A"), Heard("B", "it answers 404", lasting=True)])

    assert (outcome.passed, outcome.outputs) == (False, {"sent": "1"})
    assert outcome.message == "told A; not told: B: it answers 404"
    with pytest.raises(StepBroken, match="told A; not told: B: it answers 503"):
        notify.outcome_of([Heard("A"), Heard("B", "it answers 503")])


def test_a_skipped_task_says_nothing_about_health() -> None:
    assert about(check="Passed", repair="Skipped").not_green == {}
    assert set(about(check="Failed", deploy="InfraError", lint="Flaky").not_green) == {"check", "deploy"}


def test_what_is_kept_belongs_to_the_workflow_and_the_task() -> None:
    first = about()

    assert first.kept_under("notify", "") == "notify/watch/tell"
    assert first.kept_under("notify", "mine") == "notify/mine"
    assert len(dataclasses.replace(first, workflow="w" * 253).kept_under("notify", "")) <= 253


def test_each_check_counts_as_a_test_and_one_that_needed_another_try_is_flaky() -> None:
    outcome = health_check.outcome_of([Finding("web", 1), Finding("db", 2), Finding("cache", 2, "saw nothing")])

    assert outcome.tests is not None
    counts = outcome.tests
    assert (counts.total, counts.passed, counts.flaky, counts.failed) == (3, 1, 1, 1)
    assert outcome.outputs == {"healthy": "false", "failing": "cache"}
    assert [(failure.test, failure.message) for failure in outcome.failures] == [("cache", "saw nothing")]


def test_names_of_an_output_are_cut_whole() -> None:
    assert listed(["a", "b"]) == "a,b"
    assert set(listed([f"name-{number:04}" for number in range(1000)]).split(",")) <= {
        f"name-{number:04}" for number in range(1000)
    }


def test_an_address_of_host_and_port_is_read() -> None:
    assert host_and_port("db:5432") == ("db", 5432)
    assert host_and_port("[::1]:80") == ("::1", 80)
    for wrong in ("db", "db:", ":80", "db:0", "db:x"):
        with pytest.raises(StepFailed):
            host_and_port(wrong)


def test_samples_are_read_from_each_kind_of_answer() -> None:
    vector = {"resultType": "vector", "result": [{"metric": {"job": "web"}, "value": [1, "0.5"]}]}
    scalar = {"resultType": "scalar", "result": [1, "2"]}

    assert samples_of({"status": "success", "data": vector}) == [Sample({"job": "web"}, 0.5)]
    assert samples_of({"status": "success", "data": scalar}) == [Sample({}, 2.0)]
    with pytest.raises(QueryFailed, match="matrix"):
        samples_of({"status": "success", "data": {"resultType": "matrix", "result": []}})
    with pytest.raises(QueryFailed, match="bad_data: parse error"):
        samples_of({"status": "error", "errorType": "bad_data", "error": "parse error"})


def test_the_messages_of_the_grpc_health_service_are_those_of_protobuf() -> None:
    for service in ("", "shop.Cart", "s" * 200):
        assert health_request(service) == pb.HealthCheckRequest(service=service).SerializeToString()
    for state in range(4):
        assert health_state(pb.HealthCheckResponse(status=state).SerializeToString()) == state
