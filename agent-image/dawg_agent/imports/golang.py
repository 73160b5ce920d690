"""Imports of Go: the import declarations at a file's head, and the module paths of go.mod.

A package is a folder. It stands in the graph as a node of its own, ``folder/``: files import it, and it stands for the
files that are not tests. So a package of a thousand files has a thousand edges and not a million.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

SUFFIXES = (".go",)
MANIFEST = "go.mod"
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?(?:\*/|\Z))|(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<word>[\w.]+)|(?P<other>.)""",
    re.DOTALL,
)
_MODULE = re.compile(r"""(?m)^[ \t]*module[ \t]+(?:"([^"\n]+)"|`([^`\n]+)`|([^\s"`/][^\s"`]*))""")


def go_imports(source: bytes) -> list[str]:
    """The paths that a file imports."""
    found: list[str] = []
    state = "head"  # → import → import( ; whatever else ends the head, where alone imports may stand
    for token in _TOKEN.finditer(source.decode("utf-8", "replace")):
        kind, text = token.lastgroup, token[0]
        if kind == "space":
            continue
        if kind == "text" and state in ("import", "block"):
            found.append(text[1:-1])
            state = "head" if state == "import" else state
        elif kind == "word" and text == "package" and state == "head":
            state = "name"
        elif kind == "word" and state == "name":
            state = "head"
        elif kind == "word" and text == "import" and state == "head":
            state = "import"
        elif text == "(" and state == "import":
            state = "block"
        elif text == ")" and state == "block":
            state = "head"
        elif text == ";" or (kind == "word" and state in ("import", "block")):
            continue  # an alias
        else:
            break
    return list(dict.fromkeys(found))


def module_path(manifest: bytes) -> str | None:
    """What go.mod calls its module."""
    found = _MODULE.search(manifest.decode("utf-8", "replace"))
    return next(group for group in found.groups() if group) if found else None


class GoTree:
    """The packages of a tree; ``modules`` maps folders with a go.mod to the paths of their modules."""

    def __init__(self, paths: Iterable[str], modules: Mapping[str, str]) -> None:
        self._packages: dict[str, list[str]] = {}
        for path in paths:
            if path.endswith(SUFFIXES) and not path.endswith("_test.go"):
                self._packages.setdefault(path.rpartition("/")[0], []).append(path)
        self._modules = sorted(((path, folder) for folder, path in modules.items()), key=lambda one: -len(one[0]))

    def packages(self) -> dict[str, set[str]]:
        """The nodes that stand for packages, and their files."""
        return {f"{folder}/": set(files) for folder, files in self._packages.items()}

    def resolve(self, path: str, imports: Iterable[str]) -> set[str]:
        """The packages that a file needs: its own, and those it imports."""
        own = path.rpartition("/")[0]
        found = {f"{own}/"} if own in self._packages else set()
        for wanted in imports:
            folder = self._folder(wanted)
            if folder is not None and folder in self._packages:
                found.add(f"{folder}/")
        return found

    def _folder(self, wanted: str) -> str | None:
        for module, root in self._modules:
            if wanted == module or wanted.startswith(f"{module}/"):
                below = wanted[len(module) :].strip("/")
                return f"{root}/{below}".strip("/")
        return None
