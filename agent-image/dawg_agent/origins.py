"""Repositories as they are seen with one Secret's contents, and the bare mirrors that keep what was fetched of them."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from dawg_agent.checkout import Checkout
from dawg_agent.git import Access, prepare_access

COMMITS = "refs/dawg/commits"


@dataclass(frozen=True)
class Origin:
    """A repository as it is seen with one Secret's contents."""

    url: str
    credentials: Mapping[str, bytes]
    patience: timedelta

    @functools.cached_property
    def place(self) -> str:
        """A name that nobody else's view of a repository has."""
        total = hashlib.sha256()
        named = ((name.encode(), content) for name, content in sorted(self.credentials.items()))
        for part in (self.url.encode(), *itertools.chain.from_iterable(named)):
            total.update(len(part).to_bytes(8, "big") + part)
        return total.hexdigest()[:32]

    def access(self, bench: Path) -> Access:
        """Make ready to reach it, with the credentials that the place is named after: the volume's may change."""
        for folder in (bench / "access", bench / "secret"):
            folder.mkdir(mode=0o700)
        for name, content in self.credentials.items():
            (bench / "secret" / name).write_bytes(content)
        return prepare_access(self.url, bench / "secret" if self.credentials else None, bench / "access")


def read_secret(folder: Path) -> dict[str, bytes]:
    """What a Secret's volume holds, beside Kubernetes' own entries; nothing if the Secret is not there."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[:2] != ".."}


class Mirror(Checkout):
    """A bare repository that keeps every commit it has fetched."""

    def __init__(self, access: Access, folder: Path, patience: timedelta) -> None:
        here = replace(access, environment=access.environment | {"GIT_DIR": "."})  # however broken, it is this one
        super().__init__(here, folder, patience)
        self._git_folder = self.folder = folder

    async def create(self) -> None:
        self.folder.mkdir(parents=True)
        await self._local("init", "--quiet", "--template=", "--bare")
        await self._local("config", "fetch.unpackLimit", "1")  # packs can be counted; loose files would be thousands

    async def fetch(self, revision: str) -> str:
        commit = await super().fetch(revision)
        if not self._has(commit):
            await self._local("update-ref", f"{COMMITS}/{commit}", commit)
        return commit

    def _has(self, commit: str) -> bool:
        return (self.folder / COMMITS / commit).exists()
