"""Webhooks of GitLab. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from pydantic import Field

from dawg_orchestrator.forge.answers import Commit, Number, Part, Word
from dawg_orchestrator.forge.events import (
    HEADS,
    Address,
    Branch,
    EventKind,
    GitEvent,
    Ref,
    addresses,
    full_name,
    read,
    there,
)
from dawg_orchestrator.forge.faults import NotForUs
from dawg_orchestrator.forge.models import shown
from dawg_orchestrator.forge.senders import Told


class _Project(Part):
    path_with_namespace: str
    git_http_url: Address
    git_ssh_url: Address = ""


class _Push(Part):
    ref: Ref
    before: Commit
    after: Commit
    project: _Project


class _LastCommit(Part):
    id: Commit


class _SourceName(Part):
    path_with_namespace: str


class _Attributes(Part):
    iid: Number
    # Absent where nobody did anything, as when a hook is tried out.
    action: Annotated[str, Field(pattern=r"^[a-z_]{0,64}$")] = ""
    source_branch: Branch
    target_branch: Branch
    source_project_id: int | None
    target_project_id: int
    last_commit: _LastCommit | None
    oldrev: Commit | None = None
    source: _SourceName | None = None


class _MergeRequest(Part):
    object_attributes: _Attributes
    project: _Project


class _Kind(Part):
    object_kind: Word = ""


def _push(told: Told, body: bytes) -> GitEvent:
    push = read(_Push, body)
    after = there(push.after)
    return GitEvent(
        told.forge, EventKind.PUSH, told.delivery, _repository(push.project), _clones(push.project), push.ref,
        there(push.before), after, deleted=after is None,
    )  # fmt: skip


def _merge_request(told: Told, body: bytes) -> GitEvent:
    payload = read(_MergeRequest, body)
    merge = payload.object_attributes
    head = None
    if merge.source:
        place = "object_attributes.source.path_with_namespace"
        head = full_name(place, merge.source.path_with_namespace, nested=True)
    return GitEvent(
        told.forge, EventKind.PULL_REQUEST, told.delivery, _repository(payload.project), _clones(payload.project),
        HEADS + merge.source_branch, there(merge.oldrev), there(merge.last_commit.id if merge.last_commit else None),
        action=merge.action, number=merge.iid, base_ref=HEADS + merge.target_branch, head_repository=head,
        from_fork=merge.source_project_id != merge.target_project_id,
    )  # fmt: skip


def _system(told: Told, body: bytes) -> GitEvent:
    """Hooks of a whole GitLab say only in the body what has happened."""
    kind = read(_Kind, body).object_kind
    reader = _OF_KIND.get(kind)
    if reader is None:
        raise NotForUs(f"the system event {shown(kind, 80)!r} of gitlab says nothing of commits to test")
    return reader(told, body)


def _repository(project: _Project) -> str:
    return full_name("project.path_with_namespace", project.path_with_namespace, nested=True)


def _clones(project: _Project) -> tuple[str, ...]:
    return addresses(project.git_http_url, project.git_ssh_url)


_OF_KIND: Final = {"push": _push, "tag_push": _push, "merge_request": _merge_request}
LAB_READERS: Final[Mapping[str, Callable[[Told, bytes], GitEvent]]] = {
    "Push Hook": _push, "Tag Push Hook": _push, "Merge Request Hook": _merge_request, "System Hook": _system,
}  # fmt: skip
