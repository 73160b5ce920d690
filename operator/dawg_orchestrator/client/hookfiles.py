"""The files of a repository's hooks: put there, taken away, looked at. A hook that was there before stays in use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dawg_orchestrator.client import githook
from dawg_orchestrator.client.exits import USAGE, CommandFailed

CLIENT_HOOKS = ("pre-commit", "pre-merge-commit", "pre-push")
SERVER_HOOKS = ("pre-receive",)
_MARK = re.compile(rb"^# dawg-hook version ([0-9]{1,6})\b", re.MULTILINE)
_HEAD = 400  # bytes in which the mark stands


class State(StrEnum):
    """What is at a hook's place."""

    INSTALLED = "installed"
    OUTDATED = "of another version"
    ABSENT = "not installed"


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook; ``chained`` is the one that was there before."""

    name: str
    path: Path
    state: State
    chained: Path | None


def look(folder: Path, name: str) -> Hook:
    """What is there."""
    path = folder / name
    before = _before(path)
    version = _version(path)
    state = State.ABSENT if version is None else State.INSTALLED if version == _own_version() else State.OUTDATED
    return Hook(name, path, state, before if before.exists() else None)


def install(folder: Path, name: str) -> Hook:
    """Put the hook there; another's hook is kept beside it. Doing so again changes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if _version(path) is None and (path.exists() or path.is_symlink()):
        before = _before(path)
        if before.exists() or before.is_symlink():
            raise CommandFailed(f"{before} is in the way: {path} is a hook, too; join the two, or remove one", USAGE)
        path.rename(before)
    draft = folder / f".{name}.dawg"
    draft.unlink(missing_ok=True)
    draft.write_bytes(_script())
    draft.chmod(0o755)
    draft.replace(path)
    return look(folder, name)


def uninstall(folder: Path, name: str) -> Hook:
    """Take our hook away, and put the one that was there before back; others' are left alone."""
    path = folder / name
    if _version(path) is not None:
        path.unlink()
        if _before(path).exists() or _before(path).is_symlink():
            _before(path).rename(path)
    return look(folder, name)


def _before(path: Path) -> Path:
    return path.with_name(path.name + githook.BEFORE)


def _script() -> bytes:
    return Path(githook.__file__).read_bytes()


def _own_version() -> int | None:
    return _version(Path(githook.__file__))


def _version(path: Path) -> int | None:
    """The version that our mark names; None: the file is not ours, or not there."""
    try:
        with path.open("rb") as file:
            mark = _MARK.search(file.read(_HEAD))
    except OSError:
        return None
    return int(mark[1]) if mark else None
