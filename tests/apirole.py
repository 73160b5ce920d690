"""The api role as a process of its own: real listeners, TLS, signals."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import realparts
from tlsfiles import make_certificate

ROOT = Path(__file__).resolve().parents[1]
_SERVE = """
import os
from dawg_orchestrator.api.serve import main
from dawg_orchestrator.settings import ApiSettings
main(ApiSettings.from_environment(os.environ))
"""


class Role:
    """The api role under test; further variables come from ``environment``."""

    def __init__(
        self, folder: Path, namespace: str, *, environment: dict[str, str] | None = None, **ports: int
    ) -> None:
        self.ports = {name: realparts.free_port() for name in ("UPLOADS", "PEOPLE", "METRICS")} | ports
        make_certificate(folder / "tls", "localhost")
        self.trust = ssl.create_default_context(cafile=str(folder / "tls" / "tls.crt"))
        own = {
            "PYTHONPATH": str(ROOT / "operator"), "PYTHONWARNINGS": "error", "DAWG_NAMESPACES": namespace,
            "DAWG_DATA_DIR": str(folder / "data"), "DAWG_TLS_DIR": str(folder / "tls"),
            "DAWG_CONTROLLER_SERVICE_ACCOUNT": "dawg:dawg-controller", "DAWG_FREE_SPACE_FLOOR": "1",
            **{f"DAWG_{name}_PORT": str(port) for name, port in self.ports.items()},
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            env=os.environ | own | (environment or {}), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def url(self, door: str) -> str:
        """Where a door is; only that for uploads speaks TLS."""
        return f"{'https' if door == 'UPLOADS' else 'http'}://localhost:{self.ports[door]}"

    def get(self, door: str, path: str, scheme: str = "http") -> tuple[int, bytes]:
        """(status, body); status 0 while nobody listens."""
        url = f"{scheme}://localhost:{self.ports[door]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10, context=self.trust) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def until_ready(self) -> None:
        """Wait for readiness; fail if the process ends first."""
        end = time.monotonic() + 30
        while self.get("METRICS", "/readyz")[0] != 200:
            assert self.process.poll() is None, "the api role ended"
            assert time.monotonic() < end, "the api role did not become ready"
            time.sleep(0.1)

    def end(self) -> str:
        """Kill the process if it runs, and return what it has logged."""
        self.process.kill()
        return self.process.communicate()[0]
