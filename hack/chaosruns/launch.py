"""Starts the faults in the virtual environment of the lock file and in the cluster's network, where pods reach it."""

import os
import subprocess
import sys
from collections.abc import Sequence

from environment import EnvironmentUnusable, ensure_venv, tool_environment
from localcluster import network, paths

_SIMULATED = ("--simulate", "--seed")  # no cluster is needed for these


def main(arguments: Sequence[str]) -> int:
    """The command's exit code; 1 when there is nothing to run it with."""
    try:
        venv = ensure_venv()
    except EnvironmentUnusable as error:
        print(f"hack/chaos: {error}", file=sys.stderr)
        return 1
    environment = {**tool_environment(venv), "KUBECONFIG": str(paths.KUBECONFIG)}
    environment["PATH"] = os.pathsep.join([str(paths.COMMANDS), environment["PATH"]])
    python = [str(venv / "bin" / "python"), "-m"]
    if any(word.partition("=")[0] in _SIMULATED for word in arguments):
        command = [*python, "chaosruns.simulate", *arguments]
    else:
        inside = network.ENTER if network.exists() else ()
        command = [*inside, *python, "chaosruns.command", *arguments]
    with subprocess.Popen(command, env=environment) as running:
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:
                continue  # it has heard of it too, and tidies up
