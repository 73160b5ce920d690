"""What a forge Secret says: where its token goes, and for what it may be used. What it does not name is refused.

Pure but for ``read_credential``, which reads the folder in which a Secret is mounted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, SecretStr

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.addresses import api_base
from dawg_orchestrator.forge.clients import Forge, open_forge
from dawg_orchestrator.forge.models import ForgeKind, check_context, check_repository

KEYS: Final = ("type", "url", "token", "repositories", "contexts", "workflows", "allow-http", "ca.crt")
DEFAULT_CONTEXTS: Final = ("dawg", "dawg/*")
_MOST_BYTES, _MOST_LINES = 2**16, 1000
_GLOB = re.compile(r"[!-~]{1,255}")
_REPOSITORY_GLOB = re.compile(r"[A-Za-z0-9_.*-]+(?:/[A-Za-z0-9_.*-]+)+")
_WORKFLOW = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


class ForgeCredential(BaseModel):
    """A token, the forge it is for, and what it may be used for. Neither ``repr`` nor errors show the token."""

    model_config = ConfigDict(frozen=True)

    kind: ForgeKind
    url: str
    token: SecretStr
    repositories: tuple[str, ...]
    contexts: tuple[str, ...] = DEFAULT_CONTEXTS
    workflows: tuple[str, ...] = ()
    ca: str = ""
    allow_http: bool = False

    def allows(self, repository: str, context: str, workflow: str) -> str | None:
        """None when a run of the Workflow may publish there under the context, else why not and what would allow it.

        All three forges compare repositories without regard to case, GitHub contexts too.
        """
        refused = self.serves(repository)
        if refused:
            return refused
        try:
            check_context(context)
        except InvalidSpec as error:
            return str(error)
        if not any(_fits(context, glob, ignore_case=self.kind is ForgeKind.GITHUB) for glob in self.contexts):
            return f"the forge Secret does not name the context {context!r}: add it to the key contexts"
        if workflow not in self.workflows:
            return f"the forge Secret does not let the Workflow {workflow!r:.260} gate: add it to the key workflows"
        return None

    def serves(self, repository: str) -> str | None:
        """None when the token may be used to read the repository, else why not and what would allow it."""
        try:
            check_repository(repository, nested=self.kind is ForgeKind.GITLAB)
        except InvalidSpec as error:
            return str(error)
        if not any(_fits(repository, glob, ignore_case=True) for glob in self.repositories):
            return f"the forge Secret does not name the repository {repository}: add it to the key repositories"
        return None

    def open(self) -> AbstractAsyncContextManager[Forge]:
        """The forge, under this token."""
        token = self.token.get_secret_value()
        return open_forge(self.kind, self.url, token, ca=self.ca, allow_http=self.allow_http)


def read_credential(folder: Path) -> ForgeCredential:
    """What a mounted Secret says; InvalidSpec names the key that is wrong."""
    keys = {}
    for name in KEYS:
        try:
            with (folder / name).open("rb") as file:
                keys[name] = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidSpec(name, f"it cannot be read ({error.strerror}); mount the Secret's keys as files") from None
    return parse_credential(keys)


def parse_credential(keys: Mapping[str, bytes]) -> ForgeCredential:
    """What the keys of a Secret say; InvalidSpec names the key that is wrong, never what it holds."""
    texts = {name: _text(name, keys[name]) for name in KEYS if name in keys}
    kind = _kind(texts.get("type", ""))
    allow_http = _yes_or_no("allow-http", texts.get("allow-http", ""))
    token = texts.get("token", "")
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidSpec("token", "it is missing, or no single word of ASCII; write the token alone")
    repositories = _lines("repositories", texts)
    if not repositories:
        raise InvalidSpec("repositories", "it names none; write one a line, like owner/name or owner/*")
    for glob in repositories:
        _check_repository_glob(kind, glob)
    contexts = _lines("contexts", texts) if "contexts" in texts else DEFAULT_CONTEXTS
    for glob in contexts:
        _check_glob("contexts", glob)
    workflows = _lines("workflows", texts)
    for name in workflows:
        if not _WORKFLOW.fullmatch(name):
            raise InvalidSpec("workflows", f"{name!r:.80} is not a Workflow's name; write whole names, one a line")
    return ForgeCredential(
        kind=kind, url=str(api_base(kind, texts.get("url", ""), allow_http=allow_http)), token=SecretStr(token),
        repositories=repositories, contexts=contexts, workflows=workflows, ca=texts.get("ca.crt", ""),
        allow_http=allow_http,
    )  # fmt: skip


def _text(name: str, content: bytes) -> str:
    if len(content) > _MOST_BYTES:
        raise InvalidSpec(name, f"it has more than {_MOST_BYTES // 1024} KiB; write less")
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise InvalidSpec(name, "it is not text; write UTF-8") from None


def _kind(text: str) -> ForgeKind:
    try:
        return ForgeKind(text)
    except ValueError:
        raise InvalidSpec("type", f"{text!r:.40} is none of {', '.join(ForgeKind)}; write one of them") from None


def _yes_or_no(name: str, text: str) -> bool:
    if text not in ("", "true", "false"):
        raise InvalidSpec(name, f"{text!r:.40} is neither true nor false; write one of them")
    return text == "true"


def _lines(name: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """What stands one a line; empty lines are none."""
    lines = tuple(line.strip() for line in texts.get(name, "").splitlines() if line.strip())
    if len(lines) > _MOST_LINES:
        raise InvalidSpec(name, f"it has more than {_MOST_LINES} lines; use '*', or a second Secret")
    return lines


def _check_glob(name: str, glob: str) -> None:
    if not _GLOB.fullmatch(glob) or re.search(r"\*\*|[?\[\]]", glob):
        told = "is not a name, or one with '*' for what holds no '/'; write it like dawg/*"
        raise InvalidSpec(name, f"{glob!r:.80} {told}")


def _check_repository_glob(kind: ForgeKind, glob: str) -> None:
    _check_glob("repositories", glob)
    if not _REPOSITORY_GLOB.fullmatch(glob) or (kind is not ForgeKind.GITLAB and glob.count("/") != 1):
        form = "group/name, group/* or group/*/*" if kind is ForgeKind.GITLAB else "owner/name or owner/*"
        raise InvalidSpec("repositories", f"{glob!r:.80} names no repository; write it like {form}")


def _fits(name: str, glob: str, *, ignore_case: bool) -> bool:
    """Whether a name is one that the glob means; '*' stands for what holds no '/'."""
    if ignore_case:
        name, glob = name.lower(), glob.lower()
    parts, wanted = name.split("/"), glob.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
