"""What users touch: the command `dawg`."""

from __future__ import annotations

import sys


def main() -> int:
    """The command; says what to install where only the library is there."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.stderr.write("dawg: the command's libraries are missing; pip install 'dawg-orchestrator[cli]'\n")
        return 64
    from dawg_orchestrator.client.cli import main as run

    run()
    return 0
