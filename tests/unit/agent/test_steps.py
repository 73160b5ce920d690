"""What steps make of what they see, without a network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import pytest
from grpc_health.v1 import health_pb2 as pb

from dawg_agent.steps import collect_metrics, detect_anomalies, health_check, notify, rollback
from dawg_agent.steps.about import About, listed
from dawg_agent.steps.addresses import Addresses
from dawg_agent.steps.faults import StepBroken, StepFailed
from dawg_agent.steps.health_check import Finding
from dawg_agent.steps.notify import Heard, is_due, with_told
from dawg_agent.steps.probes import health_request, health_state, host_and_port
from dawg_agent.steps.prometheus import QueryFailed, Sample, samples_of
from dawg_agent.steps.quantities import amount
from dawg_agent.steps.rollback import Revision
from dawg_orchestrator.resources.protocol import EndedTask
from unit.agent.pods import NOON

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


def test_news_say_what_ended_badly_first_and_then_what_else_was_done() -> None:
    lines = notify.what_ended(about(check="Passed", smoke="Failed", repair="Skipped", rollback="Passed")).splitlines()

    assert [line.partition(" ")[0] for line in lines] == ["smoke:", "check:", "rollback:"]


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


def a_deployment(*, annotations: Mapping[str, str] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "uid": "web-uid", "generation": 4, "annotations": dict(annotations or {})},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"observedGeneration": 4} | status,
    }


def a_replica_set(number: int, hash_: str, owner: str = "web-uid") -> dict[str, Any]:
    labels = {"app": "web", "pod-template-hash": hash_}
    return {
        "metadata": {
            "labels": labels, "ownerReferences": [{"uid": owner}],
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
        },
        "spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": [{"image": hash_}]}}},
    }  # fmt: skip


def revisions(*replica_sets: dict[str, Any]) -> list[Revision]:
    return rollback.revisions_of(a_deployment(), replica_sets)


OLD_BAD_GOOD = revisions(a_replica_set(9, "bad"), a_replica_set(10, "newest"), a_replica_set(2, "old"))


def test_a_deployment_goes_back_to_the_revision_before_the_newest() -> None:
    others = a_replica_set(11, "other", owner="somebody-else")
    found = revisions(a_replica_set(9, "good"), a_replica_set(10, "bad"), a_replica_set(2, "old"), others)

    assert [revision.number for revision in found] == [10, 9, 2]
    previous = rollback.previous_revision(a_deployment(), found)
    assert (previous.number, previous.hash) == (9, "good")
    assert previous.template["metadata"]["labels"] == {"app": "web"}


def test_without_an_earlier_revision_or_while_paused_there_is_no_way_back() -> None:
    paused = a_deployment()
    paused["spec"]["paused"] = True

    with pytest.raises(StepFailed, match="no earlier revision"):
        rollback.previous_revision(a_deployment(), revisions(a_replica_set(1, "only")))
    with pytest.raises(StepFailed, match="is paused"):
        rollback.previous_revision(paused, OLD_BAD_GOOD)


def test_what_a_rollback_gave_up_is_not_brought_back() -> None:
    brought_back = a_deployment(annotations={"dawg.dev/rolled-back-by": "one", "dawg.dev/rolled-back-to": "newest"})

    assert rollback.already_done(brought_back, OLD_BAD_GOOD, "one")
    assert not rollback.already_done(brought_back, OLD_BAD_GOOD, "two")
    with pytest.raises(StepFailed, match="brought back by run one already"):
        rollback.previous_revision(brought_back, OLD_BAD_GOOD)


def test_after_another_deployment_there_is_a_way_back_again() -> None:
    deployed_since = a_deployment(annotations={"dawg.dev/rolled-back-by": "one", "dawg.dev/rolled-back-to": "bad"})

    assert not rollback.already_done(deployed_since, OLD_BAD_GOOD, "one")
    assert rollback.previous_revision(deployed_since, OLD_BAD_GOOD).hash == "bad"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"observedGeneration": 3}, "not seen by its controller"),
        ({"replicas": 4, "updatedReplicas": 2}, "2 of 3 pods are of the earlier revision"),
        ({"replicas": 4, "updatedReplicas": 3}, "1 pods of the later revision are not gone"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 1}, "1 of 3 pods are available"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, ""),
    ],
)
def test_a_rollout_is_over_when_all_pods_are_of_the_revision_and_available(status: dict[str, Any], state: str) -> None:
    assert rollback.rollout_state(a_deployment(**status)) == state


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("250m", 0.25), ("9n", 9e-9), ("1Ki", 1024.0), ("2Mi", 2.0 * 2**20), ("3", 3.0), ("1e3", 1000.0), ("1k", 1000.0)],
)  # fmt: skip
def test_quantities_are_numbers(quantity: str, number: float) -> None:
    assert amount(quantity) == pytest.approx(number)


def test_the_use_of_pods_is_summed_over_their_containers() -> None:
    pods = [
        {"containers": [{"usage": {"cpu": "100m", "memory": "1Mi"}}, {"usage": {"cpu": "150m", "memory": "1Mi"}}]},
        {"containers": [{"usage": {"cpu": "1", "memory": "2Mi"}}]},
    ]

    assert collect_metrics.usage(pods, "cpu") == pytest.approx(1.25)
    assert collect_metrics.usage(pods, "memory") == 4 * 2**20


def test_one_result_bears_the_name_of_its_query_and_several_their_labels() -> None:
    several = [Sample({"__name__": "up", "job": "web"}, 1), Sample({"job": 'a"b'}, 0)]

    assert collect_metrics.series_of("up", several[:1]) == {"up": 1}
    assert collect_metrics.series_of("up", several) == {'up{job="web"}': 1, 'up{job="a\\"b"}': 0}


def test_metrics_are_left_though_something_did_not_answer_and_what_is_no_number_is_said() -> None:
    gathered = collect_metrics.Gathered(faults=["web: no answer in time"])
    gathered.take("a", 1.5)
    gathered.take("b", float("nan"))
    outcome = collect_metrics.outcome_of(gathered)

    assert (outcome.passed, outcome.outputs) == (False, {"metrics": '{"a":1.5}'})
    assert outcome.message == "1 series; no answer from web: no answer in time; nothing of b is nan"


def test_more_series_than_an_output_may_hold_are_refused_with_a_remedy() -> None:
    gathered = collect_metrics.Gathered({f"series-{number:04}": 1.0 for number in range(1000)})

    with pytest.raises(StepFailed, match="sum up in the queries"):
        collect_metrics.outcome_of(gathered)


def test_series_are_learnt_once_and_an_anomaly_is_told() -> None:
    value: dict[str, Any] = {}
    for number in range(200):
        at = NOON + timedelta(minutes=5 * number)
        value = detect_anomalies.learnt(value, {"latency": 100.0 + number % 5, "other": 1.0}, f"run-{number}/0", at)
    strange = detect_anomalies.learnt(value, {"latency": 900.0}, "run-strange/0", NOON + timedelta(days=1))
    again = detect_anomalies.learnt(strange, {"latency": 900.0}, "run-strange/0", NOON + timedelta(days=1))

    assert again == strange
    outcome = detect_anomalies.outcome_of(strange["last"]["findings"], fail=True)
    assert (outcome.passed, outcome.outputs) == (False, {"anomalies": "1", "series": "latency"})
    assert outcome.message.startswith("1 of 1 series are out of the ordinary: latency: 900, expected")
    assert detect_anomalies.outcome_of(strange["last"]["findings"], fail=False).passed
    assert len(json.dumps(value)) < 256 * 1024 / detect_anomalies.MOST_SERIES * 2


def test_what_is_learnt_is_bounded_to_the_series_that_were_seen_last() -> None:
    early = {f"early-{number}": 1.0 for number in range(detect_anomalies.MOST_SERIES)}
    value = detect_anomalies.learnt({}, early, "run-1/0", NOON)
    value = detect_anomalies.learnt(value, {"late": 1.0}, "run-2/0", NOON + timedelta(minutes=5))

    assert len(value["series"]) == detect_anomalies.MOST_SERIES
    assert "late" in value["series"]


@pytest.mark.parametrize("given", ["", "[]", '{"a": "x"}', "{", '{"a": null}'])
def test_metrics_that_are_none_are_refused(given: str) -> None:
    with pytest.raises(StepFailed, match=r"with\.metrics"):
        detect_anomalies.read_metrics(given)
