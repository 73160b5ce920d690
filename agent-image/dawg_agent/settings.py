"""The environment → settings that do not change. What is missing or wrong is named together with what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from dawg_orchestrator.resources.model import parse_duration
from dawg_orchestrator.resources.protocol import SidecarOrder

_SECRETS = "/var/run/secrets"


class SettingsError(Exception):
    """A variable of the environment is missing or wrong."""


class _Environment:
    """Reads variables and says which one is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name, "") or default
        if value is None:
            raise SettingsError(f"{name} is not set; the pod's manifest must set it")
        return value

    def number(self, name: str, default: int, least: int) -> int:
        text = self.text(name, str(default))
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise SettingsError(f"{name}={text!r} is not a whole number of at least {least}")
        return int(text)

    def duration(self, name: str, default: str) -> timedelta:
        try:
            return parse_duration(self.text(name, default))
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from error

    def path(self, name: str, default: str) -> Path:
        return Path(self.text(name, default))


@dataclass(frozen=True)
class WarmSettings:
    """Where an agent that runs tasks in its own pod finds its slots."""

    slots_dir: Path  # <slot>/files is what the slot's tests see as /dawg, <slot>/door holds the runner's socket
    cache_dir: Path
    cache_bytes: int
    git_secrets_dir: Path  # a folder for each Secret that runs may name
    node: str


@dataclass(frozen=True)
class StepSettings:
    """What an agent that carries out built-in steps holds."""

    addresses: Mapping[str, str] = field(repr=False)  # what the pool's Secrets hold, by the name that steps use
    git_secrets_dir: Path  # a folder for each Secret that triggers may name
    forge_secrets_dir: Path  # a folder for each Secret by which forges are written to
    mirrors_dir: Path  # of repositories that are watched


@dataclass(frozen=True)
class AgentSettings:
    """What an agent is told by its pod."""

    pool: str
    namespace: str
    pod: str
    slots: int
    controller_host: str
    controller_port: int
    api_url: str
    controller_token: Path
    api_token: Path
    ca: Path
    health_port: int
    leave_within: timedelta  # after SIGTERM: time to hand over results; Jobs go on under another agent
    warm: WarmSettings | None  # None: this agent runs no tasks in its own pod
    steps: StepSettings | None  # None: it carries out no built-in steps


@dataclass(frozen=True)
class SidecarSettings:
    """What a sidecar is told by its pod."""

    order: SidecarOrder
    volume: Path
    git_secret: Path
    token: Path
    ca: Path
    grace: timedelta  # from the test's end until the kubelet kills the sidecar
    checkout_timeout: timedelta


def _host_and_port(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise SettingsError(f"DAWG_CONTROLLER={text!r} is not host:port")
    return host.strip("[]"), int(port)


def read_agent_settings(environ: Mapping[str, str]) -> AgentSettings:
    """Read an agent's environment; raise SettingsError."""
    env = _Environment(environ)
    host, port = _host_and_port(env.text("DAWG_CONTROLLER"))
    executor = env.text("DAWG_EXECUTOR", "Job")
    return AgentSettings(
        pool=env.text("DAWG_POOL"),
        namespace=env.text("DAWG_NAMESPACE"),
        pod=env.text("DAWG_POD"),
        slots=env.number("DAWG_SLOTS", default=4, least=1),
        controller_host=host,
        controller_port=port,
        api_url=env.text("DAWG_API_URL"),
        controller_token=env.path("DAWG_CONTROLLER_TOKEN_FILE", f"{_SECRETS}/dawg/controller-token"),
        api_token=env.path("DAWG_API_TOKEN_FILE", f"{_SECRETS}/dawg/api-token"),
        ca=env.path("DAWG_CA_FILE", f"{_SECRETS}/dawg-ca/ca.crt"),
        health_port=env.number("DAWG_HEALTH_PORT", default=8081, least=0),
        leave_within=env.duration("DAWG_LEAVE_WITHIN", "5s"),
        warm=_read_warm_settings(env) if executor == "Process" else None,
        steps=_read_step_settings(env) if executor == "Builtin" else None,
    )


def _read_step_settings(env: _Environment) -> StepSettings:
    """Only the variables that the pool's Secrets fill: a step must never read another one, such as the agent's own."""
    listed = [name.strip() for name in env.text("DAWG_STEP_SECRETS", " ").split(",")]
    return StepSettings(
        {name: env.text(name, " ").strip() for name in listed if name},
        git_secrets_dir=env.path("DAWG_GIT_SECRETS_DIR", "/git-secrets"),
        forge_secrets_dir=env.path("DAWG_FORGE_SECRETS_DIR", "/forge-secrets"),
        mirrors_dir=env.path("DAWG_MIRRORS_DIR", "/mirrors"),
    )


def _read_warm_settings(env: _Environment) -> WarmSettings:
    return WarmSettings(
        slots_dir=env.path("DAWG_SLOTS_DIR", "/slots"),
        cache_dir=env.path("DAWG_CACHE_DIR", "/cache"),
        cache_bytes=env.number("DAWG_CACHE_MIB", default=6144, least=1) * 2**20,
        git_secrets_dir=env.path("DAWG_GIT_SECRETS_DIR", "/git-secrets"),
        node=env.text("DAWG_NODE", "unknown"),
    )


def read_sidecar_settings(environ: Mapping[str, str]) -> SidecarSettings:
    """Read a sidecar's environment; raise SettingsError."""
    env = _Environment(environ)
    try:
        order = SidecarOrder.model_validate_json(env.text("DAWG_ORDER"))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise SettingsError(f"DAWG_ORDER is no sidecar's order: {place}: {first['msg']}") from error
    return SidecarSettings(
        order=order,
        volume=env.path("DAWG_DIR", "/dawg"),
        git_secret=env.path("DAWG_GIT_SECRET_DIR", "/dawg-git"),
        token=env.path("DAWG_API_TOKEN_FILE", f"{_SECRETS}/dawg/token"),
        ca=env.path("DAWG_CA_FILE", f"{_SECRETS}/dawg-ca/ca.crt"),
        grace=env.duration("DAWG_GRACE", "45s"),
        checkout_timeout=env.duration("DAWG_CHECKOUT_TIMEOUT", "15m"),
    )
