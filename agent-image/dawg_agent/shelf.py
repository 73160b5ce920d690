"""A folder of named files and folders within a budget; the least recently used go first.

kept/NAME         a folder
kept/NAME.SIZE    a file, whole if it has that size
scratch           what is being made or deleted: swept at the start, so nothing half written is ever found again
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Kept:
    path: Path
    size: int
    changed: int  # ns; when anybody last wrote to the file, which nobody can set


class Shelf:
    """What one process keeps; ``budget`` is in bytes."""

    def __init__(self, folder: Path, budget: int) -> None:
        self._home, self._scratch, self._budget = folder / "kept", folder / "scratch", budget
        self._kept: dict[str, _Kept] = {}  # by name, the least recently used first
        self._busy: set[str] = set()
        self._claimed = 0
        self._numbers = itertools.count()
        self._sweeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dawg-sweeper")
        delete(self._scratch)
        for place in (self._home, self._scratch):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, kept in sorted(self._found_again(), key=lambda found: found[1].changed):
            self._put(name, kept)
        self._make_room()

    def open(self, name: str) -> int | None:
        """Return a read-only descriptor of a file; None: there is none, or not as it was put here."""
        if (kept := self._kept.get(name)) is None:
            return None
        self._put(name, kept)
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(kept.path, os.O_RDONLY | os.O_CLOEXEC)
            if os.fstat(handle).st_ctime_ns == kept.changed:
                return handle
            os.close(handle)
        self._discard(kept.path)
        del self._kept[name]
        return None

    def put_file(self, name: str, draft: Path) -> None:
        """Take over a file that is done."""
        size = draft.stat().st_size
        path = draft.rename(self._home / f"{name}.{size}")
        self._put(name, _Kept(path, size, path.stat().st_ctime_ns))
        self._make_room()

    def folder(self, name: str) -> Path:
        """Where a folder of this name is, or would be."""
        return self._home / name

    def replace_folder(self, name: str, draft: Path) -> None:
        """Put a folder where there may be another."""
        self._discard(self.folder(name))
        draft.rename(self.folder(name))

    def note_folder(self, name: str, size: int) -> None:
        """Take note of how large a folder has become."""
        self._put(name, _Kept(self.folder(name), size, 0))

    @contextmanager
    def in_use(self, name: str) -> Iterator[None]:
        """Let nobody delete a folder; one user at a time."""
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)
            self._make_room()

    @contextmanager
    def claim(self, size: int) -> Iterator[None]:
        """Hold room for what is being made."""
        self._claimed += size
        self._make_room()
        try:
            yield
        finally:
            self._claimed -= size

    @contextmanager
    def bench(self) -> Iterator[Path]:
        """A folder for one piece of work."""
        bench = self._next_scratch()
        bench.mkdir(mode=0o700)
        try:
            yield bench
        finally:
            self._sweeper.submit(delete, bench)

    def _make_room(self) -> None:
        """Delete what has to go; whoever has a file open goes on reading."""
        over = sum(kept.size for kept in self._kept.values()) + self._claimed - self._budget
        for name, kept in list(self._kept.items()):
            if over > 0 and name not in self._busy:
                self._discard(kept.path)
                del self._kept[name]
                over -= kept.size

    def _put(self, name: str, kept: _Kept) -> None:
        self._kept.pop(name, None)
        self._kept[name] = kept

    def _discard(self, path: Path) -> None:
        """Free its name at once, and the room behind our back."""
        doomed = self._next_scratch()
        with contextlib.suppress(FileNotFoundError):
            path.rename(doomed)
            self._sweeper.submit(delete, doomed)

    def _next_scratch(self) -> Path:
        return self._scratch / str(next(self._numbers))

    def _found_again(self) -> Iterator[tuple[str, _Kept]]:
        """What an earlier process has left whole."""
        for path in list(self._home.iterdir()):
            status = path.stat(follow_symlinks=False)
            name, _, size = path.name.rpartition(".")
            if path.is_dir():
                yield path.name, _Kept(path, size_of(path), status.st_ctime_ns)
            elif size == str(status.st_size):
                yield name, _Kept(path, status.st_size, status.st_ctime_ns)
            else:
                self._discard(path)


def size_of(folder: Path) -> int:
    """The room that a folder's files take on the disk."""
    files = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return sum(os.lstat(path).st_blocks * 512 for path in files)


def delete(path: Path) -> None:
    """Delete a file or folder. rm goes as deep as any tree, and lets our other threads run meanwhile."""
    subprocess.run(["rm", "-rf", "--", path], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
