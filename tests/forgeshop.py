"""A repository on a real Gitea, with who owns it and who may tell it of checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from gitea import GiteaServer, Person
from repositories import Repository, git, new_repository

RIGHTS = ("write:repository", "read:user")  # what docs/forges.md asks for


@dataclass(frozen=True)
class Shop:
    """A repository on the server, with the history of ``local``; ``bot`` is a user that may write to it."""

    server: GiteaServer
    name: str
    local: Repository
    owner: Person
    bot: Person

    def new_commit(self, branch: str, *, by: Person, repository: str = "") -> str:
        """A commit on a branch of its own, from main on, pushed."""
        git(self.local.work, "checkout", "--quiet", "-B", branch, self.local.commits[2])
        commit = self.local.commit({f"{branch}.txt": branch})
        self.server.push(self.local.work, repository or self.name, f"{branch}:{branch}", by=by)
        return commit


def new_shop(server: GiteaServer, folder: Path) -> Shop:
    """A repository with three commits on main, of people whom nobody else has met."""
    mark = uuid4().hex[:8]
    owner = server.make_person(f"owner-{mark}")
    bot = server.make_person(f"bot-{mark}", RIGHTS)
    name = server.make_repository(owner, "shop")
    server.call("PUT", f"/repos/{name}/collaborators/{bot.name}", {"permission": "write"})
    local = new_repository(folder)
    server.push(local.work, name, "main:main", by=owner)
    return Shop(server, name, local, owner, bot)
