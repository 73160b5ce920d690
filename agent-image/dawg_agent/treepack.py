"""A tree pack: a folder as one stream, which whoever is to own the files unpacks for itself.

    b"DAWGTREE" | length of the index, 4 bytes, big-endian | index, JSON | the files' bytes in the index' order

The index lists [kind, path, mode, extra] with parents before children: "d" folder, "f" file (extra: its size), "l" link
(extra: its target). Names are bytes to Linux; here they are UTF-8 with surrogates in place of what is none, and JSON
writes those as ASCII. Links stay links, wherever they lead; nothing is read through one.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAGIC = b"DAWGTREE"
PIECE = 1024 * 1024  # bytes of a file that are in memory at a time

Entry = tuple[str, str, int, int | str | None]  # kind, path, mode, extra


class NotATreePack(Exception):
    """The stream does not begin as a tree pack does."""


def write_pack(folder: Path, out: BinaryIO) -> None:
    """Write everything below a folder as one pack; raise OSError when a file changes meanwhile."""
    root = os.fsencode(folder)
    entries = list(_entries(root))
    index = json.dumps(entries, separators=(",", ":")).encode("ascii")
    out.write(MAGIC + len(index).to_bytes(4, "big") + index)
    for kind, path, _, size in entries:
        if kind == "f":
            assert isinstance(size, int)  # noqa: S101
            _copy(root + b"/" + _name(path), size, out)


def read_index(packed: BinaryIO) -> list[Entry]:
    """Read a pack's index and leave the stream at the first file's bytes; raise NotATreePack."""
    if packed.read(len(MAGIC)) != MAGIC:
        raise NotATreePack("it does not begin with " + MAGIC.decode())
    index = packed.read(int.from_bytes(packed.read(4), "big"))
    try:
        return [(kind, path, mode, extra) for kind, path, mode, extra in json.loads(index)]
    except (ValueError, TypeError) as error:
        raise NotATreePack("its index cannot be read") from error


def _text(name: bytes) -> str:
    """A name as text, the same in every locale."""
    return name.decode("utf-8", "surrogateescape")


def _name(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _entries(root: bytes) -> Iterator[Entry]:
    """Everything below the folder, a folder before what is in it; what is no file, folder or link is left out."""
    waiting = [b""]
    while waiting:  # no recursion: trees may be as deep as a committer likes
        below = waiting.pop()
        for entry in _listed(root + b"/" + below):
            path, status = below + entry.name, entry.stat(follow_symlinks=False)
            mode = status.st_mode & 0o777
            if stat.S_ISLNK(status.st_mode):
                yield "l", _text(path), mode, _text(os.readlink(entry.path))  # noqa: PTH115 - names are bytes
            elif stat.S_ISDIR(status.st_mode):
                yield "d", _text(path), mode | 0o755, None
                waiting.append(path + b"/")
            elif stat.S_ISREG(status.st_mode):
                yield "f", _text(path), mode | 0o644, status.st_size


def _listed(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _copy(path: bytes, size: int, out: BinaryIO) -> None:
    """Write exactly as many bytes as the index promised."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = size
        while left:
            piece = os.read(handle, min(left, PIECE))
            if not piece:
                raise OSError(f"{_text(path)} has become shorter while it was packed")
            out.write(piece)
            left -= len(piece)
    finally:
        os.close(handle)
