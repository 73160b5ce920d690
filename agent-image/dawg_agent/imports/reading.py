"""The import graph of a commit, read from its tree without a checkout, within bounds.

files of the tree ──► contents, some at a time ──► imports of each (kept by the content's number) ──► files
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dawg_agent.blobs import Blobs, Entry
from dawg_agent.imports import golang, javascript, python
from dawg_orchestrator.learning.changes import is_generated
from dawg_orchestrator.learning.importgraph import ImportGraph

LARGEST = 256 * 1024  # bytes of one file; larger ones were written by programs
MOST_BYTES = 64 * 2**20  # of all that is read for one commit
_MOST_MANIFESTS = 2000
_KEPT = 100_000  # files whose imports are remembered
_MOST_FOLDERS = 200_000  # of one commit, and how deep they may lie: each is remembered with all that lie above it
_DEEPEST = 64
_AT_ONCE = 50  # files that are parsed before anybody looks at the clock

Language = Literal["python", "javascript", "go"]
Found = Any  # what the language's own module found in a file; None: it could not be read


class Parsed:
    """Imports by the number of the content they were found in: the next commit brings few that are new."""

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._found: OrderedDict[tuple[Language, str], Found] = OrderedDict()

    def get(self, language: Language, blob: str) -> tuple[bool, Found]:
        """Whether it was parsed, and what was found."""
        key = language, blob
        if key not in self._found:
            return False, None
        self._found.move_to_end(key)
        return True, self._found[key]

    def put(self, language: Language, blob: str, found: Found) -> None:
        """Remember; what was not asked for the longest time is forgotten first."""
        self._found[language, blob] = found
        if len(self._found) > self._most:
            self._found.popitem(last=False)


@dataclass(frozen=True)
class ReadImports:
    """The graph, and in words what is not in it; empty when everything is."""

    graph: ImportGraph
    missing: str = ""


def language_of(path: str) -> Language | None:
    """By the ending of its name; files that programs wrote, and others' code, have none."""
    if is_generated(path):
        return None
    if path.endswith(python.SUFFIXES):
        return "python"
    if path.endswith(golang.SUFFIXES):
        return "go"
    return "javascript" if path.endswith(javascript.SUFFIXES) else None


async def read_imports(
    blobs: Blobs, entries: Iterable[Entry], parsed: Parsed, most_files: int, deadline: float
) -> ReadImports:  # fmt: skip
    """Read the imports of a commit's files. ``deadline`` is of time.monotonic(); raise GitError."""
    near, far = await asyncio.to_thread(_near_and_far, entries)
    sources = await asyncio.to_thread(_sources, near)
    beyond = len(await asyncio.to_thread(_sources, far))
    chosen = dict(list(sources.items())[:most_files])
    new: dict[str, Language] = {}
    for entry, language in chosen.items():
        if not parsed.get(language, entry.blob)[0]:
            new.setdefault(entry.blob, language)
    late = await _parse(blobs, new, parsed, deadline)
    manifests = await _manifests(blobs, near)
    found = {entry: parsed.get(language, entry.blob)[1] for entry, language in chosen.items()}
    imports = await asyncio.to_thread(_resolved, found, chosen, manifests, [entry.path for entry in near])
    unread = sum(one is None for one in found.values()) + len(sources) - len(chosen) + beyond
    return ReadImports(ImportGraph(imports, unread), _told(unread, len(sources) + beyond, late=late))


def _sources(entries: Iterable[Entry]) -> dict[Entry, Language]:
    return {entry: language for entry in entries if (language := language_of(entry.path)) is not None}


def _near_and_far(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The files whose folders are neither too deep nor too many, and all others."""
    seen, near, far = {""}, [], []
    for entry in entries:
        folder = entry.path.rpartition("/")[0]
        above = [] if folder in seen else list(_folders(entry.path))
        if entry.path.count("/") <= _DEEPEST and len(seen) + len(above) <= _MOST_FOLDERS:
            seen.update(above)
            near.append(entry)
        else:
            far.append(entry)
    return near, far


def _folders(path: str) -> Iterable[str]:
    """Those that a path lies in, within what may be deep."""
    parts = path.split("/", _DEEPEST + 1)[: _DEEPEST + 1]
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _told(unread: int, sources: int, *, late: bool) -> str:
    why = " in time" if late else ""
    return f"imports of {unread} of {sources} source files could not be read{why}" if unread else ""


async def _parse(blobs: Blobs, new: Mapping[str, Language], parsed: Parsed, deadline: float) -> bool:
    """Parse contents that are new; True when time was over before the last. The loop is free meanwhile."""
    pile: list[tuple[str, bytes]] = []

    async def parse_pile() -> None:
        for blob, found in await asyncio.to_thread(_imports_of, pile, new):
            parsed.put(new[blob], blob, found)
        pile.clear()

    async for blob, content in blobs.read(new, LARGEST, MOST_BYTES):
        if time.monotonic() > deadline:
            return True
        pile.append((blob, content))
        if len(pile) >= _AT_ONCE:
            await parse_pile()
    await parse_pile()
    return False


def _imports_of(pile: list[tuple[str, bytes]], languages: Mapping[str, Language]) -> list[tuple[str, Found]]:
    return [(blob, imports_in(languages[blob], content)) for blob, content in pile]


def imports_in(language: Language, content: bytes) -> Found:
    """What a file imports, as its language's module tells it; None when it cannot be read."""
    if language == "python":
        return python.python_imports(content)
    return golang.go_imports(content) if language == "go" else javascript.javascript_imports(content)


async def _manifests(blobs: Blobs, entries: Iterable[Entry]) -> dict[str, bytes]:
    names = {golang.MANIFEST, *javascript.MANIFESTS}
    wanted = [one for one in entries if one.path.rpartition("/")[2] in names and not is_generated(one.path)]
    wanted = wanted[:_MOST_MANIFESTS]
    contents = {blob: content async for blob, content in blobs.read((one.blob for one in wanted), LARGEST, 2**24)}
    return {one.path: contents[one.blob] for one in wanted if one.blob in contents}


def _resolved(
    found: Mapping[Entry, Found], languages: Mapping[Entry, Language], manifests: Mapping[str, bytes], paths: list[str]
) -> dict[str, set[str]]:
    modules = {
        path.rpartition("/")[0]: module for path, content in manifests.items()
        if path.rpartition("/")[2] == golang.MANIFEST and (module := golang.module_path(content)) is not None
    }  # fmt: skip
    configurations = {
        path: javascript.lenient_json(content) for path, content in manifests.items()
        if path.rpartition("/")[2] in javascript.MANIFESTS
    }  # fmt: skip
    go = golang.GoTree(paths, modules)
    trees: dict[Language, Any] = {
        "python": python.PythonTree(paths),
        "javascript": javascript.JavaScriptTree(frozenset(paths), configurations),
        "go": go,
    }
    imports = {entry.path: trees[languages[entry]].resolve(entry.path, one or ()) for entry, one in found.items()}
    return imports | (go.packages() if any(language == "go" for language in languages.values()) else {})
