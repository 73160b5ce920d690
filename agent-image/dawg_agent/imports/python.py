"""Imports of Python: `ast` finds them, and the folders of the tree say which files they are."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SUFFIXES = (".py", ".pyi")
_MOST_ROOTS = 500
_PACKAGE = "__init__.py"
_LOADERS = frozenset({"import_module", "__import__"})


@dataclass(frozen=True, slots=True)
class PythonImport:
    """``from ..module import names``, or ``import module`` without names; ``level`` is the number of dots."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


def python_imports(source: bytes) -> list[PythonImport] | None:
    """All imports, wherever they stand, and modules loaded by a literal name; None when this is no Python."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
        by_name = any(loader in source for loader in (b"import_module", b"__import__"))
        return list(dict.fromkeys(_found(ast.walk(tree) if by_name else _statements(tree))))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None  # hostile sources nest without end: the parser gives up, and so do we


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements; expressions, of which there are ten times as many, hold no import."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, field, None)
            if isinstance(below, list):
                waiting.extend(below)


def _found(nodes: Iterable[ast.AST]) -> Iterator[PythonImport]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (PythonImport(name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield PythonImport(node.module or "", tuple(name.name for name in node.names), node.level)
        elif isinstance(node, ast.Call) and _name(node.func) in _LOADERS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
                yield PythonImport(first.value)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


class PythonTree:
    """The Python files of a tree, by what they are called where they are imported.

    A folder is a root, where imports begin, if it holds a package or module and is none itself: that is right for flat
    layouts, ``src`` and ``lib`` folders, and for what pytest puts on the path. Folders without ``__init__.py`` inside a
    package are namespace packages. A module of the standard library is one of the tree only in a root above the
    importing file.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._files = frozenset(path for path in paths if path.endswith(SUFFIXES))
        self._packages = frozenset(_folder(path) for path in self._files if path.rpartition("/")[2] == _PACKAGE)
        self._children: dict[str, set[str]] = {}  # of a folder: modules and folders in it
        for path in self._files:
            parts = path.split("/")
            for depth, part in enumerate(parts):
                name = part.removesuffix(".pyi").removesuffix(".py")
                self._children.setdefault("/".join(parts[:depth]), set()).add(name)
        self._roots: dict[str, list[str]] = {}
        for root in sorted(self._found_roots(), key=lambda one: (one.count("/"), one))[:_MOST_ROOTS]:
            for name in self._children.get(root, ()):
                self._roots.setdefault(name, []).append(root)

    def resolve(self, path: str, imports: Iterable[PythonImport]) -> set[str]:
        """The files that a file imports; with a module come the packages that it lies in."""
        found: set[str] = set()
        for one in imports:
            found.update(self._resolve(path, one))
        found.discard(path)
        return found

    def _found_roots(self) -> set[str]:
        roots = {"", "src", "lib"}
        for path in self._files:
            folder = _folder(path)
            while folder in self._packages and folder:
                folder = _folder(folder)
            roots.add(folder)
            while folder and "/" in folder and len(roots) < _MOST_ROOTS:  # above a namespace package
                folder = _folder(folder)
                roots.add(folder)
        return {root for root in roots if root not in self._packages or not root}

    def _resolve(self, path: str, one: PythonImport) -> Iterator[str]:
        parts = tuple(one.module.split(".")) if one.module else ()
        if one.level:
            base = _folder(path)
            for _ in range(one.level - 1):
                if not base:
                    return
                base = _folder(base)
            yield from self._module(base, parts, one.names)
            return
        if not parts or not all(parts):
            return
        for root in self._ordered(path, parts[0]):
            files = list(self._module(root, parts, one.names))
            if files:
                yield from files
                return

    def _ordered(self, path: str, top: str) -> list[str]:
        """The roots that hold such a name, those around the file first, the nearest of them before all."""
        roots = self._roots.get(top, ())
        around = [root for root in roots if not root or path.startswith(f"{root}/")]
        others = [root for root in roots if root not in around] if top not in sys.stdlib_module_names else []
        return sorted(around, key=len, reverse=True) + others

    def _module(self, base: str, parts: tuple[str, ...], names: tuple[str, ...]) -> Iterator[str]:
        place = base
        packages = []
        for part in parts[:-1]:
            place = _join(place, part)
            packages.extend(self._init(place))
        if parts:
            place = _join(place, parts[-1])
            mine = self._init(place) or [f"{place}{suffix}" for suffix in SUFFIXES if f"{place}{suffix}" in self._files]
        else:
            mine = self._init(place)
        below = [file for name in names for file in self._one(_join(place, name))]
        if mine or below:
            yield from (*packages, *mine, *below)

    def _one(self, place: str) -> list[str]:
        modules = [f"{place}{suffix}" for suffix in SUFFIXES if f"{place}{suffix}" in self._files]
        return self._init(place) or modules

    def _init(self, place: str) -> list[str]:
        return [path] if (path := _join(place, _PACKAGE)) in self._files else []


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
