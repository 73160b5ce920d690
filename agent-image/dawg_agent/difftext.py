"""Reads what `git log -c --raw --numstat -z` says. Names and messages are whatever a committer likes, but hold no NUL.

    NUL \\x01 commit NUL parents NUL time NUL address NUL name NUL message NUL differences …

Of a file git says two things: which blobs it was and is, and how many lines were added and deleted. A merge is compared
with its first parent, and only in files that differ from all parents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

FORMAT = "%x01%H%x00%P%x00%ct%x00%aE%x00%aN%x00%B"
MESSAGE_LIMIT = 10_000  # characters that are kept
_ADDRESS_LIMIT = 320  # characters
_MARK = b"\x01"
_LATEST = 253_402_300_799  # seconds since the epoch, in year 9999: git takes any number
_COUNTS = re.compile(rb"(\d+|-)\t(\d+|-)\t(.*)", re.DOTALL)
_WORDS_BEFORE_FILES = 6


@dataclass(slots=True)
class FileEntry:
    """What git says of one file. ``added`` and ``deleted`` are None of binary files, blobs where git names none."""

    path: str
    added: int | None = None
    deleted: int | None = None
    old: bytes | None = None
    new: bytes | None = None
    renamed_from: str | None = None


@dataclass(slots=True)
class CommitEntry:
    """What git says of one commit."""

    commit: str
    parents: int
    author: str
    time: datetime
    message: str
    files: dict[str, FileEntry] = field(default_factory=dict)


def read_log(output: bytes) -> Iterator[CommitEntry]:
    """All commits, in git's order. What was cut off at the end of the output is left out."""
    words = iter(output.split(b"\0")[:-1])
    entry: CommitEntry | None = None
    for word in words:
        head = word.removeprefix(b"\n")
        if head.startswith(_MARK):
            if entry is not None:
                yield entry
            rest = [next(words, None) for _ in range(_WORDS_BEFORE_FILES - 1)]
            if None in rest:
                return
            entry = _commit(head[1:], *(text or b"" for text in rest))
        elif entry is not None:
            _read_file(head, words, entry.files)
    if entry is not None:
        yield entry


def read_files(output: bytes) -> dict[str, FileEntry]:
    """The same of a command that compares two trees, such as `git diff-tree`."""
    words = iter(output.split(b"\0")[:-1])
    files: dict[str, FileEntry] = {}
    for word in words:
        _read_file(word, words, files)
    return files


def _commit(commit: bytes, parents: bytes, seconds: bytes, address: bytes, name: bytes, message: bytes) -> CommitEntry:
    moment = min(int(seconds), _LATEST) if seconds.isdigit() else 0
    author = _text(address).strip().lower() or _text(name).strip()
    return CommitEntry(
        commit.decode("ascii"),
        len(parents.split()),
        author[:_ADDRESS_LIMIT],
        datetime.fromtimestamp(moment, UTC),
        _text(message)[:MESSAGE_LIMIT],
    )


def _read_file(head: bytes, words: Iterator[bytes], files: dict[str, FileEntry]) -> None:
    """Take what one difference consists of: a word with numbers, and the paths that follow it."""
    if head.startswith(b":"):
        _read_blobs(head, words, files)
    elif counts := _COUNTS.fullmatch(head):
        added, deleted, path = counts.groups()
        former = None
        if not path:  # of a renamed file, whose two names follow
            former, path = next(words, None), next(words, b"")
        if path:
            entry = files.setdefault(_text(path), FileEntry(_text(path)))
            if added != b"-":
                entry.added, entry.deleted = int(added), int(deleted)
            entry.renamed_from = _text(former) if former else entry.renamed_from


def _read_blobs(head: bytes, words: Iterator[bytes], files: dict[str, FileEntry]) -> None:
    """``:modes blobs status``, with a colon for each parent; the first blobs are the parents', the last the file's."""
    parents = len(head) - len(head.lstrip(b":"))
    numbers = head[parents:].split()
    path = next(words, None)
    if parents == 1 and numbers[-1][:1] == b"R":
        path = next(words, None)
    if path:
        entry = files.setdefault(_text(path), FileEntry(_text(path)))
        entry.old, entry.new = _blob(numbers[parents + 1]), _blob(numbers[-2])


def _blob(number: bytes) -> bytes | None:
    return bytes.fromhex(number.decode("ascii")) if number.strip(b"0") else None


def _text(words: bytes) -> str:
    """Bytes that are no UTF-8 stay what they are, so that two names never become one."""
    return words.decode("utf-8", "surrogateescape")
