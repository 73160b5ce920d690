"""What is told to a forge, and what it tells: the same for GitHub, GitLab and Gitea."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from dawg_orchestrator.errors import InvalidSpec

COMMIT: Final = r"^[0-9a-f]{40}$"
_NAME = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.][A-Za-z0-9_.-]{0,254}"
_REPOSITORY = {False: re.compile(rf"{_NAME}/{_NAME}"), True: re.compile(rf"{_NAME}(?:/{_NAME}){{1,20}}")}
_CONTEXT = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_MOST_URL = 255  # characters, of GitLab; the others take more
_MOST_WORDS = 10_000


class ForgeKind(StrEnum):
    """Whose API a forge speaks."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"


class CheckState(StrEnum):
    """How a check stands. ``Error`` says that nobody knows, as when infrastructure failed: it holds a merge as well."""

    PENDING = "Pending"
    SUCCESS = "Success"
    FAILURE = "Failure"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Check:
    """What a commit is told to be, under a name (``context``) that a branch's protection may require.

    ``repository`` is ``owner/name``, on GitLab ``group/sub/name``; ``commit`` has 40 hex digits. Of the description a
    forge gets as much as it shows. Raises InvalidSpec that names the field.
    """

    repository: str
    commit: str
    context: str
    state: CheckState
    description: str = ""
    target_url: str = ""

    def __post_init__(self) -> None:
        check_repository(self.repository, nested=True)
        check_commit(self.commit)
        check_context(self.context)
        if self.target_url and not _is_address(self.target_url):
            told = f"not an http or https address of at most {_MOST_URL} characters; leave it empty, or give one"
            raise InvalidSpec("target_url", told)

    def description_within(self, most: int) -> str:
        """The description in one line of at most so many characters."""
        return shown(self.description, most)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a forge says of a commit and context now. ``state`` is Error for a state that is none of ours."""

    state: CheckState
    description: str
    target_url: str

    def says(self, check: Check, most: int) -> bool:
        """Whether telling the check, with so many characters of its description, would change nothing."""
        return (self.state, self.description, self.target_url) == (
            check.state, check.description_within(most), check.target_url,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PullRequest:
    """An open or closed request to merge; GitLab's name for it is merge request.

    ``head_repository`` is None where the forge does not name it: of a fork on GitLab, and of one that was deleted.
    ``merge_commit`` is what the forge says: of an open one GitHub's own test merge, which may be old.
    """

    number: int
    head_commit: str
    head_repository: str | None
    head_branch: str
    base_branch: str
    author: str
    from_fork: bool
    is_open: bool
    merge_commit: str | None = None
    draft: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PullRequests:
    """Those that are open; ``complete`` is False when there are more than are read."""

    items: tuple[PullRequest, ...]
    complete: bool


def check_repository(name: str, *, nested: bool) -> None:
    """InvalidSpec unless it is a full name; only with ``nested`` (GitLab) may it have more than two parts."""
    if len(name) > 1000 or not _REPOSITORY[nested].fullmatch(name):
        form = "group/name or group/subgroup/name" if nested else "owner/name"
        raise InvalidSpec("repository", f"{name!r:.80} is not a repository's full name; write it as {form}")


def check_commit(commit: str) -> None:
    """InvalidSpec unless it is a whole commit id."""
    if not re.fullmatch(COMMIT, commit) or commit.endswith("\n"):
        raise InvalidSpec("commit", f"{commit!r:.80} is not a commit; give all 40 hex digits, in small letters")


def check_context(context: str) -> None:
    """InvalidSpec unless every forge takes it."""
    if not _CONTEXT.fullmatch(context):
        told = "is not 1 to 255 letters, digits, signs or inner spaces of ASCII; write it like dawg/checks"
        raise InvalidSpec("context", f"{context!r:.80} {told}")


def shown(text: str, most: int) -> str:
    """The text in one line, without what a terminal would obey, in at most so many characters."""
    line = " ".join(_UNSEEN.sub(" ", text[:_MOST_WORDS]).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _is_address(text: str) -> bool:
    if len(text) > _MOST_URL or not re.fullmatch(r"[!-~]+", text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False
