"""The reference of reasons: what each means, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from dawg_orchestrator.client.remedies import REMEDIES
from dawg_orchestrator.resources.reasons import Reason
from docgen.markdown import table, with_code

# Each group begins with this reason and reaches to the next one, in the order in which the code lists them.
_GROUPS = {
    Reason.TESTS_PASSED: "Outcomes of tests",
    Reason.IMAGE_PULL: "Outcomes of infrastructure",
    Reason.CANCELLED: "Not run",
    Reason.NOT_SEEN: "Waiting and running",
    Reason.TESTS_PENDING: "Merge",
    Reason.WORKFLOW_READY: "Workflows",
    Reason.SCHEDULED: "Schedules",
    Reason.AGENTS_READY: "Pools",
}
_NOTHING = "Nothing."
# Where `dawg why` has no one line of advice: because all is well, because it looks closer, or because it only reports.
_BESIDE_WHY = {
    Reason.TESTS_PASSED: _NOTHING,
    Reason.STEP_DONE: _NOTHING,
    Reason.FLAKY: "find out which test it was: dawg status NAME; then make it deterministic",
    Reason.INPUT_MISSING: "see the message: the api role did not answer, or the file cannot be unpacked",
    Reason.REPORT_NOT_DELIVERED: "see the sidecar: kubectl -n NAMESPACE logs JOB-POD -c sidecar",
    Reason.COLLECT_FAILED: "see the sidecar: kubectl -n NAMESPACE logs JOB-POD -c sidecar",
    Reason.POOL_NOT_FOUND: "create the AgentPool within five minutes of the run, or name one that exists in spec.pool",
    Reason.NOT_SEEN: "see whether the controller runs, and add the namespace to the chart's value `namespaces`",
    Reason.SEEN: _NOTHING,
    Reason.RESOLVING_REVISION: "nothing; a revision that is a full commit needs no resolving",
    Reason.RUNNING: _NOTHING,
    Reason.TESTS_PENDING: "wait for the verdict",
    Reason.MERGE_ALLOWED: _NOTHING,
    Reason.MERGE_BLOCKED: "look at the task that the message names: dawg why NAME",
    Reason.WORKFLOW_READY: _NOTHING,
    Reason.WATCHING: _NOTHING,
    Reason.TOO_MANY_BRANCHES: "name fewer branches in triggers.git.branches; those that are left out start no runs",
    Reason.FORGE_SECRET_MISSING: "let a Secret in the forge pool's builtin.forgeSecrets name host and repository",
    Reason.NO_MERGE_COMMIT: "set triggers.pullRequest.test: Head",
    Reason.SCHEDULED: _NOTHING,
    Reason.SUSPENDED: "set spec.suspend: false",
    Reason.DEADLINE_PASSED: "raise spec.startingDeadline, or start one now: dawg schedule NAME",
    Reason.OVERTAKEN: "nothing; one run stands for all due times that came while nobody looked",
    Reason.WITHDRAWN: "nothing, or start one now: dawg schedule NAME",
    Reason.STILL_ACTIVE: "shorten the run, or set concurrencyPolicy to Allow or Replace",
    Reason.NO_NEW_COMMITS: "nothing, or start one all the same: dawg schedule NAME",
    Reason.RUN_REFUSED: "correct what the message names in spec.runTemplate",
    Reason.AGENTS_READY: _NOTHING,
    Reason.AGENTS_STARTING: "wait; if it lasts: kubectl -n NAMESPACE describe pods -l dawg.dev/pool=POOL",
    Reason.WITHIN_LIMITS: _NOTHING,
    Reason.AT_MAXIMUM: "raise maxAgents, or let the queue drain",
    Reason.SCALED_UP: _NOTHING,
    Reason.SCALED_DOWN: _NOTHING,
}


class ReasonUnexplained(Exception):
    """Nobody has written what to do about a reason."""


def remedy(reason: Reason) -> str:
    """What to do, with NAME, NAMESPACE and POOL to be filled in; ReasonUnexplained where nobody has written it."""
    text = _BESIDE_WHY.get(reason) or REMEDIES.get(reason)
    if text is None:
        raise ReasonUnexplained(
            f"{reason.value} has no remedy: add one to client/remedies.py or hack/docgen/reasons.py"
        )
    return text.format(name="NAME", namespace="NAMESPACE", pool="POOL") if reason not in _BESIDE_WHY else text


def reasons_reference() -> str:
    """One table for each group."""
    return "\n\n".join(f"### {title}\n\n{_table(reasons)}" for title, reasons in _grouped())


def _grouped() -> Iterator[tuple[str, list[Reason]]]:
    group: list[Reason] = []
    title = ""
    for reason in Reason:
        if reason in _GROUPS:
            if group:
                yield title, group
            title, group = _GROUPS[reason], []
        group.append(reason)
    yield title, group


def _table(reasons: list[Reason]) -> str:
    rows = [(f"`{reason.value}`", reason.sentence, _sentence(remedy(reason)), _retried(reason)) for reason in reasons]
    columns = ["Reason", "Why", "What to do", "Tried again"]
    shown = len(columns) if any(reason.infrastructure for reason in reasons) else len(columns) - 1
    return table(columns[:shown], [row[:shown] for row in rows])


def _retried(reason: Reason) -> str:
    return "yes" if reason.retried else "no"


def _sentence(text: str) -> str:
    return with_code(text[0].upper() + text[1:].removesuffix(".")) + "."
