"""What the benchmark reads from the apiserver's audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import usage
from localcluster import paths


def an_event(verb: str) -> str:
    about = {"resource": "testruns", "subresource": "status"}
    event = {"verb": verb, "objectRef": about, "responseStatus": {"code": 200}, "userAgent": "dawg-controller/1"}
    return json.dumps(event) + "\n"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "AUDIT_LOG", tmp_path / "audit.log")
    return tmp_path / "audit.log"


def test_a_line_counts_that_is_whole_and_began_after_the_measurement_did(log: Path) -> None:
    log.write_text(an_event("update") + an_event("patch")[:20])

    with usage.measured() as used:
        log.write_text(an_event("update") + an_event("patch") + an_event("update") * 2 + an_event("create")[:-1])

    assert used.writes == {"dawg-controller update testruns/status": 2}


def test_a_log_that_was_rotated_meanwhile_counts_from_its_beginning(log: Path) -> None:
    log.write_text(an_event("update") * 3)

    with usage.measured() as used:
        log.write_text(an_event("patch"))

    assert used.writes == {"dawg-controller patch testruns/status": 1}
