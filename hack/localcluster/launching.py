"""How commands of hack/ start in the virtual environment of the lock file, with the cluster of hack/up in reach."""

import os
import sys

from environment import EnvironmentUnusable, ensure_venv, tool_environment
from localcluster import paths


def python_for(command: str) -> tuple[list[str], dict[str, str]] | None:
    """The start of a command line that ends with a module, and its variables; None when ``command`` cannot start."""
    try:
        venv = ensure_venv()
    except EnvironmentUnusable as error:
        print(f"{command}: {error}", file=sys.stderr)
        return None
    environment = {**tool_environment(venv), "KUBECONFIG": str(paths.KUBECONFIG)}
    environment["PATH"] = os.pathsep.join([str(paths.COMMANDS), environment["PATH"]])
    return [str(venv / "bin" / "python"), "-m"], environment
