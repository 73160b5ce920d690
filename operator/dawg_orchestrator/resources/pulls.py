"""What is asked of an agent about a repository's pull requests, and what it says. All names are strangers' words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.names import short_hash
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

MAX_PULLS = 200  # open ones of a repository, that are followed: those that were updated last
MAX_NAME = 256  # of a branch or a user
MAX_FILES = 500  # that are named; beyond that nobody knows what has changed

Commit = Annotated[str, Field(pattern=FULL_COMMIT_PATTERN)]


class PullsAsked(Model):
    """What the triggers want to know of the pull requests of a repository, by its full name on the forge."""

    repository: str = Field(max_length=512)
    paths: bool = False  # which files they change
    merges: bool = False  # the commits by which the forge would merge them
    first: bool = False  # nobody has looked before: of those that are open only forks may start something


class PullFact(Model):
    """An open pull request. Files and merge commit are told once it is ``detailed``, if they were asked for."""

    number: int = Field(ge=1, le=2**53)
    head: Commit
    base: str = Field(max_length=MAX_NAME)  # the branch into which
    branch: str = Field(default="", max_length=MAX_NAME)  # the branch that is to be merged
    author: str = Field(default="", max_length=MAX_NAME)
    from_fork: bool
    draft: bool = False
    detailed: bool = False
    merge: Commit | None = None  # a commit that has the head as its parent
    files: list[Annotated[str, Field(max_length=4096)]] | None = Field(default=None, max_length=MAX_FILES)

    @property
    def at(self) -> str:
        """Where it stands: another head, or another base, is something new."""
        return f"{self.head}@{short_hash(self.base)}"


class PullsSeen(Model):
    """The open pull requests; ``more`` there are than are followed."""

    pulls: list[PullFact] = Field(default_factory=list, max_length=MAX_PULLS)
    more: bool = False
    merges: bool = True  # whether the forge makes merge commits
