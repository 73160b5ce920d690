"""What a webhook tells, of whichever forge, and the bounds of what is read of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from pydantic import StringConstraints, ValidationError

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.addresses import same_repository
from dawg_orchestrator.forge.answers import Part
from dawg_orchestrator.forge.faults import Malformed
from dawg_orchestrator.forge.models import ForgeKind, check_repository, shown

P = TypeVar("P", bound=Part)
HEADS: Final = "refs/heads/"
_NOTHING: Final = "0" * 40  # the commit of a ref that is not there
# What git allows in a ref, without what a terminal would obey or turn around.
_IN_REF: Final = r"[^\x00-\x20\x7f-\x9f~^:?*\[\\\x{2028}\x{2029}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
Ref = Annotated[str, StringConstraints(pattern=rf"^refs/{_IN_REF}{{1,1000}}$")]
Branch = Annotated[str, StringConstraints(pattern=rf"^{_IN_REF}{{1,1000}}$")]
Address = Annotated[str, StringConstraints(pattern=r"^[!-~]{0,2048}$")]
Action = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]


class EventKind(StrEnum):
    """What has happened."""

    PUSH = "Push"
    PULL_REQUEST = "PullRequest"
    MERGE_GROUP = "MergeGroup"
    PING = "Ping"


@dataclass(frozen=True, slots=True)
class GitEvent:
    """What a forge tells. Commits have 40 hex digits, refs are whole (``refs/heads/main``).

    ``ref`` is what was pushed, the branch of a pull request, or that of a merge group; ``base_ref`` is what the latter
    two go into. ``before`` and ``after`` are its commits, None where there is none or it is not told. ``forced`` is
    None where the forge does not say. Of a pull request from a fork, ``repository`` is the one that it goes into. A
    ping of a whole organisation names no repository.
    """

    forge: ForgeKind
    kind: EventKind
    delivery: str
    repository: str = ""
    clone_urls: tuple[str, ...] = ()
    ref: str = ""
    before: str | None = None
    after: str | None = None
    deleted: bool = False
    forced: bool | None = None
    action: str = ""
    number: int | None = None
    base_ref: str = ""
    head_repository: str | None = None
    from_fork: bool = False

    def concerns(self, clone_url: str) -> bool:
        """Whether it is about the repository that one clones from there."""
        return any(same_repository(clone_url, own, ignore_case=True) for own in self.clone_urls)


def read(shape: type[P], body: bytes) -> P:
    """What a body says; Malformed when it is not what is sent."""
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = shown(".".join(map(str, first["loc"])), 200) or "the body"
        raise Malformed(field, shown(first["msg"], 200)) from None


def full_name(field: str, name: str, *, nested: bool) -> str:
    """The name, if it is a repository's with its owner's; else Malformed."""
    try:
        check_repository(name, nested=nested)
    except InvalidSpec as error:
        raise Malformed(field, error.message) from None
    return name


def there(commit: str | None) -> str | None:
    """The commit, if it is one."""
    return None if commit == _NOTHING else commit


def addresses(*given: str) -> tuple[str, ...]:
    """Those that are told."""
    return tuple(address for address in given if address)
