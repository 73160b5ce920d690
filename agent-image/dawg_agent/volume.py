"""The volume that a test and its sidecar share: where things lie, and the marks by which they wait for each other."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MARK_BYTES = 4096


class OutsideTheTree(Exception):
    """A path leads out of the folder it must stay in, or is no plain file."""


@dataclass(frozen=True)
class Volume:
    """The shared volume; test code writes here, so nothing that is read from it is trusted."""

    root: Path
    sub_path: str | None = None

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def working_dir(self) -> Path:
        """Where the test runs."""
        return self.workspace / self.sub_path if self.sub_path else self.workspace

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def ready(self) -> Path:
        return self.control / "ready"

    @property
    def commit(self) -> Path:
        return self.control / "commit"

    @property
    def failed(self) -> Path:
        return self.control / "failed"

    @property
    def attending(self) -> Path:
        """The sidecar listens for SIGTERM; a test that cannot say how it ended must not start before."""
        return self.control / "attending"

    @property
    def exit(self) -> Path:
        return self.control / "exit"

    def create(self) -> None:
        """Make the folders; any user of the volume's group may write there."""
        for folder in (self.workspace, self.results, self.outputs, self.control, self.root / "home"):
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):  # somebody else of the group made it
                folder.chmod(0o2775)

    def mark(self, place: Path, text: str) -> None:
        """Write a mark whole or not at all, because the other side polls for it."""
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(place)

    def read_mark(self, place: Path) -> str | None:
        """Return a mark's text; None while it is not there."""
        try:
            with open_inside(self.control, place) as stream:
                return stream.read(MARK_BYTES).decode("utf-8", "replace").strip()
        except (FileNotFoundError, OutsideTheTree):
            return None

    def exit_code(self) -> int | None:
        """Return the test's exit code once the entry script has written it."""
        text = self.read_mark(self.exit)
        try:
            return int(text) if text else None
        except ValueError:
            return None

    def ready_since(self) -> int | None:
        """Return when (ns) the tree was handed over: what is not younger was not written by the test."""
        try:
            return self.ready.lstat().st_ctime_ns
        except FileNotFoundError:
            return None


@contextlib.contextmanager
def open_inside(root: Path, path: Path) -> Iterator[BinaryIO]:
    """Open a plain file that really lies below root.

    The sidecar holds a token, and test code may turn any path into a link to it. So the file is opened first and asked
    afterwards where it lies: nothing can be swapped in between. FIFOs must not block either.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (NotADirectoryError, FileNotFoundError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise OutsideTheTree(f"{path.name} cannot be opened: {error.strerror}") from error
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OutsideTheTree(f"{path.name} is no plain file")
        real = Path(f"/proc/self/fd/{handle}").readlink()
        if not real.is_relative_to(root.resolve()):
            raise OutsideTheTree(f"{path.name} leads out of its folder")
        yield stream
