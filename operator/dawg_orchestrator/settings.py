"""What the environment says, read once at start; a wrong value names its variable and the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_GIB = 1024**3


def required(env: Mapping[str, str], name: str, remedy: str) -> str:
    """The value of a variable that must be set; raise ValueError with the remedy if it is not."""
    value = env.get(name, "").strip()
    if not value:
        raise ValueError(f"{name} is not set: {remedy}")
    return value


def duration(env: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    """A duration such as 90s, 1h30m or 30d."""
    text = env.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"([0-9]+[smhd])+", text):
        raise ValueError(f"{name} is {text!r}, which is no duration: write it like 90s, 1h30m or 30d")
    parts = re.findall(r"([0-9]+)([smhd])", text)
    return sum((timedelta(**{_UNIT[unit]: int(number)}) for number, unit in parts), timedelta())


def whole_number(env: Mapping[str, str], name: str, default: int) -> int:
    """A number such as a port or an amount of bytes."""
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r}, which is no whole number")
    return int(text)


def name_list(env: Mapping[str, str], name: str, remedy: str) -> tuple[str, ...]:
    """Names separated by commas, each once, in their order; at least one."""
    names = [part.strip() for part in required(env, name, remedy).split(",")]
    return tuple(dict.fromkeys(part for part in names if part))


def yes_or_no(env: Mapping[str, str], name: str, default: bool) -> bool:
    """True or false."""
    text = env.get(name, "").strip()
    if text not in ("", "true", "false"):
        raise ValueError(f"{name} is {text!r}: write true or false")
    return text == "true" if text else default


@dataclass(frozen=True, kw_only=True)
class S3Settings:
    """A place in a bucket of an S3 service; without an ``endpoint`` it is Amazon's of the region.

    ``ca_bundle`` is the PEM of an authority that is trusted besides the public ones.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = "us-east-1"
    path_style: bool = False
    ca_bundle: str = ""
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> S3Settings | None:
        """Read the variables; None if DAWG_FILES_URL is not set. No message repeats a value that may be a secret."""
        url = env.get("DAWG_FILES_URL", "").strip()
        if not url:
            return None
        place = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9._-]+)*)/?", url)
        if place is None:
            raise ValueError("DAWG_FILES_URL is no place in a bucket: write it as s3://BUCKET or s3://BUCKET/PREFIX")
        endpoint = env.get("DAWG_S3_ENDPOINT", "").strip() or None
        if endpoint is not None and not re.fullmatch(r"https?://[^/@?#\s]+/?", endpoint):
            raise ValueError("DAWG_S3_ENDPOINT is no address: write it as https://HOST or http://HOST:PORT")
        ca_bundle = env.get("DAWG_S3_CA_BUNDLE", "").strip()
        if ca_bundle and not ca_bundle.startswith("-----BEGIN CERTIFICATE-----"):
            raise ValueError("DAWG_S3_CA_BUNDLE is no certificate: give the authority's PEM itself, not its path")
        remedy = "give the keys of the bucket in DAWG_FILES_URL, from a Secret"
        return cls(
            bucket=place[1],
            prefix=place[2].strip("/"),
            endpoint=endpoint.rstrip("/") if endpoint else None,
            region=env.get("DAWG_S3_REGION", "").strip() or cls.region,
            path_style=yes_or_no(env, "DAWG_S3_PATH_STYLE", default=endpoint is not None),
            ca_bundle=ca_bundle,
            access_key_id=required(env, "AWS_ACCESS_KEY_ID", remedy),
            secret_access_key=required(env, "AWS_SECRET_ACCESS_KEY", remedy),
        )

    @property
    def bucket_endpoint(self) -> str | None:
        """Where requests go: with path style the bucket is part of the path, without it of the host."""
        if self.endpoint is None or self.path_style:
            return self.endpoint
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """The api role. ``controller_service_account`` is (namespace, name); sizes are in bytes."""

    namespaces: tuple[str, ...]
    controller_service_account: tuple[str, str]
    data_dir: Path
    database_url: str = field(repr=False)  # may hold a password
    tls_dir: Path
    uploads_port: int = 8444
    people_port: int = 8080
    metrics_port: int = 9090
    webhooks: bool = False  # whether there is a door for them
    webhooks_port: int = 8082
    retention: timedelta = timedelta(days=30)
    step_state_retention: timedelta = timedelta(days=90)
    max_file_bytes: int = _GIB
    free_space_floor: int = _GIB // 4
    s3: S3Settings | None = None  # None: files are in data_dir

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> ApiSettings:
        """Read the DAWG_* variables; raise ValueError naming the one that is missing or wrong."""
        data_dir = Path(env.get("DAWG_DATA_DIR", "").strip() or "/var/lib/dawg")
        account = required(env, "DAWG_CONTROLLER_SERVICE_ACCOUNT", "name the controller's as NAMESPACE:NAME")
        namespace, colon, name = account.partition(":")
        if not (namespace and colon and name):
            raise ValueError(f"DAWG_CONTROLLER_SERVICE_ACCOUNT is {account!r}: write it as NAMESPACE:NAME")
        return cls(
            namespaces=name_list(env, "DAWG_NAMESPACES", "list the namespaces to watch, separated by commas"),
            controller_service_account=(namespace, name),
            data_dir=data_dir,
            database_url=env.get("DAWG_DATABASE_URL", "").strip() or f"sqlite:///{data_dir}/history.db",
            tls_dir=Path(env.get("DAWG_TLS_DIR", "").strip() or "/var/run/secrets/dawg-tls"),
            uploads_port=whole_number(env, "DAWG_UPLOADS_PORT", cls.uploads_port),
            people_port=whole_number(env, "DAWG_PEOPLE_PORT", cls.people_port),
            metrics_port=whole_number(env, "DAWG_METRICS_PORT", cls.metrics_port),
            webhooks=yes_or_no(env, "DAWG_WEBHOOKS", cls.webhooks),
            webhooks_port=whole_number(env, "DAWG_WEBHOOKS_PORT", cls.webhooks_port),
            retention=duration(env, "DAWG_RETENTION", cls.retention),
            step_state_retention=duration(env, "DAWG_STEP_STATE_RETENTION", cls.step_state_retention),
            max_file_bytes=whole_number(env, "DAWG_MAX_FILE_BYTES", cls.max_file_bytes),
            free_space_floor=whole_number(env, "DAWG_FREE_SPACE_FLOOR", cls.free_space_floor),
            s3=S3Settings.from_environment(env),
        )


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """The controller role; ``identity`` names this process on the leader's Lease."""

    namespace: str
    namespaces: tuple[str, ...]
    identity: str
    agent_image: str
    agent_pull_policy: str
    default_task_image: str
    api_url: str
    controller_address: str
    tls_dir: Path
    ca_file: Path
    api_token_file: Path
    sessions_port: int = 8443
    metrics_port: int = 9090
    run_link: str = ""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> ControllerSettings:
        """Read the DAWG_* variables; raise ValueError naming the one that is missing or wrong."""
        namespace = required(env, "DAWG_NAMESPACE", "name the namespace of the release")
        return cls(
            namespace=namespace,
            namespaces=name_list(env, "DAWG_NAMESPACES", "list the namespaces to watch, separated by commas"),
            identity=required(env, "DAWG_POD", "give the pod's name"),
            agent_image=required(env, "DAWG_AGENT_IMAGE", "name the image of agents and sidecars"),
            agent_pull_policy=env.get("DAWG_AGENT_IMAGE_PULL_POLICY", "").strip() or "IfNotPresent",
            default_task_image=required(env, "DAWG_DEFAULT_TASK_IMAGE", "name the image of tasks that name none"),
            api_url=required(env, "DAWG_API_URL", "give the address of the api's uploads door, https://HOST:8444"),
            controller_address=required(env, "DAWG_CONTROLLER_ADDRESS", "give HOST:PORT of the agents' door"),
            run_link=env.get("DAWG_RUN_LINK", "").strip(),
            tls_dir=Path(env.get("DAWG_TLS_DIR", "").strip() or "/etc/dawg/tls"),
            ca_file=Path(env.get("DAWG_CA_FILE", "").strip() or "/etc/dawg/ca/ca.crt"),
            api_token_file=Path(env.get("DAWG_API_TOKEN_FILE", "").strip() or "/var/run/secrets/dawg/api-token"),
            sessions_port=whole_number(env, "DAWG_SESSIONS_PORT", cls.sessions_port),
            metrics_port=whole_number(env, "DAWG_METRICS_PORT", cls.metrics_port),
        )
