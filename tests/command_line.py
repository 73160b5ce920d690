"""The command `dawg` as a person runs it: a process of its own, with nothing but a kubeconfig."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OPERATOR = Path(__file__).resolve().parents[1] / "operator"


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command and leave it running; it can be interrupted, also where the tests run in the background."""
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process inherits SIG_IGN, but no handler
    try:
        return subprocess.Popen(
            _command(arguments), env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, ours)


def dawg(*arguments: str, code: int = 0, stdin: str | None = None) -> str:
    """Run the command; another exit code fails the test with what it said. Returns what it printed, hints included."""
    done = subprocess.run(
        _command(arguments), env=_environment(), input=stdin, capture_output=True, text=True, timeout=300, check=False
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == code, f"dawg {' '.join(arguments)} ended with {done.returncode}: {said}"
    return said


def dawg_json(*arguments: str, code: int = 0) -> Any:
    """What the command prints for programs."""
    done = subprocess.run(
        _command([*arguments, "-o", "json"]),
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"dawg {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
    return json.loads(done.stdout)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "dawg_orchestrator.client.cli", *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(OPERATOR), "COLUMNS": "200", "NO_COLOR": "1"}
