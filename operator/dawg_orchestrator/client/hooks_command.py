"""`dawg hooks`: git hooks that hold back what DAWG has blocked, and the file that says so on a server."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.running import read_duration
from dawg_orchestrator.client.target import Target

Repository = Annotated[Path, typer.Argument(metavar="PATH", help="A git repository.")]
Server = Annotated[bool, typer.Option("--server", help="The hook of a bare repository, to which people push.")]
Commit = Annotated[str, typer.Argument(metavar="COMMIT", help="A full commit.")]


def install(target: Target, path: Repository, *, server: Server = False) -> None:
    """Put hooks into a repository that refuse to merge and push blocked commits. Hooks that are there stay in use."""
    from dawg_orchestrator.client import hookfiles

    names, folder = _place(path, server=server)
    _show(target, [hookfiles.install(folder, name) for name in names])


def uninstall(target: Target, path: Repository, *, server: Server = False) -> None:
    """Take the hooks away again, and put back what was there before."""
    from dawg_orchestrator.client import hookfiles

    names, folder = _place(path, server=server)
    _show(target, [hookfiles.uninstall(folder, name) for name in names])


def status(target: Target, path: Repository, *, server: Server = False) -> None:
    """Show which hooks are there, and what is blocked."""
    from dawg_orchestrator.client import hookfiles, mergeblock

    names, folder = _place(path, server=server)
    git_dir = _git_dir(path)
    files = [git_dir / mergeblock.FILE, *sorted((git_dir / "dawg" / "blocked").glob("*.json"))]
    now = datetime.now(UTC)
    blocks = [block for file in files if (block := mergeblock.read(file)) is not None and block.holds(now)]
    _show(target, [hookfiles.look(folder, name) for name in names], blocks)


def block(
    target: Target,
    path: Repository,
    commit: Commit,
    reason: Annotated[str, typer.Option(help="Why; whoever pushes reads it.")],
    expires: Annotated[str, typer.Option(help="How long it counts.")] = "24h",
) -> None:
    """Block a commit on a server: pushes that bring it are refused by the hook there."""
    from dawg_orchestrator.client import mergeblock

    if not reason.strip():
        raise CommandFailed("--reason: say why", USAGE)
    lasts, now = read_duration("--expires", expires), datetime.now(UTC)
    assert lasts is not None  # noqa: S101
    wanted = mergeblock.Block(
        commit=_full(commit), reason="MergeBlocked", message=reason, since=now, expires=now + lasts,
        next_action="push a commit that passes, or ask who runs this repository",
    )  # fmt: skip
    mergeblock.write(_server_file(path, commit), wanted)
    _say(target, {"blocked": commit}, f"blocked {commit}")


def allow(target: Target, path: Repository, commit: Commit) -> None:
    """Lift the block of a commit on a server."""
    from dawg_orchestrator.client import mergeblock

    mergeblock.write(_server_file(path, _full(commit)), None)
    _say(target, {"allowed": commit}, f"allowed {commit}")


def _place(path: Path, *, server: bool) -> tuple[tuple[str, ...], Path]:
    """The hooks that belong there, and the folder where git looks for them."""
    from dawg_orchestrator.client import hookfiles

    bare = _ask(path, "rev-parse", "--is-bare-repository") == "true"
    if bare != server:
        told = "is bare: say --server" if bare else "is not bare: leave --server out"
        raise CommandFailed(f"{path} {told}", USAGE)
    # asked without our own settings, which would hide the person's core.hooksPath
    folder = Path(_ask(path, "rev-parse", "--git-path", "hooks", plain=True))
    return (hookfiles.SERVER_HOOKS if server else hookfiles.CLIENT_HOOKS), path / folder


def _git_dir(path: Path) -> Path:
    return Path(_ask(path, "rev-parse", "--absolute-git-dir"))


def _ask(path: Path, *words: str, plain: bool = False) -> str:
    from dawg_orchestrator.client.worktree import run_git

    if not path.is_dir():
        raise CommandFailed(f"{path} is no folder; name a git repository", USAGE)
    done = run_git(path, words, settings=() if plain else None)
    if done.returncode:
        raise CommandFailed(f"{path} is no git repository", USAGE)
    return os.fsdecode(done.stdout).removesuffix("\n")


def _full(commit: str) -> str:
    from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

    if not re.fullmatch(FULL_COMMIT_PATTERN, commit):
        raise CommandFailed("COMMIT: write the full commit, as `git rev-parse` prints it", USAGE)
    return commit


def _server_file(path: Path, commit: str) -> Path:
    return _git_dir(path) / "dawg" / "blocked" / f"{_full(commit)}.json"


def _show(target: Target, hooks: Any, blocks: Any = None) -> None:
    answer: dict[str, Any] = {"hooks": [
        {"name": hook.name, "path": str(hook.path), "state": hook.state.value,
         "chained": str(hook.chained) if hook.chained else None} for hook in hooks
    ]}  # fmt: skip
    lines = [f"{hook.name}: {hook.state.value}{', before another hook' if hook.chained else ''}" for hook in hooks]
    if blocks is not None:
        answer["blocked"] = [{"commit": one.commit, "reason": one.reason, "message": one.message} for one in blocks]
        lines += [f"blocked: {one.commit} ({one.reason}: {one.message})" for one in blocks] or ["nothing is blocked"]
    _say(target, answer, *lines)


def _say(target: Target, answer: dict[str, Any], *lines: str) -> None:
    from dawg_orchestrator.client.printing import print_json, print_line
    from dawg_orchestrator.client.terminal import one_line

    if target.wants_json:
        print_json(answer)
        return
    for line in lines:
        print_line(one_line(line))
