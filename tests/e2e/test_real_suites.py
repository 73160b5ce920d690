"""Suites that other people wrote count the same in TestRuns as by their own runners."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

COMMAND = Path(__file__).resolve().parents[2] / "hack" / "real-suites"
# The larger ones take minutes on two cores; the command by itself runs them too.
SHORT = ("attrs", "markupsafe", "uuid")
# The command gives up on its own before, and cleans up.
LONGEST_SECONDS = 1800


def test_real_suites_count_the_same_in_testruns_as_by_their_own_runners() -> None:
    chosen = [word for name in SHORT for word in ("--project", name)]
    done = subprocess.run(
        [COMMAND, "--quick", "--output", "json", *chosen],
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )

    assert done.stdout, done.stderr
    compared = {project["project"]: project for project in json.loads(done.stdout)}
    assert [project["differences"] for project in compared.values()] == [[]] * len(SHORT)
    assert done.returncode == 0
    assert sorted(compared) == sorted(SHORT)
    for project in compared.values():
        assert project["ownRunner"]["passed"] > 0
        assert sorted(project["testRuns"]) == ["plain", "shards", "warm"]
    # A failed and a skipped test are among them, so the counts are not equal by being trivial.
    assert compared["attrs"]["ownRunner"]["failed"] > 0
    assert compared["markupsafe"]["ownRunner"]["skipped"] > 0
