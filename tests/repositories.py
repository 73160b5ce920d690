"""Repositories of git with a known history."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user would and return what it prints."""
    who = {f"GIT_{role}_{what}": "dev@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | who | {"GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass
class Repository:
    """A bare repository with some history; ``commits`` oldest first."""

    bare: Path
    work: Path
    commits: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, str], message: str = "change") -> str:
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.work, "add", "-A")
        git(self.work, "commit", "--quiet", "--allow-empty", "-m", message)
        self.commits.append(git(self.work, "rev-parse", "HEAD"))
        return self.commits[-1]

    def push(self) -> None:
        git(self.work, "push", "--quiet", "--mirror", str(self.bare))


def new_repository(folder: Path, name: str = "shop.git") -> Repository:
    """Make a repository with a branch, an annotated tag and three commits."""
    bare, work = folder / "served" / name, folder / "work"
    work.mkdir(parents=True)
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    git(work, "init", "--quiet", "--initial-branch=main")
    repository = Repository(bare, work)
    repository.commit({"a.txt": "one", "sub/b.txt": "deep"})
    repository.commit({"a.txt": "two"})
    git(work, "tag", "-a", "v1.0", "-m", "first release")
    git(work, "branch", "feature/x")
    repository.commit({"a.txt": "three"})
    repository.push()
    return repository
