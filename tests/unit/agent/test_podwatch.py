"""What a view keeps of a pod while newer states of it come in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dawg_agent.podstate import deleted_at, ended_by_itself
from dawg_agent.podwatch import View

ASKED = "2026-03-01T12:05:00Z"  # for the end of a grace of 300 seconds: the deletion was asked for at noon


def test_a_test_that_ended_after_the_deletion_was_asked_for_did_not_end_by_itself() -> None:
    view = View("job", wake=lambda: None)

    view.show(a_pod(deletionTimestamp=ASKED, deletionGracePeriodSeconds=300))
    # The kubelet's last word carries the time at which it was done, a second after the test's end.
    view.show(a_pod("2026-03-01T12:00:07Z", deletionTimestamp="2026-03-01T12:00:08Z", deletionGracePeriodSeconds=0))

    assert view.pod is not None
    assert deleted_at(view.pod) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert ended_by_itself(view.pod, "test") is None


def a_pod(ended: str | None = None, **deletion: Any) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 143, "finishedAt": ended}} if ended else {"running": {}}
    return {
        "metadata": {"name": "p", "uid": "p", "ownerReferences": [{"uid": "job"}], **deletion},
        "spec": {},
        "status": {"containerStatuses": [{"name": "test", "state": state}]},
    }
