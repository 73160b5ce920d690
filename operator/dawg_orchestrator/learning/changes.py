"""What a commit changed, file by file, and what kind of file that is by its name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dawg_orchestrator.resources.globs import matches_any

Status = Literal["added", "deleted", "modified", "renamed", "copied", "retyped"]
Kind = Literal["file", "symlink", "submodule", "lfs"]

GENERATED = (
    "**/package-lock.json", "**/npm-shrinkwrap.json", "**/yarn.lock", "**/pnpm-lock.yaml", "**/poetry.lock",
    "**/uv.lock", "**/pdm.lock", "**/Pipfile.lock", "**/Cargo.lock", "**/go.sum", "**/composer.lock",
    "**/Gemfile.lock", "**/*.min.js", "**/*.min.css", "**/*.map", "**/*_pb2.py", "**/*_pb2_grpc.py", "**/*.pb.go",
    "**/*.generated.*", "**/vendor/**", "**/node_modules/**", "**/dist/**", "**/__snapshots__/**",
)  # fmt: skip
DOCUMENTATION = (
    "**/*.md", "**/*.mdx", "**/*.rst", "**/*.adoc", "docs/**", "doc/**", "**/LICENSE", "**/LICENSE.*", "**/NOTICE",
    "**/AUTHORS", "**/CODEOWNERS", "**/CHANGELOG*",
)  # fmt: skip
TESTS = (
    "**/test_*.py", "**/*_test.py", "**/conftest.py", "**/*_test.go", "**/*.test.[jt]s", "**/*.test.[jt]sx",
    "**/*.spec.[jt]s", "**/*.spec.[jt]sx", "**/*Test.java", "**/*Tests.java", "**/*IT.java", "**/*_spec.rb",
    "test/**", "tests/**", "**/tests/**", "**/__tests__/**", "**/src/test/**", "**/testdata/**", "e2e/**",
)  # fmt: skip
RUNNABLE_TESTS = tuple(glob for glob in TESTS if glob.rpartition("/")[2] not in ("**", "conftest.py"))
_LONGEST_SHOWN = 120  # characters
# Prose by its name, and code all the same.
_NO_DOCUMENTATION = ("**/requirements*.txt", "**/*.py", "**/*.js", "**/*.ts", "**/*.go", "**/*.sh")


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file of a commit. Of a binary file no lines are known: both counts are None.

    ``path``: after the commit, or before it if the file was deleted.
    """

    path: str
    status: Status = "modified"
    added: int | None = None
    deleted: int | None = None
    old_path: str | None = None
    binary: bool = False
    kind: Kind = "file"
    mode_changed: bool = False

    @property
    def lines(self) -> int:
        """Lines that were added and deleted; 0 where nobody counted them."""
        return (self.added or 0) + (self.deleted or 0)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the file is and where it was."""
        return (self.path,) if self.old_path is None else (self.path, self.old_path)


@dataclass(frozen=True, slots=True)
class Person:
    """As a commit names somebody, without control characters."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """One commit beside its base. ``diff`` is for reading only, and bounded; ``left_out`` says what is not in it."""

    commit: str
    base: str | None  # None: the commit has no parent
    parents: tuple[str, ...]
    author: Person
    committer: Person
    authored_at: datetime | None  # None: no time of our calendar
    committed_at: datetime | None
    message: str
    files: tuple[ChangedFile, ...]
    more_files: int = 0  # beyond those that are listed
    diff: str = ""
    left_out: tuple[str, ...] = ()


def shortened(path: str) -> str:
    """A path for a sentence: of a very long one, both ends."""
    return path if len(path) <= _LONGEST_SHOWN else f"{path[:80]}…{path[-39:]}"


def is_generated(path: str) -> bool:
    """Whether a program wrote the file, so that nobody reads its lines."""
    return matches_any(GENERATED, path)


def is_documentation(path: str) -> bool:
    """Whether the file is for reading."""
    return matches_any(DOCUMENTATION, path) and not matches_any(_NO_DOCUMENTATION, path)


def is_test(path: str) -> bool:
    """Whether the file belongs to tests."""
    return matches_any(TESTS, path)


def is_runnable_test(path: str) -> bool:
    """Whether the file holds tests itself, by the names that test runners look for."""
    return matches_any(RUNNABLE_TESTS, path)
