"""The kinds of calls at which hack/chaos lets faults strike."""

from __future__ import annotations

from collections import Counter

import pytest

from chaosruns.calls import event_kind, is_write, kind_of
from chaosruns.campaign import next_batch, points_at, troubles
from chaosruns.faults import KILLS, faults_of

OURS = {"User-Agent": "dawg-controller"}


@pytest.mark.parametrize(
    ("method", "path", "query", "kind"),
    [
        ("PATCH", "/apis/dawg.dev/v1alpha1/namespaces/n/testruns/r/status", {}, "controller patch testruns/status"),
        ("GET", "/apis/dawg.dev/v1alpha1/namespaces/n/testruns", {"limit": "500"}, "controller list testruns"),
        ("GET", "/apis/dawg.dev/v1alpha1/namespaces/n/testruns", {"watch": "true"}, "controller watch testruns"),
        ("GET", "/api/v1/namespaces/n/pods/p", {}, "controller get pods"),
        ("POST", "/apis/batch/v1/namespaces/n/jobs", {}, "controller create jobs"),
        ("DELETE", "/apis/batch/v1/namespaces/n/jobs/j", {}, "controller delete jobs"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", {}, "controller replace leases"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {}, "controller create tokenreviews"),
        ("GET", "/apis", {}, "controller discover"),
        ("GET", "/apis/apps/v1", {}, "controller discover"),
    ],
)
def test_a_call_is_known_by_who_does_what_to_which_resource(
    method: str, path: str, query: dict[str, str], kind: str
) -> None:
    assert kind_of(method, path, query, OURS) == kind


def test_watches_of_the_framework_are_told_apart_from_our_own_calls() -> None:
    path = "/apis/batch/v1/namespaces/n/jobs"
    kind = kind_of("GET", path, {"watch": "true"}, {"User-Agent": "kopf/1.44"})

    assert (kind, event_kind(kind)) == ("watcher watch jobs", "watcher event jobs")


def test_conflicts_and_repeated_requests_strike_writes_alone() -> None:
    assert is_write("controller patch testruns/status")
    assert {"409", "duplicate", "replay"} <= set(faults_of("controller patch testruns/status"))
    assert not {"409", "duplicate", "replay"} & set(faults_of("controller list testruns"))
    assert "silent" in faults_of("watcher event testruns")


def test_every_recorded_kind_gets_its_points_and_each_is_struck_once() -> None:
    calls = Counter({"controller create jobs": 1, "elector replace leases": 9, "watcher event pods": 3})
    waiting = [*points_at(calls), *troubles(2)]
    assert len(set(waiting)) == len(waiting)

    struck = []
    while waiting:
        batch = next_batch(waiting)
        waiting = [point for point in waiting if point not in batch]
        struck += batch
        assert len(batch) == 1 or len({point.kind for point in batch}) == len(batch)
        assert sum(point.fault in KILLS for point in batch) <= 3
    assert {point.kind for point in struck} == {*calls, ""}
