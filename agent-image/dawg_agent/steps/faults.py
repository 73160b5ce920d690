"""The two ways in which a step ends early."""

from __future__ import annotations


class StepFailed(Exception):
    """The step cannot do what it was asked for, and trying again would not help."""


class StepBroken(Exception):
    """Something around the step does not work now: the step may be tried again."""
