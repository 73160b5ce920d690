"""Files on their way: to the api, and from one task of a run to another as a tar."""

from __future__ import annotations

import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dawg_agent.volume import OutsideTheTree, open_inside

MAX_HANDED_BYTES = 4 * 1024 * 1024 * 1024


class InputNotFetched(Exception):
    """What an earlier task handed on could not be had."""


@dataclass(frozen=True)
class Sending:
    """A file for the api; ``tarred``: a folder or file to be packed for later tasks."""

    kind: str
    name: str
    path: Path
    root: Path
    tarred: bool = False


def handed_name(path: str) -> str:
    """The name under which a path is handed on: the same for who sends and who fetches, however it is written."""
    name = PurePosixPath(path).as_posix()
    return "workspace" if name == "." else name


def pack(sending: Sending, scratch: Path) -> BinaryIO:
    """Pack a path for later tasks into an anonymous file; names are relative to the working directory.

    Links are packed as links and checked where they are unpacked; special files are left out.
    Raise OutsideTheTree when it is too large.
    """
    packed = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        single = sending.path.is_file() or sending.path.is_symlink()
        paths = [sending.path] if single else [sending.path, *sorted(sending.path.rglob("*"))]
        for path in paths:
            entry = archive.gettarinfo(path, arcname=str(path.relative_to(sending.root)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            if entry.isfile():
                with open_inside(sending.root, path) as stream:
                    entry.size = os.fstat(stream.fileno()).st_size
                    archive.addfile(entry, stream)
            elif entry.isdir() or entry.issym():
                archive.addfile(entry)
            elif entry.islnk():  # a second name of a file already packed
                with open_inside(sending.root, path) as stream:
                    entry.type, entry.linkname = tarfile.REGTYPE, ""
                    entry.size = os.fstat(stream.fileno()).st_size
                    archive.addfile(entry, stream)
            if packed.tell() > MAX_HANDED_BYTES:
                raise OutsideTheTree(f"{sending.name} is larger than {MAX_HANDED_BYTES >> 30} GiB")
    packed.seek(0)
    return packed


def unpack(packed: BinaryIO, root: Path) -> None:
    """Unpack what an earlier task handed on; raise OutsideTheTree for what would land, or point, outside the folder.

    Checked member by member, each after those before it are there, because an earlier link may bend a later path.
    """
    packed.seek(0)
    with tarfile.open(fileobj=packed, mode="r:") as archive:
        for member in archive:
            _unpack_member(archive, member, root)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    place = root / member.name
    if ".." in Path(member.name).parts or not place.parent.resolve().is_relative_to(root.resolve()):
        raise OutsideTheTree(f"{member.name} leads out of its folder")
    if member.issym():
        if Path(member.linkname).is_absolute() or not (place.parent / member.linkname).resolve().is_relative_to(
            root.resolve()
        ):
            raise OutsideTheTree(f"link {member.name} leads out of its folder")
    elif not (member.isreg() or member.isdir()):
        raise OutsideTheTree(f"{member.name} is no plain file, folder or link")
    if place.is_symlink() or (place.exists() and not member.isdir()):
        place.unlink()  # never written through
    member.uid, member.gid = os.getuid(), os.getgid()
    member.mode = (member.mode & 0o755) | (0o770 if member.isdir() else 0o660)
    archive.extract(member, root)
