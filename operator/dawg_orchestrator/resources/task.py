"""A task as people declare it, in a TestRun or in a Workflow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema

from dawg_orchestrator.resources.model import Duration, Model, parse_duration

TASK_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
RELATIVE_PATH_PATTERN = r"^[^/\x00][^\x00]*$"

TaskName = Annotated[str, Field(min_length=1, max_length=63, pattern=TASK_NAME_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
Glob = Annotated[str, Field(min_length=1, max_length=256, pattern=RELATIVE_PATH_PATTERN)]
# Bounded, because the apiserver computes with what it is given: 1e99999999 keeps it busy for minutes.
QUANTITY_PATTERN = r"^([0-9]{1,18}(\.[0-9]{0,9})?|\.[0-9]{1,9})([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
# YAML makes a number of `cpu: 2`; the API keeps it as one.
Quantity = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
        }
    ),
]
PriorityName = Literal["critical", "high", "medium", "low"]
StepName = Literal[  # what resources/steps.py describes
    "analyze-changes", "predict-risks", "run-tests", "gate", "analyze-failure", "propose-fix", "apply-fix",
    "verify-fix", "open-pull-request", "health-check", "collect-metrics", "detect-anomalies", "remember", "recall",
    "notify", "update-dashboard", "retrain-model", "rollback", "start-workflow", "approve",
]  # fmt: skip


RULES = "x-kubernetes-validations"


def rule(expression: str, message: str) -> dict[str, JsonValue]:
    """A CEL validation of the CRD; ``self`` is the object that carries it."""
    return {"rule": expression, "message": message}


def validated(*rules: dict[str, JsonValue]) -> ConfigDict:
    """The configuration of a model whose schema carries these validations."""
    return ConfigDict(json_schema_extra={RULES: list(rules)})


class EnvVar(Model):
    """A plain environment variable; values of Secrets come through ``secrets``."""

    model_config = validated(
        rule("!self.name.startsWith('DAWG_')", "names that start with DAWG_ are the product's own; choose another")
    )

    name: str = Field(min_length=1, max_length=128, pattern=ENV_NAME_PATTERN)
    value: str = Field(default="", max_length=32768)


class TaskSecret(Model):
    """One key of a Secret as an environment variable. The Secret carries the label dawg.dev/for-tests: 'true'."""

    name: ObjectName
    key: str = Field(min_length=1, max_length=253)
    env: str = Field(min_length=1, max_length=128, pattern=ENV_NAME_PATTERN)


class ResourceAmounts(Model):
    """Requests and limits as in a container."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)


class Toleration(Model):
    """As in a pod."""

    key: str | None = Field(default=None, max_length=316)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Scheduling(Model):
    """Where a pod may run."""

    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict, max_length=32)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32)


class HttpProbe(Model):
    """Ready when this address of the service answers with 2xx or 3xx."""

    path: str = Field(default="/", max_length=1024)
    port: int = Field(ge=1, le=65535)


class Readiness(Model):
    """When a service counts as started: exactly one of the three."""

    model_config = validated(
        rule(
            "(has(self.tcp) ? 1 : 0) + (has(self.http) ? 1 : 0) + (has(self.exec) ? 1 : 0) == 1",
            "name exactly one of tcp, http and exec",
        )
    )

    tcp: int | None = Field(default=None, ge=1, le=65535)
    http: HttpProbe | None = None
    exec: list[Annotated[str, Field(max_length=4096)]] | None = Field(default=None, min_length=1, max_length=64)
    timeout: Duration = parse_duration("2m")


class Service(Model):
    """A container beside the test, reached on localhost; the test starts when it is ready."""

    name: TaskName
    image: str = Field(min_length=1, max_length=512)
    command: list[Annotated[str, Field(max_length=4096)]] = Field(default_factory=list, max_length=64)
    args: list[Annotated[str, Field(max_length=4096)]] = Field(default_factory=list, max_length=64)
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    readiness: Readiness | None = None
    resources: ResourceAmounts | None = None


class TaskInput(Model):
    """Files of an earlier task, put at the same path below this task's working directory."""

    from_: TaskName = Field(alias="from")
    path: str = Field(min_length=1, max_length=256, pattern=RELATIVE_PATH_PATTERN)


class TestListing(Model):
    """How the tests of a task are listed and named, so that single ones can be chosen."""

    __test__ = False

    list: str = Field(min_length=1, max_length=4096)
    ids: Literal["pytest", "lines"] = "pytest"


