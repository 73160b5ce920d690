"""Webhooks of GitHub, and of Gitea, whose payloads are made after GitHub's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dawg_orchestrator.forge.answers import Commit, Number, Part, RepositoryName
from dawg_orchestrator.forge.events import (
    HEADS,
    Action,
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
from dawg_orchestrator.forge.senders import Told


class _Cloned(Part):
    full_name: str
    clone_url: Address
    ssh_url: Address = ""


class _Push(Part):
    ref: Ref
    before: Commit
    after: Commit
    forced: bool | None = None
    repository: _Cloned


class _Side(Part):
    ref: Branch
    sha: Commit
    repo: RepositoryName | None


class _Merged(Part):
    head: _Side
    base: _Side


class _PullRequest(Part):
    action: Action
    number: Number
    before: Commit | None = None
    pull_request: _Merged
    repository: _Cloned


class _Group(Part):
    head_sha: Commit
    head_ref: Ref
    base_sha: Commit
    base_ref: Ref


class _MergeGroup(Part):
    action: Action
    merge_group: _Group
    repository: _Cloned


class _Ping(Part):
    hook_id: int
    repository: _Cloned | None = None


def _push(told: Told, body: bytes) -> GitEvent:
    push = read(_Push, body)
    after = there(push.after)
    return GitEvent(
        told.forge, EventKind.PUSH, told.delivery, _repository(push.repository), _clones(push.repository), push.ref,
        there(push.before), after, deleted=after is None, forced=push.forced,
    )  # fmt: skip


def _pull_request(told: Told, body: bytes) -> GitEvent:
    payload = read(_PullRequest, body)
    head, base = payload.pull_request.head, payload.pull_request.base
    repository = _repository(payload.repository)
    origin = full_name("pull_request.head.repo.full_name", head.repo.full_name, nested=False) if head.repo else None
    return GitEvent(
        told.forge, EventKind.PULL_REQUEST, told.delivery, repository, _clones(payload.repository), HEADS + head.ref,
        there(payload.before), there(head.sha), action=payload.action, number=payload.number,
        base_ref=HEADS + base.ref, head_repository=origin,
        from_fork=origin is None or origin.lower() != repository.lower(),
    )  # fmt: skip


def _merge_group(told: Told, body: bytes) -> GitEvent:
    payload = read(_MergeGroup, body)
    group, repository = payload.merge_group, payload.repository
    return GitEvent(
        told.forge, EventKind.MERGE_GROUP, told.delivery, _repository(repository), _clones(repository), group.head_ref,
        there(group.base_sha), there(group.head_sha), action=payload.action, base_ref=group.base_ref,
    )  # fmt: skip


def _ping(told: Told, body: bytes) -> GitEvent:
    repository = read(_Ping, body).repository
    if repository is None:
        return GitEvent(told.forge, EventKind.PING, told.delivery)
    return GitEvent(told.forge, EventKind.PING, told.delivery, _repository(repository), _clones(repository))


def _repository(repository: _Cloned) -> str:
    return full_name("repository.full_name", repository.full_name, nested=False)


def _clones(repository: _Cloned) -> tuple[str, ...]:
    return addresses(repository.clone_url, repository.ssh_url)


HUB_READERS: Final[Mapping[str, Callable[[Told, bytes], GitEvent]]] = {
    "push": _push, "pull_request": _pull_request, "merge_group": _merge_group, "ping": _ping,
}  # fmt: skip
