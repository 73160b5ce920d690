"""The process that fits one model: samples come in by stdin, the model goes out by stdout, both as JSON.

    python -m dawg_orchestrator.api.fitter      {"trainedAt": …, "samples": [[features, failed], …]}
                                            ──► {"model": {…}} or {"why": "…"}

It alone loads scikit-learn. The api goes before it on the CPU, it has a bound on its memory, and when memory is
short it is the one to go, so that it can harm the api neither by its work nor by its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MOST_MEMORY = 512 * 2**20  # bytes; with 50,000 samples it takes 200 MiB


def main() -> None:
    """Read, fit, write."""
    _step_back()
    asked = json.load(sys.stdin)
    json.dump(fitted(asked), sys.stdout)


def fitted(asked: dict[str, Any]) -> dict[str, Any]:
    """What the samples come to."""
    from dawg_orchestrator.learning.commitfeatures import Features
    from dawg_orchestrator.learning.fitting import fit
    from dawg_orchestrator.learning.risksamples import NoModel, Sample

    samples = [Sample(Features(*features), failed) for features, failed in asked["samples"]]
    found = fit(samples, datetime.fromisoformat(asked["trainedAt"]).astimezone(UTC))
    return {"why": found.why} if isinstance(found, NoModel) else {"model": found.model_dump(mode="json")}


def _step_back() -> None:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main()
