"""Workflows as a table, and one of them described. Pure: JSON in, something to print out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dawg_orchestrator.client.view_lists import condition_of, table
from dawg_orchestrator.client.wording import age, verdict_word, word
from dawg_orchestrator.resources.names import SUITE, watch_id

JsonObject = Mapping[str, Any]

_MOST_BRANCHES = 5  # that are shown of one repository


def workflows_view(workflows: Sequence[JsonObject], namespace: str, now: datetime) -> RenderableType:
    """What can be started, what came of it last; below, why one cannot be started."""
    if not workflows:
        return Text(f"namespace {namespace!r} has no Workflow; `kubectl apply -f examples/workflow.yaml` makes one")
    shown = table("WORKFLOW", "READY", "SUITE", "LAST RUN", "VERDICT", "WHEN", "DESCRIPTION")
    for workflow in workflows:
        status = workflow.get("status") or {}
        shown.add_row(
            word(workflow["metadata"]["name"]), word(condition_of(workflow, "Ready").get("status", "-")),
            word(_suite(workflow)), word(status.get("lastRun") or "-"), verdict_word(status.get("lastVerdict")),
            _when(status, now), word(_first_line(workflow)),
        )  # fmt: skip
    return Group(shown, *_not_ready(workflows))


def workflow_view(workflow: JsonObject, now: datetime) -> RenderableType:
    """What somebody wants to know who is about to start it."""
    metadata, spec, status = workflow["metadata"], workflow.get("spec") or {}, workflow.get("status") or {}
    name = metadata["name"]
    ready = condition_of(workflow, "Ready")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("Workflow", word(f"{metadata['namespace']}/{name}"))
    if spec.get("description"):
        facts.add_row("for", word(spec["description"]))
    facts.add_row("ready", word(f"{ready.get('status', 'not looked at yet')} {_reason(ready)}".strip()))
    facts.add_row("suite", word(_suite(workflow)))
    if status.get("lastRun"):
        last = f"{status['lastRun']} {status.get('lastVerdict')}, {_when(status, now)}"
        facts.add_row("last run", word(last))
    for trigger in spec.get("triggers") or ():
        facts.add_row("started by", word(_trigger(trigger)))
        if seen := _seen(trigger, status):
            facts.add_row("", word(seen))
    watching = condition_of(workflow, "Watching")
    if watching.get("status") not in (None, "True"):
        facts.add_row("not watching", word(f"{watching.get('reason')}: {watching.get('message')}"))
    tasks = sum(len(spec.get(stage) or ()) for stage in ("tasks", "onFailure", "finally"))
    facts.add_row("tasks", word(f"{tasks}, which `dawg graph {name}` draws"))
    return Group(facts, *_parameters(spec.get("parameters") or ()))


def _parameters(declared: Sequence[JsonObject]) -> Iterator[RenderableType]:
    if not declared:
        return
    shown = table("PARAMETER", "TYPE", "DEFAULT", "VALUES", "DESCRIPTION")
    for parameter in declared:
        default = "required" if parameter.get("required") else parameter.get("default", "-")
        shown.add_row(
            word(parameter["name"]), word(parameter.get("type", "string")), word(default),
            word(", ".join(parameter.get("enum") or ()) or "any"), word(parameter.get("description") or ""),
        )  # fmt: skip
    yield Text("")
    yield shown


def _trigger(trigger: JsonObject) -> str:
    if git := trigger.get("git"):
        return f"a push to {', '.join(git.get('branches') or ['*'])} of {git['url']}"
    if webhook := trigger.get("webhook"):
        return f"the webhook {webhook['event']}"
    if "testRunFailed" in trigger:
        return "a run that failed"
    if "deployment" in trigger:
        return "a Deployment that was rolled out"
    asked = trigger.get("pullRequest") or {}
    queue = ", and its merge queue" if trigger.get("mergeGroup") else ""
    return f"a pull request into {', '.join(asked.get('branches') or ['**'])} of {asked.get('url')}{queue}"


def _seen(trigger: JsonObject, status: JsonObject) -> str:
    """The commits that were detected last on the branches of a push's repository, and answered."""
    git = trigger.get("git") or {}
    watch = watch_id(git.get("url", ""), (git.get("credentialsSecretRef") or {}).get("name"))
    noted = ((status.get("triggers") or {}).get("git") or {}).get(watch) or {}
    branches = [f"{branch} at {str(commit)[:12]}" for branch, commit in (noted.get("branches") or {}).items()]
    more = [f"{len(branches) - _MOST_BRANCHES} more branches"] if len(branches) > _MOST_BRANCHES else []
    return f"seen: {', '.join([*branches[:_MOST_BRANCHES], *more])}" if git and branches else ""


def _not_ready(workflows: Sequence[JsonObject]) -> Iterator[Text]:
    for workflow in workflows:
        ready = condition_of(workflow, "Ready")
        if ready.get("status") == "False":
            yield Text.assemble((f"{word(workflow['metadata']['name'])}", "bold"), " is not ready: ", _reason(ready))


def _reason(ready: JsonObject) -> str:
    if ready.get("status") != "False":
        return ""
    return str(word(f"{ready.get('reason')}: {ready.get('message')}"))


def _suite(workflow: JsonObject) -> str:
    return str((workflow["metadata"].get("labels") or {}).get(SUITE) or "-")


def _when(status: JsonObject, now: datetime) -> str:
    last = status.get("lastRunTime")
    return f"{age(last, now)} ago" if last else "-"


def _first_line(workflow: JsonObject) -> str:
    return str((workflow.get("spec") or {}).get("description") or "").strip().partition("\n")[0]