class Shards(Model):
    """Into how many parts a task is cut: a count, or as many as keep each below a duration."""

    model_config = validated(
        rule("has(self.count) != has(self.targetDuration)", "set either count or targetDuration"),
        rule("!has(self.max) || has(self.targetDuration)", "max goes with targetDuration"),
    )

    count: int | None = Field(default=None, ge=1, le=256)
    target_duration: Duration | None = None
    max: int | None = Field(default=None, ge=1, le=256)


class Backoff(Model):
    """Wait before the next attempt: ``initial * factor ** (attempt - 1)``, at most ``max``, with up to 20 % jitter."""

    initial: Duration = parse_duration("5s")
    factor: int = Field(default=2, ge=1, le=10)
    max: Duration = parse_duration("5m")
    jitter: bool = True


class InfraRetry(Model):
    """Further attempts after infrastructure failed."""

    limit: int = Field(default=3, ge=0, le=10)


class TestsRetry(Model):
    """Further attempts after tests failed; one that then passes is Flaky, never Passed."""

    __test__ = False

    limit: int = Field(default=0, ge=0, le=10)
    scope: Literal["all", "failedOnly"] = "all"


class Retry(Model):
    """Further attempts, by what went wrong."""

    infra: InfraRetry = InfraRetry()
    tests: TestsRetry = TestsRetry()
    backoff: Backoff = Backoff()


class Results(Model):
    """What a task leaves behind, as globs below its working directory or $DAWG_RESULTS."""

    junit: list[Glob] = Field(default_factory=list, max_length=32)
    artifacts: list[Glob] = Field(default_factory=list, max_length=32)
    coverage: list[Glob] = Field(default_factory=list, max_length=32)


class Cache(Model):
    """Inputs that decide the verdict; the same ones give the earlier verdict, marked as cached."""

    key: list[Annotated[str, Field(max_length=256)]] = Field(min_length=1, max_length=32)


class OnFailure(Model):
    """What happens to the pod of a task that failed."""

    hold: Duration | None = None


class Task(Model):
    """One thing to run: a script or command in an image, or a built-in step."""

    model_config = validated(
        rule(
            "(has(self.run) ? 1 : 0) + (has(self.command) ? 1 : 0) + (has(self.uses) ? 1 : 0) == 1",
            "a task has exactly one of run (a script), command (a list) and uses (a built-in step)",
        ),
        rule("!has(self.with) || has(self.uses)", "with goes with uses"),
        rule(
            "!has(self.shards) || !has(self.shards.targetDuration) || has(self.tests)",
            "shards.targetDuration needs tests, which says how single tests are listed",
        ),
        rule(
            "!has(self.retry) || !has(self.retry.tests) || !has(self.retry.tests.scope)"
            " || self.retry.tests.scope != 'failedOnly' || has(self.tests)",
            "retry.tests.scope: failedOnly needs tests, which says how single tests are listed",
        ),
    )

    name: TaskName
    pool: ObjectName | None = None
    image: str | None = Field(default=None, min_length=1, max_length=512)
    run: str | None = Field(default=None, min_length=1, max_length=65536)
    command: list[Annotated[str, Field(max_length=32768)]] | None = Field(default=None, min_length=1, max_length=256)
    uses: StepName | None = None
    with_: dict[str, Any] | None = Field(default=None, alias="with")
    needs: list[TaskName] = Field(default_factory=list, max_length=256)
    when: str | None = Field(default=None, min_length=1, max_length=2048)
    matrix: dict[
        Annotated[str, Field(max_length=63)],
        Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=64)],
    ] = Field(default_factory=dict, max_length=8)
    tests: TestListing | None = None
    shards: Shards | None = None
    priority: PriorityName | None = None
    critical: bool = False
    exclusive: bool = False
    inputs: list[TaskInput] = Field(default_factory=list, max_length=32)
    outputs: list[TaskName] = Field(default_factory=list, max_length=32)
    env: list[EnvVar] = Field(default_factory=list, max_length=256)
    secrets: list[TaskSecret] = Field(default_factory=list, max_length=64)
    resources: ResourceAmounts | None = None
    services: list[Service] = Field(default_factory=list, max_length=8)
    scheduling: Scheduling | None = None
    timeout: Duration | None = None
    retry: Retry = Retry()
    results: Results = Results()
    cache: Cache | None = None
    on_failure: OnFailure | None = None
