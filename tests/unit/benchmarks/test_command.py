"""What hack/bench takes, what it counts, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.command import main, told_command
from benchmarks.place import Watched


@pytest.mark.parametrize("arguments", [("--data", "/somewhere/else"), ("--data=/somewhere/else",)])
def test_where_somebody_keeps_the_data_is_not_told(arguments: tuple[str, ...]) -> None:
    told = told_command(["risk", *arguments, "--output", "json"])

    assert told.replace("=", " ") == "hack/bench risk --data DIR --output json"


@pytest.mark.parametrize("tasks", ["0", "70", "1050"])
def test_more_tasks_than_a_run_may_have_are_refused(tasks: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["throughput", "--tasks", tasks])

    assert "at most 1000" in capsys.readouterr().err


async def test_a_run_that_did_not_pass_is_no_speed() -> None:
    finished: dict[str, Any] = {"type": "Finished", "message": "spec.tasks: too many"}
    runs = Watched(
        ended={"good": 1.0, "bad": 2.0},
        objects={
            "good": {"status": {"verdict": "Passed", "conditions": []}},
            "bad": {"status": {"verdict": "Failed", "conditions": [finished]}},
        },
    )

    assert await runs.until_passed("good") == [1.0]
    with pytest.raises(RuntimeError, match="run bad ended Failed: spec"):
        await runs.until_passed("good", "bad")
