"""Workflow: a reusable graph of tasks, and what starts it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dawg_orchestrator.resources.conditions import Condition
from dawg_orchestrator.resources.model import Duration, Model, Time, parse_duration
from dawg_orchestrator.resources.task import Glob, ObjectName, PriorityName, Task, rule, validated
from dawg_orchestrator.resources.testrun import GIT_URL_PATTERN, MAX_TASKS, Concurrency, SecretReference


class Parameter(Model):
    """A typed value that a run may set."""

    name: str = Field(min_length=1, max_length=63, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")
    type: Literal["string", "integer", "number", "boolean", "duration"] = "string"
    description: str | None = Field(default=None, max_length=1024)
    default: str | None = Field(default=None, max_length=4096)
    enum: list[Annotated[str, Field(max_length=256)]] = Field(default_factory=list, max_length=64)
    required: bool = False


class TriggerGate(Model):
    """Publish the verdict of each run to the commit's forge. The Workflow's author needs the verb ``gate`` on it."""

    repository: str | None = Field(default=None, min_length=1, max_length=512)  # None: as the address says
    context: str | None = Field(default=None, min_length=1, max_length=128)  # None: dawg/ and the Workflow's name
    on_flaky: Literal["Allow", "Block"] = "Allow"


_HOOK_IS_SIGNED = rule(
    "!has(self.webhook) || !self.webhook || has(self.webhookSecretRef)",
    "webhook: true needs webhookSecretRef: the Secret that the forge signs with",
)


class RepositoryTrigger(Model):
    """A repository that is looked at now and then, and at once when a webhook says so."""

    model_config = validated(_HOOK_IS_SIGNED)

    url: str = Field(min_length=1, max_length=2048, pattern=GIT_URL_PATTERN)
    paths: list[Glob] = Field(default_factory=list, max_length=64)  # empty: whatever has changed
    poll: Duration = parse_duration("30s")
    webhook: bool = False
    webhook_secret_ref: SecretReference | None = None
    credentials_secret_ref: SecretReference | None = None
    gate: TriggerGate | None = None


class GitTrigger(RepositoryTrigger):
    """A push to a branch."""

    branches: list[Glob] = Field(default_factory=lambda: ["**"], min_length=1, max_length=32)


BaseGlob = Annotated[Glob, Field(max_length=200)]
PullRequestEvent = Literal["opened", "updated"]
_ALL_EVENTS: tuple[PullRequestEvent, ...] = ("opened", "updated")


class PullRequestTrigger(RepositoryTrigger):
    """A pull request into one of the branches; forks run only as the policy says."""

    model_config = validated(
        _HOOK_IS_SIGNED,
        rule(
            "!has(self.gate) || !has(self.test) || self.test == 'Head'",
            "gate holds exactly the commit that was tested, which a merge commit is not: set test: Head, or leave"
            " gate out",
        ),
    )

    repository: str | None = Field(default=None, min_length=1, max_length=512)  # None: as the address says
    branches: list[BaseGlob] = Field(default_factory=lambda: ["**"], min_length=1, max_length=32)
    events: list[PullRequestEvent] = Field(default_factory=lambda: [*_ALL_EVENTS], min_length=1, max_length=2)
    drafts: bool = True
    test: Literal["Head", "Merge"] = "Head"
    forks: Literal["Never", "Approved", "Sandbox"] = "Never"


class LabelSelector(Model):
    """As in the Kubernetes API; labels and fields that must match."""

    match_labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict, max_length=32)


class TestRunFailedTrigger(Model):
    """A run of depth 0 failed."""

    __test__ = False

    selector: LabelSelector = LabelSelector()
    auto_fixable: bool | None = None


class DeploymentTrigger(Model):
    """A Deployment was rolled out."""

    selector: LabelSelector = LabelSelector()
    event: Literal["RolledOut"] = "RolledOut"


class WebhookTrigger(Model):
    """A signed request came in."""

    event: str = Field(min_length=1, max_length=128)
    secret_ref: SecretReference


class Trigger(Model):
    """Exactly one thing that starts the workflow; mergeGroup goes with pullRequest."""

    model_config = validated(
        rule(
            "!has(self.mergeGroup) || !self.mergeGroup || has(self.pullRequest)",
            "mergeGroup goes with pullRequest, whose repository it looks at",
        ),
        rule(
            "(has(self.git) ? 1 : 0) + (has(self.pullRequest) || has(self.mergeGroup) ? 1 : 0)"
            " + (has(self.testRunFailed) ? 1 : 0) + (has(self.deployment) ? 1 : 0)"
            " + (has(self.webhook) ? 1 : 0) == 1",
            "name exactly one of git, pullRequest (and mergeGroup), testRunFailed, deployment and webhook",
        ),
    )

    git: GitTrigger | None = None
    pull_request: PullRequestTrigger | None = None
    merge_group: bool | None = None
    test_run_failed: TestRunFailedTrigger | None = None
    deployment: DeploymentTrigger | None = None
    webhook: WebhookTrigger | None = None


class BuiltinPools(Model):
    """Which pools run the built-in steps; the two kinds of credentials never share a pod."""

    llm: ObjectName | None = None
    forge: ObjectName | None = None


class RiskRule(Model):
    """Changes below these paths have at least this level of risk."""

    paths: list[Glob] = Field(min_length=1, max_length=64)
    level: PriorityName


class WorkflowSpec(Model):
    """A graph of tasks with parameters."""

    description: str | None = Field(default=None, max_length=4096)
    parameters: list[Parameter] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    pool: ObjectName = "default"
    priority: PriorityName = "medium"
    tasks: list[Task] = Field(
        min_length=1,
        max_length=MAX_TASKS,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    on_failure: list[Task] = Field(default_factory=list, max_length=64)
    finally_: list[Task] = Field(default_factory=list, max_length=64, alias="finally")
    triggers: list[Trigger] = Field(default_factory=list, max_length=32)
    concurrency: Concurrency | None = None
    builtin_pools: BuiltinPools | None = None
    risk: list[RiskRule] = Field(default_factory=list, max_length=64)
    fail_fast: bool = False
    timeout: Duration | None = None


class WorkflowStatus(Model):
    """Whether the workflow can run, and what it did last."""

    term: int | None = None
    observed_generation: int | None = None
    last_run: str | None = Field(default=None, max_length=253)
    last_verdict: str | None = Field(default=None, max_length=64)
    last_run_time: Time | None = None
    triggers: dict[str, Any] | None = None
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
