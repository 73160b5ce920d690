"""Which parts of a product paths belong to: by their owners, else by the package around them, else by their top folder.

CODEOWNERS says whose it is ──► else the nearest folder with a package manifest ──► else the top folder
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dawg_orchestrator.learning.owners import Owners

MANIFESTS = frozenset(
    {"pyproject.toml", "setup.cfg", "setup.py", "package.json", "go.mod", "Cargo.toml", "pom.xml", "build.gradle"}
)
_DEEPEST = 64  # folders that a package lies in; a path may go on below it for as long as it likes
ROOT = "(root)"  # the component of files that are in no folder

By = Literal["owners", "manifest", "folder"]


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the product; ``by`` says how it was found."""

    name: str
    by: By


@dataclass(frozen=True)
class Touched:
    """The paths of each component, and everybody who owns one of them."""

    components: Mapping[Component, tuple[str, ...]]
    owners: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """Of the components, the one with most paths first."""
        ordered = sorted(self.components, key=lambda one: (-len(self.components[one]), one.name))
        return [component.name for component in ordered]


@dataclass
class _Gathered:
    components: dict[Component, list[str]] = field(default_factory=dict)
    owners: set[str] = field(default_factory=set)


def touched_by(paths: Iterable[str], owners: Owners | None, tree: Iterable[str] = ()) -> Touched:
    """What paths touch; ``tree`` are the paths of all files, among which manifests are looked for."""
    packages = package_folders(tree)
    gathered = _Gathered()
    for path in paths:
        sections = owners.of(path) if owners is not None else {}
        gathered.owners.update(owner for names in sections.values() for owner in names)
        named = [Component(section or " ".join(names), "owners") for section, names in sections.items()]
        for component in named or [_by_place(path, packages)]:
            gathered.components.setdefault(component, []).append(path)
    return Touched({one: tuple(theirs) for one, theirs in gathered.components.items()}, frozenset(gathered.owners))


def package_folders(tree: Iterable[str]) -> frozenset[str]:
    """The folders below the root that have a manifest; a package at the root would be all there is."""
    split = (path.rpartition("/") for path in tree)
    return frozenset(
        folder for folder, _, name in split if folder and name in MANIFESTS and folder.count("/") < _DEEPEST
    )


def _by_place(path: str, packages: frozenset[str]) -> Component:
    folder = "/".join(path.split("/", _DEEPEST)[:_DEEPEST]) if path.count("/") > _DEEPEST else path.rpartition("/")[0]
    while folder:
        if folder in packages:
            return Component(folder, "manifest")
        folder = folder.rpartition("/")[0]
    top, separator, _ = path.partition("/")
    return Component(top if separator else ROOT, "folder")
