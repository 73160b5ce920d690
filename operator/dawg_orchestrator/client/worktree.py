"""A developer's own repository, asked by git; nothing of the repository is run: no hook, no pager, no diff program.

What git would do at `git add` is done to a copy of the index, and what that stores goes to a folder of its own: the
repository is left as it was.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dawg_orchestrator.client.exits import GAVE_UP, USAGE, CommandFailed
from dawg_orchestrator.client.terminal import one_line

_SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.splitIndex=false", "core.untrackedCache=keep",
    "core.pager=cat", "gc.auto=0", "maintenance.auto=false", "advice.addEmbeddedRepo=false", "core.safecrlf=false",
)  # fmt: skip
_DIFF = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-renames",
         "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty")  # fmt: skip
_REMOTE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,99}")
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class State:
    """What there is to test: HEAD, the branch it is on, and the tree of all files that git does not ignore."""

    head: str
    branch: str | None
    head_tree: str
    tree: str


class WorkTree:
    """The repository around a folder; CommandFailed when there is none, or git cannot do what is asked."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise CommandFailed(f"{path} is no folder; name a git work tree", USAGE)
        self.root = path
        self.root = Path(self._one("rev-parse", "--show-toplevel", trouble="name a git work tree"))
        self.git_dir = Path(self._one("rev-parse", "--absolute-git-dir"))

    def head(self) -> str | None:
        """The commit of HEAD; None before the first."""
        return self._maybe("rev-parse", "--quiet", "--verify", "HEAD^{commit}")

    def state(self) -> State | None:
        """What there is to test now; None before the first commit."""
        head = self.head()
        if head is None:
            return None
        branch = self._maybe("symbolic-ref", "--quiet", "--short", "HEAD")
        with _Aside(self) as aside:
            return State(head, branch, self._one("rev-parse", f"{head}^{{tree}}"), aside.tree())

    def patch_of_commit(self, base: str, head: str) -> bytes:
        """What to put on top of one commit to have another's tree."""
        return self._run(*_DIFF, base, head, "--")

    def patch_of_files(self, base: str) -> bytes:
        """What to put on top of a commit to have the files as they are, without those that git ignores."""
        with _Aside(self) as aside:
            return self._run(*_DIFF, base, aside.tree(), "--", environment=aside.environment)

    def published(self, head: str, remote: str) -> str:
        """The newest commit in the history of ``head`` that the remote's branches had when last heard of."""
        listed = self._lines("for-each-ref", "--format=%(objecttype) %(objectname)", f"refs/remotes/{_remote(remote)}/")
        there = {line.partition(" ")[2] for line in listed if line.startswith("commit ")}
        if not there:
            raise CommandFailed(f"no branch of remote {remote!r} is known here; git fetch it, or name --remote", USAGE)
        words = "\n".join([head, *(f"^{commit}" for commit in sorted(there))]) + "\n"
        found = self._run("rev-list", "--boundary", "--stdin", stdin=words.encode()).decode().split()
        if not found:
            return head
        edge = [word[1:] for word in found if word.startswith("-")]
        if not edge:
            raise CommandFailed(f"remote {remote!r} has no commit of this branch's history; push its beginning", USAGE)
        return self._lines("rev-list", "--no-walk=sorted", "--max-count=1", *edge)[0]

    def remote_url(self, remote: str) -> str:
        """The address that `git fetch` would use."""
        url = self._maybe("remote", "get-url", "--", _remote(remote))
        if url is None:
            raise CommandFailed(
                f"there is no remote {remote!r}; name one with --remote, or an address with --url", USAGE
            )
        return url

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether a commit is in the history of another, or that itself."""
        return self._call("merge-base", "--is-ancestor", ancestor, commit).returncode == 0

    def ignored(self, paths: Iterable[Path]) -> set[Path]:
        """Those of the paths that git ignores."""
        # "./", for git takes a colon at the beginning for a word to itself
        names = {b"./" + os.fsencode(path.relative_to(self.root)): path for path in paths if path != self.root}
        if not names:
            return set()
        done = self._call("check-ignore", "-z", "--stdin", stdin=b"\0".join(names) + b"\0")
        return {names[name] for name in done.stdout.split(b"\0") if name in names}

    def _one(self, *words: str, trouble: str = "") -> str:
        return os.fsdecode(self._run(*words, trouble=trouble)).removesuffix("\n")

    def _lines(self, *words: str) -> list[str]:
        return os.fsdecode(self._run(*words)).splitlines()

    def _maybe(self, *words: str) -> str | None:
        done = self._call(*words)
        return os.fsdecode(done.stdout).removesuffix("\n") if done.returncode == 0 else None

    def _run(
        self, *words: str, stdin: bytes = b"", environment: dict[str, str] | None = None, trouble: str = ""
    ) -> bytes:
        done = self._call(*words, stdin=stdin, environment=environment)
        if done.returncode:
            said = one_line(done.stderr.decode("utf-8", "replace").strip())[:500]
            remedy = f"; {trouble}" if trouble else ""
            raise CommandFailed(f"git {words[0]} failed in {self.root}: {said}{remedy}", USAGE if trouble else GAVE_UP)
        return done.stdout

    def _call(
        self, *words: str, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return run_git(self.root, words, stdin, environment or {})


class _Aside:
    """A copy of the index and a place for new objects, until the block is left."""

    def __init__(self, work: WorkTree) -> None:
        self._work = work
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="dawg-watch-")
        index, objects = Path(self._folder.name) / "index", Path(self._folder.name) / "objects"
        objects.mkdir()
        own = Path(self._work._one("rev-parse", "--path-format=absolute", "--git-path", "index"))  # noqa: SLF001
        store = self._work._one("rev-parse", "--path-format=absolute", "--git-path", "objects")  # noqa: SLF001
        if own.exists():
            shutil.copy2(own, index)  # with its time, by which git tells which files it has to read again
        self.environment = {
            "GIT_INDEX_FILE": str(index), "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(store),
        }  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def tree(self) -> str:
        """The tree of the files as they are; untracked ones count, ignored ones do not."""
        self._work._run("add", "--all", "--", ".", environment=self.environment)  # noqa: SLF001
        return self._work._run("write-tree", environment=self.environment).decode().strip()  # noqa: SLF001


def run_git(
    folder: Path, words: Sequence[str], stdin: bytes = b"", environment: dict[str, str] | None = None,
    settings: Sequence[str] | None = None,
) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
    """Run git in a folder, with none of what a hook or a shell around it has set; ``settings`` instead of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    quiet = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    ours = [word for setting in (_SETTINGS if settings is None else settings) for word in ("-c", setting)]
    command = ["git", "--no-pager", *ours, *words]
    try:
        return subprocess.run(
            command, cwd=folder, env=kept | quiet | (environment or {}), input=stdin, capture_output=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise CommandFailed("git is not installed here", GAVE_UP) from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"git {words[0]} was not done after {_SECONDS:.0f} s in {folder}", GAVE_UP) from error


def _remote(name: str) -> str:
    if not _REMOTE.fullmatch(name):
        raise CommandFailed(f"--remote: {one_line(name)} is no name of a remote", USAGE)
    return name


def _quoted(path: str) -> str:
    """As git reads the entries of a list of paths: quoted where a colon or a quote is in one."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
