#!/usr/bin/env python3
# dawg-hook version 1: written by `dawg hooks install`, taken away by `dawg hooks uninstall`; changes here are lost.
"""Keeps commits that DAWG has blocked from being merged and pushed. Needs git and Python's standard library.

    pre-commit        warns, and lets pass: the fix must be committed, too; but a merge that had stopped it refuses
    pre-merge-commit  refuses to merge a blocked commit
    pre-push          refuses to push one
    pre-receive       refuses to take one (on a server)

What is blocked stands in MERGE_BLOCKED of each work tree's git folder, on a server also in dawg/blocked/COMMIT.json. A
hook that was here before lies beside this file as NAME.before-dawg, and runs if this one lets pass.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from typing import Any, Dict, Optional, Tuple

Block = Dict[str, Any]
Offer = Tuple[str, Optional[str]]  # these are read when it runs, with an old Python, too

BEFORE = ".before-dawg"
LOG = "dawg-overrides.log"
_MOST_BYTES = 1 << 20
_MOST_TASKS = 20
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_PUSHERS = ("REMOTE_USER", "GL_USERNAME", "GITEA_PUSHER_NAME")  # who pushes, as servers tell their hooks


def main() -> int:
    """The hook by whose name this file is called; its exit code."""
    name = os.path.basename(sys.argv[0])
    given = sys.stdin.buffer.read() if name in ("pre-push", "pre-receive") else b""
    offers = {"pre-commit": _merged, "pre-merge-commit": _merged, "pre-push": _pushed, "pre-receive": _received}
    offered = offers[name](given.decode("utf-8", "replace")) if name in offers else []
    blocks = _blocks()
    hit = [block for block in blocks if any(_brings(block, new, old) for new, old in offered)]
    if hit and not _overridden(name, hit):
        return 1
    if name == "pre-commit" and not hit:
        _warn([block for block in blocks if _brings(block, "HEAD", None)])
    return _run_the_other(given)


# What is offered: pairs of a commit, and a commit whose history is there already


def _merged(_: str) -> list[Offer]:
    """Heads that are merged into HEAD; git tells them in the environment, and notes them once it has to stop."""
    heads = [name[len("GITHEAD_") :] for name in os.environ if name.startswith("GITHEAD_")]
    with contextlib.suppress(OSError), open(os.path.join(_folder(), "MERGE_HEAD"), encoding="ascii") as noted:
        heads += noted.read().split()
    return [(head, "HEAD") for head in heads if _COMMIT.fullmatch(head)]


def _pushed(given: str) -> list[Offer]:
    """Lines of LOCAL-REF LOCAL-COMMIT REMOTE-REF REMOTE-COMMIT; a commit of zeros is none."""
    parts = [line.rsplit(" ", 3) for line in given.split("\n") if line]
    return [(words[1], _some(words[3])) for words in parts if len(words) == 4 and _some(words[1])]


def _received(given: str) -> list[Offer]:
    """Lines of OLD-COMMIT NEW-COMMIT REF."""
    parts = [line.split(" ", 2) for line in given.split("\n") if line]
    return [(words[1], _some(words[0])) for words in parts if len(words) == 3 and _some(words[1])]


def _some(commit: str) -> str | None:
    return commit if _COMMIT.fullmatch(commit) and commit.strip("0") else None


def _brings(block: Block, new: str, old: str | None) -> bool:
    commit = block["commit"]
    if commit is None:  # nobody can say which commit is meant
        return True
    return _contains(new, commit) and not (old is not None and _contains(old, commit))


def _contains(commit: str, ancestor: str) -> bool:
    return _call("merge-base", "--is-ancestor", ancestor, commit).returncode == 0


# What is blocked


def _blocks() -> list[Block]:
    """What is blocked now; a file that cannot be read blocks everything, for nobody knows what it says."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = [_read(path) for path in _files()]
    return [block for block in found if block is not None and not str(block.get("expires") or "~") <= now]


def _files() -> list[str]:
    own, common = _folder(), _git("rev-parse", "--git-common-dir") or _folder()
    folders = {os.path.realpath(folder) for folder in (own, common)}
    folders |= {entry.path for entry in _listed(os.path.join(common, "worktrees"))}
    files = [os.path.join(folder, "MERGE_BLOCKED") for folder in sorted(folders)]
    files += [entry.path for entry in _listed(os.path.join(common, "dawg", "blocked")) if entry.name.endswith(".json")]
    return [path for path in files if os.path.lexists(path)]


def _listed(folder: str) -> list[Any]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []


