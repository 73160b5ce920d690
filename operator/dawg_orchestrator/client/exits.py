"""How `dawg` ends: exit codes by the verdict table, and the one place where errors become them."""

from __future__ import annotations

from dawg_orchestrator.errors import Conflict, DawgError, Invalid, InvalidSpec, NotFound
from dawg_orchestrator.resources.verdict import EXIT_CODE, Verdict

OK = 0
NOTHING_RAN = 3  # cancelled, skipped, or the run is gone
GAVE_UP = 4  # the command's own time-out, or the cluster cannot be used
USAGE = 64  # what was asked for cannot be: wrong flags, a wrong file, a name that does not exist
INTERRUPTED = 130


class CommandFailed(DawgError):
    """The command cannot do what it was asked for; ``exit_code`` says whose turn it is."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class DoorClosed(DawgError):
    """The api role cannot be reached or does not let the caller in; live data and history are missing, runs are not."""


def exit_code_of(verdict: str) -> int:
    """The exit code of a finished run; a verdict that this version does not know is never a pass."""
    known = {member.value: code for member, code in EXIT_CODE.items()}
    return known.get(verdict, EXIT_CODE[Verdict.INFRA_ERROR])


def exit_code_of_error(error: DawgError) -> int:
    """What the person wrote is a usage error; everything else means the cluster could not be used."""
    if isinstance(error, CommandFailed):
        return error.exit_code
    if isinstance(error, (InvalidSpec, Invalid, NotFound, Conflict)):
        return USAGE
    return GAVE_UP
