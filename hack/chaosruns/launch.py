"""Starts the faults in the virtual environment of the lock file and in the cluster's network, where pods reach it."""

import subprocess
from collections.abc import Sequence

from localcluster import network
from localcluster.launching import python_for

_SIMULATED = ("--simulate", "--seed")  # no cluster is needed for these


def main(arguments: Sequence[str]) -> int:
    """The command's exit code; 1 when there is nothing to run it with."""
    started = python_for("hack/chaos")
    if started is None:
        return 1
    python, environment = started
    if any(word.partition("=")[0] in _SIMULATED for word in arguments):
        command = [*python, "chaosruns.simulate", *arguments]
        environment["PYTHONHASHSEED"] = "0"  # the order of a set is part of a history, and a seed must tell it again
    else:
        inside = network.ENTER if network.exists() else ()
        command = [*inside, *python, "chaosruns.command", *arguments]
    with subprocess.Popen(command, env=environment) as running:
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:
                continue  # it has heard of it too, and tidies up
