"""History takes every run, so that one cannot keep the others out."""

from __future__ import annotations

from hypothesis import given

from builders import run_object
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.testrun import RunRecord, record_of
from poison import JsonObject, examples, specs, statuses


async def test_any_run_with_any_status_is_recorded(history: History) -> None:
    records: list[RunRecord] = []

    @examples(80)
    @given(specs("TestRun"), statuses("TestRun"))
    def draw(spec: JsonObject, status: JsonObject) -> None:
        run = run_object(f"run{len(records)}") | {"spec": spec, "status": {**status, "verdict": "Failed"}}
        records.append(record_of(run))

    draw()
    for record in records:
        await history.runs.record([record])

    uids = [record.run["uid"] for record in records]
    assert await history.runs.recorded(uids) == set(uids)