def _read(path: str) -> Block | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            block: Block = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
        if not _COMMIT.fullmatch(block["commit"]):
            raise ValueError("its commit is none")
    except FileNotFoundError:
        return None  # lifted at this moment
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {"commit": None, "reason": "Unreadable", "message": f"{path} cannot be read: {error}",
                "nextAction": "look at that file, and delete it if nobody needs it"}  # fmt: skip
    return block


# What people are told


def _tell(text: str) -> None:
    sys.stderr.write(f"dawg: {_plain(text)}\n")


def _plain(text: str) -> str:
    return _UNSAFE.sub("?", text)[:1000].encode("ascii", "replace").decode()


def _describe(block: Block) -> None:
    about = f"{block.get('reason') or 'MergeBlocked'}: {block.get('message') or ''}"
    _tell(f"  commit  {block['commit'] or 'unknown'}")
    _tell(f"  reason  {about}")
    tasks = block.get("tasks")
    listed = tasks if isinstance(tasks, list) else []
    for task in [task for task in listed if isinstance(task, dict)][:_MOST_TASKS]:
        told = " ".join(str(task.get(name) or "") for name in ("name", "verdict", "reason", "message"))
        _tell(f"  task    {told}")
    if block.get("nextAction"):
        _tell(f"  next    {block['nextAction']}")


def _warn(blocks: list[Block]) -> None:
    for block in blocks:
        _tell("this branch holds a commit whose merge is blocked; a commit that fixes it is welcome")
        _describe(block)


# Going past it


def _overridden(name: str, hit: list[Block]) -> bool:
    reason = _override()
    if reason is None or not reason.strip():
        _tell(f"{name} refused: the merge of a commit is blocked")
        for block in hit:
            _describe(block)
        if reason is not None:
            _tell("an override needs a reason; an empty one is none")
        way = '-o dawg.override="REASON"' if name == "pre-receive" else 'DAWG_OVERRIDE="REASON" git ...'
        _tell(f"  or      go past it, which is recorded: {way}")
        return False
    try:
        for block in hit:
            _record(name, block, reason.strip())
    except OSError as error:
        _tell(f"refused: the override cannot be recorded: {error}")
        return False
    _tell(f"the merge is blocked; overridden, and recorded: {reason.strip()}")
    return True


def _override() -> str | None:
    """The reason somebody gives for going past a block; None if nobody does."""
    given = _push_options()
    if not given and os.path.basename(sys.argv[0]) != "pre-receive":
        given = [os.environ["DAWG_OVERRIDE"]] if "DAWG_OVERRIDE" in os.environ else []
        # only from `git -c`: what stands in a file would go past every block to come
        scoped = _call("config", "--show-scope", "-z", "--get", "dawg.override").stdout.decode("utf-8", "replace")
        scope, _, value = scoped.partition("\0")
        given += [value.rstrip("\0")] if scope == "command" else []
    return given[0] if given else None


def _push_options() -> list[str]:
    count = os.environ.get("GIT_PUSH_OPTION_COUNT", "")
    most = min(int(count), 100) if re.fullmatch("[0-9]{1,9}", count) else 0
    options = [os.environ.get(f"GIT_PUSH_OPTION_{n}", "") for n in range(most)]
    return [option.partition("=")[2] for option in options if option.partition("=")[0] == "dawg.override"]


def _record(name: str, block: Block, reason: str) -> None:
    line = json.dumps({
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "who": _who(name), "what": name,
        "commit": block["commit"], "blocked": block.get("reason"), "reason": reason[:1000],
    })  # fmt: skip
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    handle = os.open(os.path.join(_folder(), LOG), flags, 0o600)
    with os.fdopen(handle, "w") as log:
        log.write(line + "\n")


def _who(name: str) -> str:
    if name == "pre-receive":
        told = [os.environ[pusher] for pusher in _PUSHERS if os.environ.get(pusher)]
        return told[0] if told else getpass.getuser()
    ident = (_git("var", "GIT_COMMITTER_IDENT") or "").rpartition(">")[0]
    return f"{ident}>" if ident else getpass.getuser()


# git, and the hook that was here before


def _folder() -> str:
    return _git("rev-parse", "--absolute-git-dir") or "."


def _git(*words: str) -> str | None:
    done = _call(*words)
    return os.fsdecode(done.stdout).rstrip("\n") if done.returncode == 0 else None


def _call(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "--no-pager", "-c", "core.fsmonitor=false", *words]
    quiet = subprocess.DEVNULL
    return subprocess.run(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, check=False)


def _run_the_other(given: bytes) -> int:
    other = os.path.abspath(sys.argv[0]) + BEFORE
    if not os.access(other, os.X_OK):
        return 0
    return subprocess.run([other, *sys.argv[1:]], input=given, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
