"""A server in the cluster that two names lead to, and that writes down whatever comes to either of them.

To git and to a forge's API it answers that they must sign in, so whoever has a credential would show it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cluster_at_hand import JsonObject, Kubectl
from doors import ready_pod

_PORT = 8080
_PROGRAM = f"""
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN = []


class Recorder(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 2**20))
        if self.path == "/recorded":
            self.reply(200, json.dumps(SEEN).encode())
            return
        host = (self.headers.get("Host") or "").split(".")[0]
        SEEN.append({{"host": host, "path": self.path, "headers": dict(self.headers), "body": body.decode("latin-1")}})
        self.reply(401, b"sign in")

    do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = do_DELETE = answer

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", {_PORT}), Recorder).serve_forever()
"""


@dataclass(frozen=True)
class Recorder:
    """The server in a namespace; ``hosts`` are its names."""

    kubectl: Kubectl
    hosts: tuple[str, str]

    def address(self, host: str) -> str:
        """By which pods reach it under a name."""
        return f"http://{host}.{self.kubectl.namespace}.svc"

    def objects(self, image: str) -> list[JsonObject]:
        """What it consists of."""
        labels = {"app": "recorder"}
        container = {
            "name": "recorder", "image": image, "command": ["python3", "-c", _PROGRAM],
            "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
        }  # fmt: skip
        pod = {"containers": [container], "automountServiceAccountToken": False, "enableServiceLinks": False,
               "terminationGracePeriodSeconds": 0}  # fmt: skip
        spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "recorder"}, "spec": spec}
        ports = [{"port": 80, "targetPort": _PORT}]
        return [deployment] + [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": host},
             "spec": {"selector": labels, "ports": ports}}
            for host in self.hosts
        ]  # fmt: skip

    def requests(self, host: str) -> list[JsonObject]:
        """What has come under a name."""
        read = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{_PORT}/recorded').read().decode())"
        printed = self.kubectl("exec", ready_pod(self.kubectl, "app=recorder"), "--", "python3", "-c", read)
        return [one for one in json.loads(printed) if one["host"] == host]
