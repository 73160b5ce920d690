"""Starts the benchmarks in the virtual environment of the lock file, against the cluster of hack/up."""

import subprocess
from collections.abc import Sequence

from localcluster.launching import python_for


def main(arguments: Sequence[str]) -> int:
    """The command's exit code; 1 when there is nothing to run it with."""
    started = python_for("hack/bench")
    if started is None:
        return 1
    python, environment = started
    command = [*python, "benchmarks.command", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode
