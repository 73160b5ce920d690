"""The built-in steps: what ``uses:`` may name, what ``with`` says to each, what it leaves, and who carries it out.

A value of ``with`` may be written as ``{cel: EXPRESSION}`` over params and the tasks that have ended; it is worked out
when the step begins. A ``Target`` is an address: written out when it is no secret, else named as ``{secret: ENV}``, one
of the pool's own variables, which holds the whole address, so that no credential can be sent to another host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.model import Duration, Model, parse_duration
from dawg_orchestrator.resources.names import BUILTIN_POOL
from dawg_orchestrator.resources.task import ENV_NAME_PATTERN, ObjectName, PriorityName, Task

RECOMMENDED_PARAMETER = "recommended"  # of a Workflow that wants to know which tests to run first
CEL = "cel"  # the only key of a value that is worked out when the step begins


_MOST_NAMES = 50


def _listed(value: Any) -> Any:
    """A list, also when an earlier step left it as text: a JSON array, or names with commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _hinted(value: Any) -> Any:
    """As much of a list as counts: what an agent says of what comes first must not fail a step."""
    found = _listed(value)
    return [str(one) for one in found if isinstance(one, str | int)][:_MOST_NAMES] if isinstance(found, list) else found


Names = Annotated[list[ObjectName], BeforeValidator(_listed), Field(max_length=_MOST_NAMES)]
Hints = Annotated[list[str], BeforeValidator(_hinted)]  # names of which some may not be there


class Inputs(Model):
    """What a step takes; a field that it does not know is a mistake worth telling."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class SecretAddress(Inputs):
    """One of the pool's variables that holds the whole address."""

    secret: str = Field(min_length=1, max_length=128, pattern=ENV_NAME_PATTERN)


Target = Annotated[str, Field(min_length=1, max_length=2048)] | SecretAddress


class RunTests(Inputs):
    """Start every Workflow of these suites (label dawg.dev/suite) and these Workflows, and wait for their verdicts."""

    suites: Names = Field(default_factory=list)
    workflows: Names = Field(default_factory=list)
    parameters: dict[str, str] = Field(default_factory=dict, max_length=64)
    priority: PriorityName | None = None  # at most the run's own
    first: Hints = Field(default_factory=list)  # Workflows that are likely to fail, the most likely first
    recommended: Hints = Field(default_factory=list)  # test files to run first, for Workflows that want to know

    @model_validator(mode="after")
    def _something(self) -> RunTests:
        if not self.suites and not self.workflows:
            raise ValueError("name suites or workflows")
        return self


class StartWorkflow(Inputs):
    """Start one Workflow; with ``wait`` the step ends as its run does."""

    workflow: ObjectName
    parameters: dict[str, str] = Field(default_factory=dict, max_length=64)
    priority: PriorityName | None = None
    wait: bool = True


class Gate(Inputs):
    """Decide over what the task needs whether the merge is allowed; later tasks cannot change it."""

    block: bool = False  # whether the merge is blocked though all tests pass, as predict-risks may advise


class Approve(Inputs):
    """Wait until somebody who has the verb ``approve`` on Workflows approves or rejects."""

    message: str = Field(default="", max_length=1024)
    timeout: Duration = parse_duration("1h")


class HttpCheck(Inputs):
    """Healthy when the address answers as expected."""

    url: Target
    status: int | None = Field(default=None, ge=100, le=599)  # None: any 2xx or 3xx
    contains: str | None = Field(default=None, max_length=1024)


class GrpcCheck(Inputs):
    """Healthy when the standard health service answers SERVING."""

    address: str = Field(min_length=3, max_length=512)  # host:port
    service: str = Field(default="", max_length=256)
    tls: bool = False


class PrometheusCheck(Inputs):
    """Healthy when the query gives at least one sample (an alerting expression is written the other way round)."""

    url: Target
    query: str = Field(min_length=1, max_length=4096)


class Check(Inputs):
    """One thing to look at: exactly one of the six kinds."""

    name: str = Field(min_length=1, max_length=63)
    http: HttpCheck | None = None
    tcp: Annotated[str, Field(min_length=3, max_length=512)] | None = None  # host:port
    postgres: Target | None = None  # postgresql://user:password@host/database
    redis: Target | None = None  # redis://:password@host:port/0
    grpc: GrpcCheck | None = None
    prometheus: PrometheusCheck | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Check:
        kinds = (self.http, self.tcp, self.postgres, self.redis, self.grpc, self.prometheus)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("name exactly one of http, tcp, postgres, redis, grpc and prometheus")
        return self


