"""Which cluster and namespace a command is about, and how it answers, as far as the person said so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum


class Output(StrEnum):
    """For people or for programs."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Target:
    """The options that every command has; None where the person said nothing."""

    namespace: str | None = None
    output: Output | None = None
    context: str | None = None
    kubeconfig: str | None = None
    release_namespace: str | None = None

    @property
    def wants_json(self) -> bool:
        """The answer is read by a program."""
        return self.output is Output.JSON

    def over(self, outer: Target) -> Target:
        """These options, completed by what was said before the command's name."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        return Target(**{name: getattr(outer, name) if value is None else value for name, value in mine.items()})
