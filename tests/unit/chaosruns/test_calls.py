"""The kinds of calls at which hack/chaos lets faults strike."""

from __future__ import annotations

from collections import Counter

import pytest

from chaosruns.calls import event_kind, is_write, kind_of
from chaosruns.faults import faults_of
from chaosruns.points import Point, Queue, points_at

OURS = {"User-Agent": "dawg-controller"}


@pytest.mark.parametrize(
    ("method", "path", "query", "kind"),
    [
        ("PUT", "/apis/dawg.dev/v1alpha1/namespaces/n/testruns/r/status", {}, "controller replace testruns/status"),
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
    assert is_write("controller replace testruns/status")
    assert {"409", "duplicate", "replay"} <= set(faults_of("controller replace testruns/status"))
    assert not {"409", "duplicate", "replay"} & set(faults_of("controller list testruns"))
    assert "silent" in faults_of("watcher event testruns")


def test_every_recorded_kind_gets_its_points_and_each_comes_once() -> None:
    calls = Counter({"controller create jobs": 1, "elector replace leases": 9, "controller list-metadata pods": 3})
    queue = Queue([*points_at(calls), Point("kill-leader", "", 1), Point("kill-leader", "", 2)])
    expected = len(queue)

    come: list[Point] = []
    while queue:
        points = queue.next([])
        come += points
        assert len(points) == 1 or all(point.kind for point in points)
        assert len({point.kind for point in points}) == len(points)
    assert len(set(come)) == len(come) == expected
    assert {point.kind for point in come} == {*calls, ""}


def test_a_kind_of_call_whose_fault_still_waits_gets_no_other() -> None:
    queue = Queue([Point("drop", "controller create jobs"), Point("drop", "controller list jobs")])

    assert queue.next([Point("delay", "controller create jobs")]) == [Point("drop", "controller list jobs")]
