"""health-check: look at each target; each counts as a test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dawg_agent.steps.about import About, StepOutcome, listed
from dawg_agent.steps.faults import StepFailed
from dawg_agent.steps.probes import expected, look
from dawg_agent.steps.web import said
from dawg_orchestrator.resources.model import format_duration
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.steps import Check, HealthCheck
from dawg_orchestrator.resources.testrun import TestCounts

_AT_ONCE = 20
_MOST_NAMED = 10
_REST = 0.5  # seconds between two tries


@dataclass(frozen=True)
class Finding:
    """What came of one check; ``fault`` is None when the target is healthy."""

    name: str
    tries: int
    fault: str | None = None


async def carry_out(inputs: HealthCheck, about: About) -> StepOutcome:
    """Look at all targets side by side."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def find(check: Check) -> Finding:
        async with turn:
            return await _find(check, inputs, about)

    return outcome_of(await asyncio.gather(*map(find, inputs.checks)))


def outcome_of(findings: list[Finding]) -> StepOutcome:
    """What the findings come to: a check that needed another try is flaky."""
    failing = [finding for finding in findings if finding.fault is not None]
    flaky = sum(finding.tries > 1 for finding in findings if finding.fault is None)
    message = f"all {len(findings)} targets are healthy"
    if failing:
        names = ", ".join(finding.name for finding in failing[:_MOST_NAMED])
        first = f"{failing[0].name}: {failing[0].fault}"
        message = f"{len(failing)} of {len(findings)} targets are not healthy: {names}; {first}"
    return StepOutcome(
        passed=not failing,
        message=message,
        outputs={"healthy": "false" if failing else "true", "failing": listed(finding.name for finding in failing)},
        tests=TestCounts(
            total=len(findings), passed=len(findings) - len(failing) - flaky, failed=len(failing), flaky=flaky
        ),
        failures=tuple(FailedCase(test=finding.name, message=finding.fault or "") for finding in failing),
    )


async def _find(check: Check, inputs: HealthCheck, about: About) -> Finding:
    """Look until the target is healthy, or the tries are used up."""
    fault = ""
    for number in range(1, inputs.attempts + 1):
        began = asyncio.get_running_loop().time()
        try:
            await look(check, about, inputs.timeout)
            return Finding(check.name, number)
        except StepFailed as error:  # the check itself is wrong: another try would see the same
            return Finding(check.name, number, str(error))
        except TimeoutError:
            seen = f"no answer within {format_duration(inputs.timeout)}"
        except Exception as error:  # noqa: BLE001 - whatever a library raises: the target is not healthy
            took = asyncio.get_running_loop().time() - began
            seen = f"{said(error)} after {took * 1000:.0f} ms"
        fault = f"expected {expected(check)}, saw {seen}; try {number} of {inputs.attempts}"
        if number < inputs.attempts:
            await asyncio.sleep(_REST)
    return Finding(check.name, inputs.attempts, fault)
