"""Verdicts: what a task or a run came to, and nothing else (whether it is still running is no verdict)."""

from __future__ import annotations

from enum import StrEnum
from typing import Self, cast


class Verdict(StrEnum):
    """The end of a task or run; ``letter`` stands for it in ``status.taskVerdicts``."""

    letter: str

    def __new__(cls, value: str, letter: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.letter = letter
        return member

    @classmethod
    def of(cls, word: str | None) -> Self | None:
        """The verdict of this word; None for a word that is none."""
        return cast("Self | None", cls._value2member_map_.get(word))

    PASSED = "Passed", "P"
    FLAKY = "Flaky", "L"
    FAILED = "Failed", "F"
    TIMED_OUT = "TimedOut", "T"
    INFRA_ERROR = "InfraError", "I"
    CANCELLED = "Cancelled", "C"
    SKIPPED = "Skipped", "S"


NO_VERDICT_LETTER = "."
LEFT_OUT_LETTER = "s"  # Skipped by its own condition: unlike other skips it does not speak against a merge
BY_LETTER = {verdict.letter: verdict for verdict in Verdict} | {LEFT_OUT_LETTER: Verdict.SKIPPED}
GREEN = frozenset({Verdict.PASSED, Verdict.FLAKY})

# The exit code of `dawg run` and `dawg wait`.
EXIT_CODE = {
    Verdict.PASSED: 0,
    Verdict.FLAKY: 0,
    Verdict.FAILED: 1,
    Verdict.TIMED_OUT: 1,
    Verdict.INFRA_ERROR: 2,
    Verdict.CANCELLED: 3,
    Verdict.SKIPPED: 3,
}