class HealthCheck(Inputs):
    """Look at each target; the step fails when one is not healthy, and each counts as a test."""

    checks: list[Check] = Field(min_length=1, max_length=100)
    timeout: Duration = parse_duration("5s")  # of one try
    attempts: int = Field(default=2, ge=1, le=10)


class PrometheusQuery(Inputs):
    """An instant query; with several results each becomes a series of its own, named with its labels."""

    name: str = Field(min_length=1, max_length=63)
    query: str = Field(min_length=1, max_length=4096)


class PrometheusSource(Inputs):
    """A Prometheus, and what to ask it."""

    url: Target
    queries: list[PrometheusQuery] = Field(min_length=1, max_length=50)


class PodSource(Inputs):
    """CPU (cores) and memory (bytes) of pods, from the metrics API, summed over those that match."""

    name: str = Field(min_length=1, max_length=63)
    match_labels: dict[str, str] = Field(default_factory=dict, max_length=32)


class ResponseTime(Inputs):
    """Milliseconds until the address has answered."""

    name: str = Field(min_length=1, max_length=63)
    url: Target


class CollectMetrics(Inputs):
    """Gather one value a series; the output ``metrics`` is a JSON object of series and values, at most 4 KiB."""

    prometheus: list[PrometheusSource] = Field(default_factory=list, max_length=10)
    pods: list[PodSource] = Field(default_factory=list, max_length=50)
    response_times: list[ResponseTime] = Field(default_factory=list, max_length=50)
    timeout: Duration = parse_duration("10s")


class DetectAnomalies(Inputs):
    """Compare each series with what it was before; what is learnt is kept between runs."""

    metrics: str | dict[str, float]  # as collect-metrics leaves them
    key: str = Field(default="", max_length=253)  # of what is learnt; default: the run's Workflow and the task
    fail: bool = False  # whether an anomaly fails the step


class Notify(Inputs):
    """Tell people: ``to`` are addresses as apprise has them (slack://, mailtos://, …), ``webhooks`` get JSON."""

    to: list[Target] = Field(default_factory=list, max_length=20)
    webhooks: list[Target] = Field(default_factory=list, max_length=20)
    when: Literal["Change", "Always", "Failure"] = "Change"
    healthy: bool | None = None  # None: whether all tasks that have ended before this one are green
    key: str = Field(default="", max_length=253)  # whose change counts; default: the run's Workflow and the task
    title: str = Field(default="", max_length=256)
    text: str = Field(default="", max_length=4096)

    @model_validator(mode="after")
    def _somebody(self) -> Notify:
        if not self.to and not self.webhooks:
            raise ValueError("name somebody in to or webhooks")
        return self


class UpdateDashboard(Inputs):
    """An entry that the api keeps with history."""

    title: str = Field(min_length=1, max_length=256)
    level: Literal["Info", "Warning", "Critical"] | None = None  # None: by the tasks that have ended
    text: str = Field(default="", max_length=4096)
    link: str = Field(default="", max_length=2048)


class Rollback(Inputs):
    """Bring a Deployment back to its previous revision and wait until that is rolled out."""

    deployment: ObjectName
    from_revision: str = Field(default="", max_length=20)  # only if it still is at this one; empty: whatever it is at
    timeout: Duration = parse_duration("5m")


class AnalyzeChanges(Inputs):
    """Say what the run's commit touches and how risky that is; without a base it is compared with its first parent."""

    base: str = Field(default="", pattern=r"^([0-9a-f]{40}([0-9a-f]{24})?)?$")
    history: int = Field(default=1000, ge=0, le=10_000)  # commits that are read for what usually changes together
    files: int = Field(default=5000, ge=1, le=20_000)  # that are read for their imports
    assume: PriorityName = "high"  # the level where the repository cannot be read
    timeout: Duration = parse_duration("5m")
    llm: bool = True  # whether to ask, where the pool has a key
    llm_timeout: Duration = parse_duration("30s")
    llm_tokens: int = Field(default=8000, ge=500, le=100_000)  # of the question, roughly; the answer has 800


