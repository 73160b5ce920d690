"""What a tree pack says, written down a second time: a small unpacker to hold the writer against."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from dawg_agent.treepack import read_index


def unpack(packed: BinaryIO, folder: Path) -> None:
    """Unpack below an empty folder, in the index' order and with nothing assumed beyond the format."""
    for kind, path, mode, extra in read_index(packed):
        place = folder / path
        if kind == "l":
            place.symlink_to(str(extra))
            continue
        if kind == "d":
            place.mkdir()
        else:
            assert isinstance(extra, int)
            place.write_bytes(packed.read(extra))
        place.chmod(mode)
    assert packed.read() == b""


def listing(folder: Path, *, without: str = "") -> dict[str, tuple[int, str | bytes]]:
    """Everything below a folder: mode, and a file's bytes or a link's target."""
    found: dict[str, tuple[int, str | bytes]] = {}
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != without]
        for path in (Path(where, name) for name in folders + files):
            content: str | bytes = ""
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
            found[str(path.relative_to(folder))] = path.lstat().st_mode, content
    return found
