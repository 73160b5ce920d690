"""Real services in the cluster that stories look at and send to: PostgreSQL, Redis, a shop over HTTP, and a mailbox."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster_at_hand import JsonObject, Kubectl, eventually
from doors import forwarded, ready_pod
from localcluster import engine, images

_SECRET = "addresses"
_PROGRAMS = "/usr/local/lib/services"
_MAILS_TO, _MAILS_FROM = "ops@shop.test", "dawg@shop.test"
_TIMEOUT = 10.0
PASSWORD = "tests-only-password"  # of every service: whoever tells it, tells a secret


def image_of_services() -> str:
    """The image that hack/up has built and loaded."""
    return engine.choose().build(images.SERVICES).reference


def postgres(image: str) -> list[JsonObject]:
    """A PostgreSQL with the user shop."""
    return a_service("postgres", image, ["serve-postgres"], {"POSTGRES_PASSWORD": PASSWORD}, 5432)


def redis(image: str) -> list[JsonObject]:
    """A Redis that keeps nothing."""
    command = ["redis-server", "--protected-mode", "no", "--requirepass", PASSWORD, "--save", ""]
    return a_service("redis", image, command, {}, 6379)


def shop(name: str, image: str, labels: dict[str, str] | None = None) -> list[JsonObject]:
    """A shop over HTTP; the labels are those of its Deployment."""
    return a_service(name, image, ["python", f"{_PROGRAMS}/shop.py"], {}, 8080, labels=labels)


def mailbox(image: str) -> list[JsonObject]:
    """Who takes mails and webhooks."""
    environment = {"MAIL_USER": "shop", "MAIL_PASSWORD": PASSWORD}
    return a_service("mailbox", image, ["python", f"{_PROGRAMS}/mailbox.py"], environment, 8080, 2525)


def a_service(
    name: str, image: str, command: list[str], environment: dict[str, str], *ports: int,
    labels: dict[str, str] | None = None,
) -> list[JsonObject]:  # fmt: skip
    """A Deployment of one pod, ready when its first port listens, and the Service before it."""
    container = {
        "name": name, "image": image, "command": command,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "readinessProbe": {"tcpSocket": {"port": ports[0]}, "periodSeconds": 1},
    }  # fmt: skip
    pod = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }
    opened = [{"name": f"port-{port}", "port": port} for port in ports]
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels or {}},
         "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
         "spec": {"selector": {"app": name}, "ports": opened}},
    ]  # fmt: skip


def addresses() -> JsonObject:
    """The Secret with the whole addresses that built-in steps may use."""
    words = f"from={_MAILS_FROM}&to={_MAILS_TO}&smtp=mailbox&mode=insecure"
    metadata = {"name": _SECRET, "labels": {"dawg.dev/for-steps": "true"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {
        "postgres": f"postgresql://shop:{PASSWORD}@postgres/postgres",
        "redis": f"redis://:{PASSWORD}@redis:6379/0",
        "mail": f"mailto://shop:{PASSWORD}@mailbox:2525?{words}",
        "hook": "http://mailbox:8080/",
    }}  # fmt: skip


def secrets_of_steps() -> list[dict[str, str]]:
    """The same as the chart's ``builtin.secrets``; the variables are the keys in capitals."""
    return [{"name": _SECRET, "key": key, "env": key.upper()} for key in addresses()["stringData"]]


def until_reached(kubectl: Kubectl, **ports: int) -> None:
    """Wait until the shop's pod reaches these Services: nodes learn of a ready pod a moment after its Deployment."""
    connect = f"import socket; [socket.create_connection(address, timeout=2) for address in {list(ports.items())}]"
    eventually(lambda: not kubectl("exec", "deployment/shop", "--", "python", "-c", connect), within=60)


@dataclass(frozen=True)
class Mailbox:
    """What was sent so far."""

    port: int

    def mails(self, about: str) -> list[JsonObject]:
        """The mails whose subject begins so, in their order."""
        return [mail for mail in self._kept()["mails"] if mail["subject"].startswith(about)]

    def events(self, about: str) -> list[JsonObject]:
        """The webhooks' events with this subject, in their order."""
        return [event for event in self._kept()["posts"] if event["subject"] == about]

    def _kept(self) -> JsonObject:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            kept: JsonObject = json.loads(connection.getresponse().read())
            return kept


@contextmanager
def opened_mailbox(kubectl: Kubectl) -> Iterator[Mailbox]:
    """The way to the mailbox of a namespace, for as long as the block lasts."""
    with forwarded(kubectl, ready_pod(kubectl, "app=mailbox"), 8080) as port:
        yield Mailbox(port)