class PredictRisks(Inputs):
    """Say what an analysis means: how likely a failure is, what to run first and how long that takes.

    Levels only rise: the graver of the analysis' and the probability's counts.
    """

    analysis: dict[str, str] = Field(default_factory=dict)  # the outputs of analyze-changes; none: nothing is known
    probability: float | None = Field(default=None, ge=0, le=1)  # of a model's
    durations: dict[str, float] = Field(default_factory=dict, max_length=1000)  # seconds of a test, file or suite
    assume: PriorityName = "high"  # the level where there is no analysis
    block_at: PriorityName | None = None  # the level from which on the step advises to block; None: it never does


Runner = Literal["controller", "agent", "later"]


@dataclass(frozen=True, slots=True)
class Step:
    """One built-in step. ``later`` ones are declared, and refuse until the release that brings them."""

    by: Runner
    inputs: type[Inputs] | None = None
    outputs: tuple[str, ...] = ()
    optional: bool = False  # whether a release without it leaves it out instead of failing
    looks_at_source: bool = False  # whether its agent reads the run's repository


ANALYSIS_OUTPUTS = ("level", "score", "components", "areas", "tests", "files", "source", "features", "summary")
PREDICTION_OUTPUTS = ("level", "probability", "areas", "tests", "suites", "durationSeconds", "block", "source")

STEPS: Mapping[str, Step] = {
    "run-tests": Step("controller", RunTests, ("verdict", "runs")),
    "start-workflow": Step("controller", StartWorkflow, ("verdict", "runs")),
    "gate": Step("controller", Gate),
    "approve": Step("controller", Approve, ("by",)),
    "health-check": Step("agent", HealthCheck, ("healthy", "failing")),
    "collect-metrics": Step("agent", CollectMetrics, ("metrics",)),
    "detect-anomalies": Step("agent", DetectAnomalies, ("anomalies", "series")),
    "notify": Step("agent", Notify, ("sent",)),
    "update-dashboard": Step("agent", UpdateDashboard),
    "rollback": Step("agent", Rollback, ("revision",)),
    "analyze-changes": Step("agent", AnalyzeChanges, ANALYSIS_OUTPUTS, looks_at_source=True),
    "predict-risks": Step("agent", PredictRisks, PREDICTION_OUTPUTS, looks_at_source=True),
    "analyze-failure": Step("later"),
    "propose-fix": Step("later"),
    "apply-fix": Step("later"),
    "verify-fix": Step("later"),
    "open-pull-request": Step("later"),
    "remember": Step("later", optional=True),
    "recall": Step("later", optional=True),
    "retrain-model": Step("later", optional=True),
}


def step_of(task: Task) -> Step | None:
    """The built-in step that the task uses; None when it runs a script or command."""
    return STEPS.get(task.uses) if task.uses is not None else None


def pool_that_carries(uses: str | None, own: str | None, pool_of_run: str) -> str:
    """The pool of a task; that of a step which the controller decides is of no account."""
    step = STEPS.get(uses) if uses is not None else None
    return own or (BUILTIN_POOL if step is not None and step.by == "agent" else pool_of_run)


def needs_agent(task: Task) -> bool:
    """Whether an agent carries the task out, in a slot of a pool; the controller decides all others itself."""
    step = step_of(task)
    return step is None or step.by == "agent"


def expressions(task: Task) -> dict[str, str]:
    """The values of ``with`` that are worked out when the step begins."""
    return {
        name: value[CEL] for name, value in (task.with_ or {}).items()
        if isinstance(value, dict) and set(value) == {CEL} and isinstance(value[CEL], str)
    }  # fmt: skip


def read_inputs(field: str, task: Task, worked_out: Mapping[str, Any] | None = None) -> Inputs:
    """What the step is told; InvalidSpec names the value that is wrong. Without ``worked_out`` those are left open."""
    step = STEPS[task.uses or ""]
    assert step.inputs is not None  # noqa: S101
    open_ones = expressions(task)
    given = {name: value for name, value in (task.with_ or {}).items() if name not in open_ones}
    try:
        return step.inputs.model_validate(given | dict(worked_out or {}))
    except ValidationError as error:
        errors = error.errors()
        if worked_out is None and open_ones:
            errors = [one for one in errors if one["loc"] and one["loc"][0] not in open_ones]
            if not errors:
                return step.inputs.model_construct()
        place = ".".join(str(part) for part in (f"{field}.with", *errors[0]["loc"]))
        raise InvalidSpec(place, errors[0]["msg"]) from error
