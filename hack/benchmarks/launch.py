"""Starts the benchmarks in the virtual environment of the lock file, against the cluster of hack/up."""

import os
import subprocess
import sys
from collections.abc import Sequence

from environment import EnvironmentUnusable, ensure_venv, tool_environment
from localcluster import paths


def main(arguments: Sequence[str]) -> int:
    """The command's exit code; 1 when there is nothing to run it with."""
    try:
        venv = ensure_venv()
    except EnvironmentUnusable as error:
        print(f"hack/bench: {error}", file=sys.stderr)
        return 1
    environment = {**tool_environment(venv), "KUBECONFIG": str(paths.KUBECONFIG)}
    environment["PATH"] = os.pathsep.join([str(paths.COMMANDS), environment["PATH"]])
    command = [str(venv / "bin" / "python"), "-m", "benchmarks.command", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode
