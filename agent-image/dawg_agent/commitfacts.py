"""What one commit is and what it changed, read from a bare repository: facts, with no judgement.

Whatever a committer writes is data: commits are named by full numbers, names of files come from git and go back to it
behind ``--`` and as they are, and what people will read is rid of control characters.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from dawg_agent.blobs import Blobs
from dawg_agent.git import OUTPUT_LIMIT, GitError
from dawg_orchestrator.learning.changes import ChangedFile, CommitFacts, Kind, Person, Status, is_generated
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

MOST_FILES = 5000  # that are listed with their lines; beyond that they are only counted
MOST_MESSAGE = 4096  # characters
MOST_DIFF = 48 * 1024  # bytes of the whole
MOST_DIFF_OF_FILE = 8 * 1024
_DIFFED_FILES = 60
_MOST_DIFFED_LINES = 20_000  # of one file: a change of more is not read by anybody
_LONGEST_NAME = 256
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_LARGEST_POINTER = 1024
_DIFF = (
    "-r", "-z", "--no-ext-diff", "--no-textconv", "--no-color", "--no-abbrev", "--no-commit-id", "--root",
    "--ignore-submodules=none",
)  # fmt: skip
_BIG = ("-c", "core.bigFileThreshold=1m")  # larger ones count as binary, and are not read
_STATUS: dict[str, Status] = {
    "A": "added", "D": "deleted", "M": "modified", "R": "renamed", "C": "copied", "T": "retyped",
}  # fmt: skip
_KIND: dict[str, Kind] = {"120000": "symlink", "160000": "submodule"}
_RAW = re.compile(rb":(\d{6}) (\d{6}) ([0-9a-f]+) ([0-9a-f]+) ([A-Z])\d*")
_COUNTS = re.compile(rb"(\d+|-)\t(\d+|-)\t(.*)", re.DOTALL)
_PERSON = re.compile(r"(?P<name>.*?) ?<(?P<email>[^>]*)> (?P<time>-?\d{1,12}) [-+]\d+\Z", re.DOTALL)
_LATEST = 253_402_300_799  # seconds since the epoch, in year 9999: git takes any number
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def plain(text: str) -> str:
    """Without what would move a terminal's cursor, colour it, turn the direction of writing, or is no character."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True, slots=True)
class _Raw:
    file: ChangedFile
    blob: str  # after the commit


async def read_facts(blobs: Blobs, commit: str, base: str | None = None) -> CommitFacts:
    """The commit beside ``base``, or else its first parent; raise GitError."""
    for number in (commit, base):
        if number is not None and not re.fullmatch(FULL_COMMIT_PATTERN, number):
            raise GitError(Reason.REVISION_NOT_FOUND, f"{number!r} is no full commit; resolve the revision first")
    headers, message = _split_commit(await blobs.git("cat-file", "commit", commit))
    parents = tuple(value for name, value in headers if name == "parent" and re.fullmatch(FULL_COMMIT_PATTERN, value))
    beside = base or (parents[0] if parents else None)
    people = {name: _person(value) for name, value in headers if name in ("author", "committer")}
    nobody = Person("", ""), None
    author, authored_at = people.get("author", nobody)
    committer, committed_at = people.get("committer", nobody)
    found, more = await _files(blobs, beside, commit)
    found = await _with_pointers(blobs, found)
    files = tuple(one.file for one in found)
    diff, left_out = await _diff(blobs, beside, commit, files)
    return CommitFacts(
        commit=commit, base=beside, parents=parents, author=author, committer=committer, authored_at=authored_at,
        committed_at=committed_at, message=_bounded(message), files=files, more_files=more,
        diff=diff, left_out=left_out,
    )  # fmt: skip


def _split_commit(raw: bytes) -> tuple[list[tuple[str, str]], str]:
    head, _, message = raw.decode("utf-8", "replace").partition("\n\n")
    headers = [line.partition(" ") for line in head.split("\n")]
    return [(name, value) for name, _, value in headers], message


def _bounded(message: str) -> str:
    text = plain(message[: MOST_MESSAGE * 2]).strip()
    return text if len(text) <= MOST_MESSAGE else f"{text[:MOST_MESSAGE]} … and {len(message) - MOST_MESSAGE} more"


def _person(value: str) -> tuple[Person, datetime | None]:
    found = _PERSON.match(value)
    if found is None:
        return Person(plain(value)[:_LONGEST_NAME], ""), None
    seconds = int(found["time"])
    when = datetime.fromtimestamp(seconds, UTC) if 0 <= seconds <= _LATEST else None
    return Person(plain(found["name"])[:_LONGEST_NAME], plain(found["email"])[:_LONGEST_NAME]), when


async def _files(blobs: Blobs, base: str | None, commit: str) -> tuple[list[_Raw], int]:
    """The files with their lines, and how many more there are. What is many is neither read nor tried for renames."""
    between = (base, commit) if base is not None else (commit,)
    plainly = await blobs.answer("diff-tree", *_DIFF, "--raw", "--no-renames", *between, "--")
    count = plainly.nuls // 2  # an entry is two words; long names leave room for few of them in what is kept
    if count > MOST_FILES or len(plainly.output) >= OUTPUT_LIMIT:
        listed = (await asyncio.to_thread(read_entries, plainly.output))[:MOST_FILES]
        return listed, count - len(listed)
    options = (*_DIFF, "--raw", "--numstat", "-M50%", "-l400")
    return read_entries(await blobs.git(*_BIG, "diff-tree", *options, *between, "--")), 0


def read_entries(output: bytes) -> list[_Raw]:
    """What `git diff-tree --raw --numstat -z` says; what was cut off at the end is left out."""
    words = iter(output.split(b"\0")[:-1])
    found: dict[str, _Raw] = {}
    for word in words:
        if raw := _RAW.match(word):
            one = _raw_entry(raw, words)
            if one is not None:
                found[one.file.path] = one
        elif counts := _COUNTS.match(word):
            name = counts[3] or (next(words, b""), next(words, b""))[1]
            path = name.decode("utf-8", "surrogateescape")
            if path in found:
                found[path] = replace(found[path], file=_counted(found[path].file, counts[1], counts[2]))
    return list(found.values())


def _raw_entry(raw: re.Match[bytes], words: Iterator[bytes]) -> _Raw | None:
    old_mode, new_mode, _, blob, letter = (part.decode("ascii") for part in raw.groups())
    status = _STATUS.get(letter, "modified")
    names = [name.decode("utf-8", "surrogateescape") for name in islice(words, 2 if letter in "RC" else 1)]
    if not names:
        return None
    mode = old_mode if status == "deleted" else new_mode
    changed = status not in ("added", "deleted") and old_mode != new_mode
    old_path = names[0] if len(names) > 1 else None
    file = ChangedFile(names[-1], status, None, None, old_path, False, _KIND.get(mode, "file"), changed)
    return _Raw(file, blob)


def _counted(file: ChangedFile, added: bytes, deleted: bytes) -> ChangedFile:
    if added == b"-":
        return replace(file, binary=True)
    return replace(file, added=int(added), deleted=int(deleted))


async def _with_pointers(blobs: Blobs, found: list[_Raw]) -> list[_Raw]:
    """Mark the files that stand for a large one which is kept elsewhere (Git LFS)."""
    small = [one.blob for one in found if one.file.kind == "file" and one.file.status != "deleted"]
    pointers = {
        blob async for blob, content in blobs.read(small, _LARGEST_POINTER, 2**22) if content.startswith(_POINTER)
    }
    return [replace(one, file=replace(one.file, kind="lfs")) if one.blob in pointers else one for one in found]


async def _diff(
    blobs: Blobs, base: str | None, commit: str, files: Iterable[ChangedFile]
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """The changed lines of what people read, the smallest changes first, and what was left out."""
    read, reasons = await asyncio.to_thread(_readable_files, files)
    if not read:
        return "", tuple(_told(reasons))
    between = (base, commit) if base is not None else (commit,)
    options = (*(word for word in _DIFF if word != "-z"), "-p", "--no-renames", "--unified=3")
    output = await blobs.git(*_BIG, "diff-tree", *options, *between, "--", *(file.path for file in read))
    pieces, room = [], MOST_DIFF
    for piece in re.split(rb"(?m)^(?=diff --git )", output)[1:]:
        kept = piece[: min(MOST_DIFF_OF_FILE, room)]
        if len(kept) < len(piece):
            reasons["the end of files with long changes"] = reasons.get("the end of files with long changes", 0) + 1
        pieces.append(plain(kept.decode("utf-8", "replace")))
        room -= len(kept)
    return "\n".join(pieces), tuple(_told(reasons))


def _readable_files(files: Iterable[ChangedFile]) -> tuple[list[ChangedFile], dict[str, int]]:
    reasons: dict[str, int] = {}
    read: list[ChangedFile] = []
    for file in sorted(files, key=lambda one: one.lines):
        why = _why_unread(file) or ("files beyond the first" if len(read) >= _DIFFED_FILES else "")
        if why:
            reasons[why] = reasons.get(why, 0) + 1
        else:
            read.append(file)
    return read, reasons


def _why_unread(file: ChangedFile) -> str:
    if file.kind != "file":
        return {"lfs": "LFS pointers", "symlink": "links", "submodule": "submodules"}[file.kind]
    if file.binary:
        return "binary files"
    if is_generated(file.path):
        return "generated files"
    if file.added is None or file.lines > _MOST_DIFFED_LINES:
        return "large changes"
    return ""


def _told(reasons: dict[str, int]) -> Iterator[str]:
    return (f"{why} ({count})" for why, count in sorted(reasons.items()))
