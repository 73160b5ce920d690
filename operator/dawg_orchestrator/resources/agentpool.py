"""AgentPool: the workers, how many, and how they run tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dawg_orchestrator.resources.conditions import Condition
from dawg_orchestrator.resources.model import Duration, Model, Time, parse_duration
from dawg_orchestrator.resources.task import (
    ENV_NAME_PATTERN,
    EnvVar,
    ObjectName,
    Quantity,
    ResourceAmounts,
    Scheduling,
    Service,
    rule,
    validated,
)

MAX_SLOTS = 64


class ScalingWindow(Model):
    """From each time of ``cron`` (UTC) on, for ``for``, the pool keeps at least ``minAgents``."""

    cron: str = Field(min_length=9, max_length=128)
    for_: Duration = Field(alias="for")
    min_agents: int = Field(ge=0, le=1000)


class Scaling(Model):
    """How the number of agents follows the queue."""

    scale_down_after: Duration = parse_duration("60s")
    burst_agents: int = Field(default=0, ge=0, le=1000)
    schedule: list[ScalingWindow] = Field(default_factory=list, max_length=16)


class ImagePullSecret(Model):
    """A Secret of type dockerconfigjson in the pool's namespace."""

    name: ObjectName


class Volume(Model):
    """A volume that carries no credential and outlives no pod: emptyDir, configMap or ephemeral."""

    model_config = validated(
        rule(
            "(has(self.emptyDir) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.ephemeral) ? 1 : 0) == 1",
            "a volume is exactly one of emptyDir, configMap and ephemeral",
        )
    )

    name: str = Field(min_length=1, max_length=63)
    mount_path: str = Field(min_length=1, max_length=1024, pattern=r"^/")
    read_only: bool = False
    empty_dir: dict[str, Any] | None = None
    config_map: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None


class PodTemplate(Model):
    """What a pool's author may say about pods: no service account, host field or security context."""

    image: str | None = Field(default=None, min_length=1, max_length=512)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: list[ImagePullSecret] = Field(default_factory=list, max_length=8)
    resources: ResourceAmounts | None = None
    scheduling: Scheduling | None = None
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    volumes: list[Volume] = Field(default_factory=list, max_length=16)


class PoolSecret(Model):
    """One key of a Secret that every task of a Process pool sees; labelled dawg.dev/for-tests like a task's."""

    name: ObjectName
    key: str = Field(min_length=1, max_length=253)
    env: str = Field(min_length=1, max_length=128, pattern=ENV_NAME_PATTERN)


class GitSecret(Model):
    """A git Secret that runs in the pool, or triggers it looks after, may name; agents hold it, tests never see it."""

    name: ObjectName


class WarmSpec(Model):
    """What tasks of a Process pool share instead of saying it themselves; image, resources and env are jobTemplate's.

    ``workspace`` bounds what a slot's tasks may write, in memory; ``preload`` names modules that every slot imports
    once, so that tasks whose command is ``[pytest, …]`` start as a fork of it.
    """

    workspace: Quantity = "1Gi"
    processes: int = Field(default=1024, ge=16, le=65536)
    services: list[Service] = Field(default_factory=list, max_length=8)
    secrets: list[PoolSecret] = Field(default_factory=list, max_length=64)
    git_secrets: list[GitSecret] = Field(default_factory=list, max_length=16)
    preload: list[Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]] = Field(
        default_factory=list, max_length=32
    )


class StepSecret(Model):
    """One key of a Secret as a variable of a Builtin pool's agents; the Secret carries the label dawg.dev/for-steps."""

    model_config = validated(
        rule(
            "!self.env.startsWith('DAWG_') || self.env == 'DAWG_LLM_MODEL'",
            "names that start with DAWG_ are the product's own, such as whom an agent talks to; choose another",
        )
    )

    name: ObjectName
    key: str = Field(min_length=1, max_length=253)
    env: str = Field(min_length=1, max_length=128, pattern=ENV_NAME_PATTERN)


class ForgeSecret(Model):
    """A Secret by which agents write to a forge; it carries the label dawg.dev/for-steps."""

    name: ObjectName


class BuiltinSpec(Model):
    """What the agents of a Builtin pool hold: steps name a variable, which holds a whole address; triggers a Secret."""

    secrets: list[StepSecret] = Field(default_factory=list, max_length=64)
    git_secrets: list[GitSecret] = Field(default_factory=list, max_length=16)
    forge_secrets: list[ForgeSecret] = Field(default_factory=list, max_length=16)


class KueueSpec(Model):
    """Jobs are created suspended and labelled; Kueue admits them."""

    queue_name: str = Field(min_length=1, max_length=253)
    priority_class: str | None = Field(default=None, max_length=253)


class AgentPoolSpec(Model):
    """Between ``minAgents`` and ``maxAgents`` agents, each with ``slots`` tasks at a time."""

    model_config = validated(
        rule("self.minAgents <= self.maxAgents", "minAgents may not be larger than maxAgents"),
        rule("self.executor == oldSelf.executor", "executor is immutable: create another pool instead"),
        rule("!has(self.warm) || self.executor == 'Process'", "warm goes with executor: Process"),
        rule("!has(self.builtin) || self.executor == 'Builtin'", "builtin goes with executor: Builtin"),
        rule("!has(self.kueue) || self.executor == 'Job'", "kueue goes with executor: Job"),
        rule(
            "self.trust == 'trusted' || !has(self.warm) || !has(self.warm.secrets) || size(self.warm.secrets) == 0",
            "the tasks of an untrusted pool get no Secrets",
        ),
        rule(
            "!has(self.builtin) || !has(self.builtin.forgeSecrets) || size(self.builtin.forgeSecrets) == 0"
            " || !has(self.builtin.secrets) || !self.builtin.secrets.exists(one, one.env == 'OPENAI_API_KEY')",
            "a language model's key and forgeSecrets never share a pod: make a pool for each",
        ),
    )

    min_agents: int = Field(default=1, ge=0, le=1000)
    max_agents: int = Field(default=5, ge=1, le=1000)
    slots: int = Field(default=4, ge=1, le=MAX_SLOTS)
    executor: Literal["Job", "Process", "Builtin"] = "Job"
    trust: Literal["trusted", "untrusted"] = "trusted"
    aging: Duration = parse_duration("10m")
    scaling: Scaling = Scaling()
    max_task_duration: Duration = parse_duration("1h")
    template: PodTemplate = PodTemplate()
    job_template: PodTemplate = PodTemplate()
    warm: WarmSpec | None = None
    builtin: BuiltinSpec | None = None
    kueue: KueueSpec | None = None
    paused: bool = False


class AgentPoolStatus(Model):
    """What the pool's agents are doing."""

    term: int | None = None
    observed_generation: int | None = None
    agents: int = 0
    ready_agents: int = 0
    desired_agents: int = 0
    busy_slots: int = 0
    utilization: Annotated[int, Field(ge=0, le=100)] = 0
    queued_tasks: int = 0
    oldest_queued_seconds: int | None = None
    last_scale_time: Time | None = None
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
