"""What forges answer, as far as it is read; each field has a bound, and what is not named here is skipped."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints

from dawg_orchestrator.forge.models import COMMIT, PullRequest, shown

Commit = Annotated[str, StringConstraints(pattern=COMMIT)]
Word = Annotated[str, StringConstraints(max_length=1024)]
Number = Annotated[int, Field(ge=1, le=2**53)]
_MOST_LABELS, _MOST_NAME = 100, 255


class Part(BaseModel):
    """A part of an answer: what is text is text, and no number is one."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Login(Part):
    """GitHub's and Gitea's user."""

    login: Word


class Username(Part):
    """GitLab's user."""

    username: Word


class Label(Part):
    """A label."""

    name: Word


class RepositoryName(Part):
    """A repository's name with its owner's."""

    full_name: Word


class Side(Part):
    """What is merged, or into what; ``repo`` is None when it was deleted, ``sha`` is empty when the branch was."""

    ref: Word
    sha: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40})?$")]
    repo: RepositoryName | None


class Pull(Part):
    """A pull request as GitHub and Gitea tell of it."""

    number: Number
    state: Word
    user: Login | None
    head: Side
    base: Side
    draft: bool = False
    merge_commit_sha: Commit | None = None
    labels: list[Label] | None = None

    def as_pull_request(self) -> PullRequest | None:
        """The same, as of any forge; None for one without a commit, whose branch is gone."""
        if not self.head.sha:
            return None
        head = self.head.repo.full_name if self.head.repo else None
        base = self.base.repo.full_name if self.base.repo else ""
        return PullRequest(
            number=self.number, head_commit=self.head.sha, head_repository=head, head_branch=self.head.ref,
            base_branch=self.base.ref, author=_name(self.user.login if self.user else ""),
            from_fork=head is None or head.lower() != base.lower(), is_open=self.state == "open",
            merge_commit=self.merge_commit_sha, draft=self.draft,
            labels=tuple(_name(label.name) for label in (self.labels or ())[:_MOST_LABELS]),
        )  # fmt: skip


class MergeRequest(Part):
    """A merge request as GitLab tells of it."""

    iid: Number
    sha: Commit | None
    state: Word
    author: Username | None
    source_branch: Word
    target_branch: Word
    source_project_id: int | None
    target_project_id: int
    draft: bool = False
    merge_commit_sha: Commit | None = None
    labels: list[Word] = []

    def as_pull_request(self, repository: str) -> PullRequest | None:
        """The same, as of any forge; None for one without a commit, whose branch is gone."""
        if self.sha is None:
            return None
        from_fork = self.source_project_id != self.target_project_id
        return PullRequest(
            number=self.iid, head_commit=self.sha, head_repository=None if from_fork else repository,
            head_branch=self.source_branch, base_branch=self.target_branch,
            author=_name(self.author.username if self.author else ""), from_fork=from_fork,
            is_open=self.state == "opened", merge_commit=self.merge_commit_sha, draft=self.draft,
            labels=tuple(_name(label) for label in self.labels[:_MOST_LABELS]),
        )  # fmt: skip


class Status(Part):
    """The newest commit status of a context; Gitea calls the state ``status``."""

    context: Word
    state: Word = Field(validation_alias=AliasChoices("state", "status"))
    description: str | None = None
    target_url: str | None = None


class Statuses(Part):
    """The newest of each context; Gitea says None for no status."""

    statuses: list[Status] | None = None


class GitLabStatus(Part):
    """The same of GitLab, which calls the context ``name``."""

    id: int
    name: Word
    status: Word
    description: Word | None = None
    target_url: Word | None = None


def _name(text: str) -> str:
    return shown(text, _MOST_NAME)
