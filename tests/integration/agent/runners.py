"""Real runner processes in folders of their own, and packs for them. They are not process 1 here: see OneSession."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dawg_agent.runner

RUNNER = Path(dawg_agent.runner.__file__)
PATIENCE = 20.0


@contextmanager
def a_folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket's name."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="dawg-", dir=memory))
    try:
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", folder], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


@contextmanager
def a_process(socket: Path, folder: Path, *options: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A runner that empties ``folder``/dawg and ``folder``/tmp."""
    for name in ("dawg", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    command = [sys.executable, "-I", str(RUNNER), "--socket", str(socket)]
    folders = ["--volume", str(folder / "dawg"), "--scratch", str(folder / "tmp")]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen([*command, *folders, *options], env={**ours, **env}, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()  # also one whose agent has not left; its task has ended


def a_pack(*entries: Sequence[Any], magic: bytes = b"DAWGTREE", cut: int = 0) -> int:
    """A tree pack as a descriptor; a file's entry has its content in place of its size."""
    index = [
        [kind, path, mode, len(extra) if kind == "f" else extra] for kind, path, mode, extra in map(_whole, entries)
    ]
    contents = b"".join(extra for kind, _, _, extra in map(_whole, entries) if kind == "f")
    written = json.dumps(index).encode()
    content = magic + len(written).to_bytes(4, "big") + written + contents
    return in_memory(content[: len(content) - cut])


def _whole(entry: Sequence[Any]) -> tuple[str, str, int, Any]:
    kind, path, *more = entry
    mode = 0o755 if kind == "d" else 0o644
    return (kind, path, *more) if len(more) == 2 else (kind, path, mode, more[0] if more else None)  # type: ignore[return-value]


def in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("test")
    os.write(descriptor, content)
    return descriptor
