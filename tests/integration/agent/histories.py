"""Repositories with a random history, and a slow count of what each commit is like: git is asked for every one."""

from __future__ import annotations

import contextlib
import math
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

AUTHORS = ("ann@example.org", "Bob@Example.org", "cid@example.org")
NAMES = (
    "a.py", "src/b.py", "src/deep/c.py", "docs/d e.md", "docs/é\n.md", "-rf", "src/\x01mark", ":100644 1", "1\t2\tx",
    'quo"te', "src/$(touch x)", "l\udcffatin",
)  # fmt: skip
MESSAGES = ("Add it", "fix: the door", "Mend bug 7\n\nwith\x01words", "--format=%H", "1\t1\ta.py", "")
_BEGIN = 1_760_000_000


def run(folder: Path, *arguments: str, at: int = _BEGIN, author: str = AUTHORS[0]) -> bytes:
    """Git, as that person at that time."""
    who = {f"GIT_{role}_{what}": author for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {f"GIT_{role}_DATE": f"{at} +0000" for role in ("AUTHOR", "COMMITTER")}
    environment = os.environ | who | when | {"GIT_CONFIG_GLOBAL": "/dev/null"}
    return subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True).stdout


@dataclass
class RandomHistory:
    """A repository that people work on, on two branches that are merged now and then."""

    folder: Path
    chance: random.Random
    now: int = _BEGIN

    def grow(self, commits: int) -> str:
        """Make a history; returns its newest commit."""
        self.folder.mkdir()
        run(self.folder, "init", "--quiet", "--initial-branch=main")
        self._commit()
        run(self.folder, "branch", "side")
        for _ in range(commits):
            run(self.folder, "checkout", "--quiet", self.chance.choice(("main", "side")))
            (self._merge if self.chance.random() < 0.15 else self._commit)()
        run(self.folder, "checkout", "--quiet", "main")
        self._merge("side")
        return run(self.folder, "rev-parse", "HEAD").decode().strip()

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and ".git" not in path.parts]

    def _commit(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            self.chance.choice((self._write, self._write, self._edit, self._move, self._delete, self._binary))()
        self._record("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", self.chance.choice(MESSAGES))

    def _record(self, *arguments: str) -> None:
        self.now += self.chance.randint(-2, 40) * 3600  # clocks differ
        run(self.folder, "add", "-A")
        run(self.folder, *arguments, at=self.now, author=self.chance.choice(AUTHORS))

    def _merge(self, other: str = "side") -> None:
        """Conflicts are settled in favour of one, and sometimes of neither."""
        current = run(self.folder, "branch", "--show-current").decode().strip()
        other = "main" if current == "side" else other
        merge = ("merge", "--quiet", "--no-commit", "--no-ff", "-Xours", other)
        with contextlib.suppress(subprocess.CalledProcessError):  # a conflict is left as git has it
            run(self.folder, *merge)
        if self.chance.random() < 0.5:
            self._edit()
        self._record("commit", "--quiet", "--allow-empty", "-m", "merge")

    def _write(self) -> None:
        path = self.folder / self.chance.choice(NAMES)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._put(path, [self._line() for _ in range(self.chance.randint(0, 12))])

    def _edit(self) -> None:
        path = self._text()
        if path is not None:
            lines = [line for line in path.read_text().split("\n") if self.chance.random() < 0.9]
            self._put(path, [*lines, *(self._line() for _ in range(self.chance.randint(0, 3)))])

    def _put(self, path: Path, lines: list[str]) -> None:
        path.write_text("\n".join(lines) + self.chance.choice(("", "\n")))

    def _line(self) -> str:
        return f"line {self.chance.randint(0, 10**9)}"

    def _text(self) -> Path | None:
        texts = [path for path in self._files() if b"\0" not in path.read_bytes()]
        return self.chance.choice(sorted(texts)) if texts else None

    def _move(self) -> None:
        free = [name for name in NAMES if not (self.folder / name).exists()]
        if (path := self._text()) is not None and free:
            target = self.folder / self.chance.choice(free)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    def _delete(self) -> None:
        if files := sorted(self._files()):
            self.chance.choice(files).unlink()

    def _binary(self) -> None:
        path = self.folder / "picture"
        path.write_bytes(b"\0" + self.chance.randbytes(20))


@dataclass
class Told:
    """What git shows of one commit."""

    commit: str
    author: str
    time: int
    message: str
    paths: dict[str, str | None] = field(default_factory=dict)  # and what a path was called before, if it was renamed
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


@dataclass
class SlowCount:
    """Features by looking back from each commit, one commit and one file at a time."""

    folder: Path
    head: str

    @cached_property
    def all(self) -> list[Told]:
        order = run(self.folder, "rev-list", "--topo-order", "--reverse", "--no-merges", self.head).decode().split()
        return [self._told(commit) for commit in order]

    def _told(self, commit: str) -> Told:
        email, time, message = (
            run(self.folder, "show", "--no-patch", f"--format={what}", commit).decode("utf-8", "surrogateescape")
            for what in ("%ae", "%ct", "%B")
        )
        told = Told(commit, email.strip().lower(), int(time), message)
        show = ("show", "--format=", "-M50%", "-z")
        states = iter(run(self.folder, *show, "--name-status", commit).split(b"\0")[:-1])
        for state in states:
            first = os.fsdecode(next(states))
            former, path = (first, os.fsdecode(next(states))) if state.startswith(b"R") else (None, first)
            told.paths[path] = former
            self._count(told, path, former)
        return told

    def _count(self, told: Told, path: str, former: str | None) -> None:
        """Compare two contents without git's own counting of lines before."""
        only = ("--", f":(literal){path}", *((f":(literal){former}",) if former else ()))
        numbers = run(self.folder, "show", "--format=", "-M50%", "--numstat", "-z", told.commit, *only).split(b"\t")
        is_text = numbers[0] != b"-"
        told.counts[path] = (int(numbers[0]), int(numbers[1])) if is_text else (0, 0)
        told.lines[path] = self._length(f"{told.commit}^:{former or path}") if is_text else 0

    def _length(self, place: str) -> int:
        try:
            content = run(self.folder, "cat-file", "blob", place)
        except subprocess.CalledProcessError:
            return 0
        return len(content.splitlines()) if b"\r" not in content else content.count(b"\n")

    def features(self, number: int) -> tuple[float, ...]:
        told, before = self.all[number], self.all[:number]
        touched = {path: list(self._earlier(number, path)) for path in told.paths}
        ages = [(told.time - of[0].time) / 86400 if of else 0.0 for of in touched.values()]
        earlier = {other.commit: other for of in touched.values() for other in of}
        own = [other for other in before if other.author == told.author]
        parts = {_top(path) for path in told.paths}
        changed = [sum(counts) for counts in told.counts.values() if sum(counts)]
        return (
            len(parts),
            len({str(Path(path).parent) for path in told.paths}),
            len(told.paths),
            -sum(one / sum(changed) * math.log2(one / sum(changed)) for one in changed),
            sum(added for added, _ in told.counts.values()),
            sum(deleted for _, deleted in told.counts.values()),
            sum(told.lines.values()),
            float("fix" in told.message.lower() or "bug" in told.message.lower()),
            len({told.author, *(other.author for other in earlier.values())}),
            sum(max(0.0, age) for age in ages) / len(ages) if ages else 0.0,
            len(earlier) + 1,
            len(own) + 1,
            1 + sum(1 / (1 + max(0.0, (told.time - other.time) / 86400)) for other in own),
            1 + sum(bool(parts & {_top(path) for path in other.paths}) for other in own),
        )

    def _earlier(self, number: int, path: str) -> Iterator[Told]:
        """Commits that changed a file before, the newest first, under the names that it had then."""
        path = self.all[number].paths[path] or path
        for other in reversed(self.all[:number]):
            if path in other.paths:
                yield other
                path = other.paths[path] or path
            elif path in other.paths.values():
                return  # the file of this name went elsewhere; what has it now began later


def _top(path: str) -> str:
    return path.split("/", maxsplit=1)[0] if "/" in path else ""
