"""A real S3 service on this machine: versitygw over a folder, in which each folder is a bucket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import realparts
from dawg_orchestrator.settings import S3Settings
from localcluster import gobuild

ACCESS_KEY = "AKIDTESTS"
SECRET_KEY = "hidden-secret-key"
_WITHIN = 20.0


@dataclass(frozen=True)
class ObjectStore:
    """The service; ``folder`` is what it keeps on disk."""

    endpoint: str
    folder: Path
    pid: int
    ca_bundle: str = ""

    def freeze(self) -> None:
        """Stop the process where it is; it has stopped when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def make_bucket(self, prefix: str = "") -> S3Settings:
        """A new bucket, and how to get there."""
        bucket = f"test-{uuid4().hex}"
        (self.folder / bucket).mkdir()
        return S3Settings(
            bucket=bucket, prefix=prefix, endpoint=self.endpoint, path_style=True,
            ca_bundle=self.ca_bundle, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
        )  # fmt: skip

    def files(self, bucket: str) -> list[Path]:
        """All that takes room in a bucket: objects, and parts of uploads that nobody has finished or taken back."""
        return [path for path in (self.folder / bucket).rglob("*") if path.is_file()]


@contextmanager
def serving(folder: Path, *, tls: bool = False) -> Iterator[ObjectStore]:
    """The service while the block runs; with TLS its certificate is of an authority that nobody knows."""
    port = realparts.free_port()
    kept = folder / "buckets"
    kept.mkdir(parents=True)
    program = gobuild.build(gobuild.VERSITYGW) / "versitygw"
    keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    certificate = _make_certificate(folder) if tls else []
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "--port", f"127.0.0.1:{port}", "--quiet", *certificate, "posix", kept],
            env=os.environ | keys, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _until_listening(process, port)
        if tls:
            yield ObjectStore(f"https://localhost:{port}", kept, process.pid, (folder / "ca.crt").read_text())
        else:
            yield ObjectStore(f"http://127.0.0.1:{port}", kept, process.pid)
    finally:
        process.kill()
        process.wait()


def _make_certificate(folder: Path) -> list[str | Path]:
    """An authority, a certificate of localhost that it has signed, and the options that name the latter."""
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    own = ["-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    signed = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-subj", "/CN=s3"]
    limits = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    for command in ([*new, *own], [*new, *signed, *limits, *files]):
        subprocess.run(command, check=True, capture_output=True)
    return ["--cert", folder / "tls.crt", "--key", folder / "tls.key"]


def _until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _WITHIN
    while True:
        assert process.poll() is None, "the S3 service ended; its log is beside the buckets"
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, "the S3 service does not listen"
            time.sleep(0.05)
        else:
            return
