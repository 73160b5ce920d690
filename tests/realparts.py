"""Real parts that steps look at, started for a test and reached by TCP on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import debian
from localcluster import gobuild
from tlsfiles import make_certificate

_WITHIN = 30.0


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path, password: str) -> Iterator[str]:
    """A Redis that keeps nothing; gives ``host:port``."""
    program = _program("redis-server", "redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--requirepass", password, "--save", "",
               "--dir", str(folder)]  # fmt: skip
    with _running(command, port, folder / "redis.log"):
        yield f"127.0.0.1:{port}"


@contextmanager
def prometheus_server(folder: Path) -> Iterator[str]:
    """A Prometheus that watches itself once a second; gives its URL."""
    program = _program("prometheus", "prometheus")
    port = free_port()
    scrape = {"job_name": "self", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps({"scrape_configs": [scrape]}))  # JSON is YAML
    command = [program, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'tsdb'}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with _running(command, port, folder / "prometheus.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def metrics_server(folder: Path) -> Iterator[str]:
    """The metrics API of KUBECONFIG's cluster; gives its URL. Its certificate is the folder's tls.crt."""
    program = gobuild.build(gobuild.METRICS_SERVER) / "metrics-server"
    port = free_port()
    make_certificate(folder, "localhost")
    kubeconfig = os.environ["KUBECONFIG"]
    command = [
        str(program), "--bind-address=127.0.0.1", f"--secure-port={port}", f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}", f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}",
        "--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP", "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    ]  # fmt: skip
    with _running(command, port, folder / "metrics-server.log"):
        yield f"https://localhost:{port}"


def _program(name: str, package: str) -> str:
    if shutil.which(name) is None:
        debian.install(package)
    found = shutil.which(name)
    assert found is not None, f"Debian's package {package} brings no {name}"
    return found


@contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        until_listening(process, port, log)
        yield
    finally:
        process.kill()
        process.wait()


def until_listening(process: subprocess.Popen[bytes], port: int, log: Path, within: float = _WITHIN) -> None:
    """Wait until the process listens on that port of loopback; one that ends, or takes too long, fails the test."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, f"{process.args!r} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{process.args!r} does not listen: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        else:
            return
