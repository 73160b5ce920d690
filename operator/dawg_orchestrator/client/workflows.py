"""Workflows as the person handles them: list, read, and the run that starts one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator import __version__
from dawg_orchestrator.client.connection import Cluster, JsonObject, resource_path
from dawg_orchestrator.client.exits import GAVE_UP, CommandFailed
from dawg_orchestrator.errors import InvalidSpec, NotFound
from dawg_orchestrator.resources.names import API_VERSION, SUITE
from dawg_orchestrator.resources.parameters import parameters_of
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import Parameter

_PLURAL = "workflows"
_LONGEST_PREFIX = 52  # of a name to which the apiserver adds five characters, so that it may be a label's value
_DEFAULTS = TestRunSpec().wire()


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the person wrote beside the Workflow's name."""

    parameters: Sequence[str] = ()
    priority: str | None = None
    pool: str | None = None
    git_url: str | None = None
    revision: str | None = None


def list_workflows(cluster: Cluster, namespace: str, suite: str | None = None) -> list[JsonObject]:
    """The Workflows of the namespace, or those of a suite, by name."""
    query = {"labelSelector": f"{SUITE}={suite}"} if suite is not None else None
    try:
        found = cluster.items(resource_path(_PLURAL, namespace), query)
    except NotFound as error:
        raise CommandFailed("the cluster has no workflows.dawg.dev: install the dawg chart first", GAVE_UP) from error
    return sorted(found, key=lambda workflow: str(workflow["metadata"]["name"]))


def get_workflow(cluster: Cluster, namespace: str, name: str) -> JsonObject:
    """The Workflow, or NotFound."""
    try:
        return cluster.get(resource_path(_PLURAL, namespace, name))
    except NotFound as error:
        message = f"namespace {namespace!r} has no Workflow {name!r}; `dawg workflows` lists those it has"
        raise NotFound(message, error.status) from error


def why_not_ready(workflow: Mapping[str, Any]) -> str | None:
    """Why none of its runs can be carried out, as far as the controller has looked at it as it is now."""
    status = workflow.get("status") or {}
    if status.get("observedGeneration") != workflow["metadata"].get("generation"):
        return None
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason"))
    return None


def run_of(workflow: Mapping[str, Any], asked: Asked) -> JsonObject:
    """The TestRun that starts the Workflow; InvalidSpec names the parameter or option that is wrong."""
    metadata, spec = workflow["metadata"], workflow.get("spec") or {}
    wrong = why_not_ready(workflow)
    if wrong is not None:
        raise InvalidSpec(f"Workflow {metadata['name']}", f"cannot be carried out: {wrong}")
    wanted: JsonObject = {"workflowRef": {"name": metadata["name"]}}
    given = _read(asked.parameters)
    _check(spec.get("parameters") or (), given)
    if given:
        wanted["parameters"] = given
    for field, value in (("priority", asked.priority), ("pool", asked.pool)):
        if value is not None:
            _check_counts(field, value, spec.get(field))
            wanted[field] = value
    if asked.revision is not None and asked.git_url is None:
        raise InvalidSpec("--revision", "goes with --git URL")
    if asked.git_url is not None:
        revision = {"revision": asked.revision} if asked.revision is not None else {}
        wanted["source"] = {"git": {"url": asked.git_url, **revision}}
    return {
        "apiVersion": API_VERSION, "kind": "TestRun", "spec": wanted,
        "metadata": {"generateName": prefix(metadata["name"]), "namespace": metadata["namespace"]},
    }  # fmt: skip


def prefix(name: str) -> str:
    """The start of the names of runs that are made from something of this name."""
    return name[:_LONGEST_PREFIX].strip("-.") + "-"


def _read(settings: Iterable[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise InvalidSpec("--param", f"{setting!r} is not NAME=VALUE")
        if name in given:
            raise InvalidSpec("--param", f"{name} is given twice")
        given[name] = value
    return given


def _check(declared: Iterable[JsonObject], given: Mapping[str, str]) -> None:
    try:
        parameters = [Parameter.model_validate(one) for one in declared]
    except ValidationError as error:
        message = f"its parameters are not known to dawg {__version__}; update dawg to the cluster's release"
        raise CommandFailed(message, GAVE_UP) from error
    parameters_of(parameters, given, "--param ")


def _check_counts(field: str, value: str, own: str | None) -> None:
    """A run that says what is the default anyway has said nothing, so the Workflow's own word would count."""
    default = _DEFAULTS[field]
    if value == default and own not in (None, default):
        message = f"{value} is what a run has by default, so the Workflow's own {field} {own!r} would count"
        raise InvalidSpec(f"--{field}", f"{message}; name another, or change the Workflow")
