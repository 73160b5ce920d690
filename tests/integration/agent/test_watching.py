"""Watched repositories, on a real git server: what is told, once, and what hostile ones cannot do."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from dawg_agent.git import prepare_access
from dawg_agent.repository import MOST_FILE_BYTES, History, list_branches, within_bounds
from dawg_agent.watching import Watching
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import FROM_AGENT, MAX_BRANCHES, Change, Duties, Sighting, Watch
from dawg_orchestrator.resources.reasons import Reason
from integration.agent.gitserver import PASSWORD, USER, GitServer
from repositories import Repository, git

SOON = timedelta(seconds=0.05)
RARELY = timedelta(hours=1)


class Ear:
    """What the controller hears; each word as it would come off the wire."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Sighting] = asyncio.Queue()
        self.deaf = asyncio.Event()  # until then nothing is lost
        self.lost = asyncio.Event()

    async def __call__(self, message: Model) -> bool:
        if self.deaf.is_set():
            self.deaf.clear()
            self.lost.set()
            return False
        word = FROM_AGENT.validate_json(message.model_dump_json(by_alias=True, exclude_none=True))
        assert isinstance(word, Sighting)
        self.heard.put_nowait(word)
        return True

    async def next(self) -> Sighting:
        async with asyncio.timeout(20):
            return await self.heard.get()


@asynccontextmanager
async def watching(tmp_path: Path, ear: Ear, *watches: Watch) -> AsyncIterator[Watching]:
    made = Watching(ear, tmp_path / "secrets", tmp_path / "mirrors")
    made.take(Duties(watches=list(watches)))
    try:
        yield made
    finally:
        await made.close()


def add_branches(repository: Repository, *branches: str) -> None:
    """Straight into the served repository, as only git itself restricts them."""
    lines = "".join(f"create refs/heads/{name} {repository.commits[0]}\n" for name in branches)
    subprocess.run(["git", "update-ref", "--stdin"], cwd=repository.bare, input=lines, text=True, check=True)


def exists_below(folder: Path, name: str) -> bool:
    return any(path.name == name for path in folder.rglob("*"))


def watch(server: GitServer, known: dict[str, str] | None = None, every: timedelta = SOON, **fields: object) -> Watch:
    said = {"id": "w", "url": f"{server.url}/shop.git", "branches": ["**"], "every": every, "known": known or {}}
    return Watch.model_validate(said | fields)


async def test_the_first_word_has_all_branches_and_no_history(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    ear = Ear()
    async with watching(tmp_path, ear, watch(server)):
        said = await ear.next()

    assert said.branches == {"main": repository.commits[2], "feature/x": repository.commits[1]}
    assert said.changes == []


async def test_a_push_is_told_once_with_what_came(tmp_path: Path, server: GitServer, repository: Repository) -> None:
    ear = Ear()
    async with watching(tmp_path, ear, watch(server)):
        first = await ear.next()
        commit = repository.commit({"src/new.py": "x = 1", "a.txt": "four"}, "Add \x1b[31mred\x1b[0m\n\nwith a body")
        repository.push()
        second = await ear.next()
        repository.commit({"a.txt": "five"}, "another")
        repository.push()
        third = await ear.next()

    (change,) = second.changes
    assert (change.branch, change.commit, change.before) == ("main", commit, first.branches["main"])
    assert change.parents == [repository.commits[2]]
    assert change.files == ["a.txt", "src/new.py"]
    assert change.author == "dev@example.org"
    assert change.message == "Add \ufffd[31mred\ufffd[0m\n\nwith a body"
    assert [one.files for one in third.changes] == [["a.txt"]]


async def test_what_the_controller_knows_is_not_told_and_what_it_missed_is(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    ear = Ear()
    known = {"main": repository.commits[0], "feature/x": repository.commits[1]}
    async with watching(tmp_path, ear, watch(server, known)):
        said = await ear.next()

    assert [(change.branch, change.before, change.files) for change in said.changes] == [
        ("main", repository.commits[0], ["a.txt"])
    ]


async def test_a_word_that_was_lost_comes_again_with_the_duties(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    ear = Ear()
    known = {"main": repository.commits[2], "feature/x": repository.commits[1]}
    async with watching(tmp_path, ear, watch(server, known, RARELY)) as made:
        await ear.next()
        ear.deaf.set()
        commit = repository.commit({"b": "1"})
        repository.push()
        made.wake(f"{server.url}/shop.git")
        await ear.lost.wait()
        made.take(Duties(watches=[watch(server, known, RARELY)]))
        said = await ear.next()

    assert [change.commit for change in said.changes] == [commit]


async def test_a_forced_push_and_a_new_branch_are_compared_with_where_they_left(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    ear = Ear()
    async with watching(tmp_path, ear, watch(server)):
        await ear.next()
        git(repository.work, "checkout", "--quiet", "-B", "main", "HEAD~1")
        repository.commit({"other.txt": "1"})
        git(repository.work, "branch", "topic", "main")
        git(repository.work, "checkout", "--quiet", "topic")
        repository.commit({"topic.txt": "1"})
        repository.push()
        said = await ear.next()

    files = {change.branch: change.files for change in said.changes}
    assert files == {"main": ["other.txt"], "topic": ["topic.txt"]}


async def test_a_repository_that_cannot_be_reached_says_why_once_and_comes_back(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    ear = Ear()
    server.failures_left = 3
    async with watching(tmp_path, ear, watch(server)):
        first, second = await ear.next(), await ear.next()

    assert first.reason is Reason.SOURCE_UNREACHABLE
    assert f"{server.url}/shop.git" in first.message
    assert second.branches["main"] == repository.commits[2]


async def test_credentials_come_from_the_secrets_folder_and_reach_no_word(tmp_path: Path, server: GitServer) -> None:
    server.private = True
    secret = tmp_path / "secrets/robot"
    secret.mkdir(parents=True)
    (secret / "username").write_text(USER)
    (secret / "password").write_text(PASSWORD)
    ear, without = Ear(), Ear()
    async with watching(tmp_path, ear, watch(server, gitSecret="robot")), watching(tmp_path, without, watch(server)):
        allowed, refused = await ear.next(), await without.next()

    assert allowed.branches
    assert refused.reason is Reason.SOURCE_REFUSED
    assert PASSWORD not in f"{allowed} {refused}"


async def test_names_of_branches_are_never_arguments_or_commands(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    hostile = [
        "-u./evil",
        "--upload-pack=touch${IFS}pwned",
        "$(touch${IFS}pwned)",
        "a;touch${IFS}pwned",
        "`id`",
        "é",
        "a'b\"c",
    ]
    add_branches(repository, *hostile)
    known = {"main": repository.commits[2]}
    ear = Ear()
    async with watching(tmp_path, ear, watch(server, known)):
        said = await ear.next()

    assert set(hostile) <= set(said.branches)
    assert {change.branch for change in said.changes} == {*hostile, "feature/x"}
    assert not exists_below(tmp_path, "pwned")


async def test_more_branches_than_are_followed_are_counted(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    add_branches(repository, *(f"many/{number}" for number in range(MAX_BRANCHES + 5)))
    access = prepare_access(f"{server.url}/shop.git", None, tmp_path)

    found = await list_branches(access, ["many/*"], tmp_path)

    assert (len(found.found), found.left_out) == (MAX_BRANCHES, 5)


async def test_a_commit_that_changes_too_much_to_name_says_that_nobody_knows(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    commit = repository.commit({f"many/{number}": "" for number in range(501)})
    repository.push()
    (tmp_path / "scratch").mkdir()
    access = prepare_access(f"{server.url}/shop.git", None, tmp_path / "scratch")

    change = await History(access, tmp_path / "mirror").change("main", commit, repository.commits[2])

    assert change.files is None


async def test_a_broken_mirror_is_begun_anew(tmp_path: Path, server: GitServer, repository: Repository) -> None:
    (tmp_path / "scratch").mkdir()
    access = prepare_access(f"{server.url}/shop.git", None, tmp_path / "scratch")
    history = History(access, tmp_path / "mirror")
    await history.change("main", repository.commits[1], repository.commits[0])
    for pack in (tmp_path / "mirror").glob("objects/pack/*"):
        pack.chmod(0o600)
        pack.write_bytes(b"rubbish")

    change = await History(access, tmp_path / "mirror").change("main", repository.commits[2], repository.commits[1])

    assert change.files == ["a.txt"]


def test_the_names_of_files_in_one_word_are_bounded() -> None:
    big = Change(branch="big", commit="a" * 40, files=["x" * 4000] * 100)
    small = Change(branch="small", commit="b" * 40, files=["a"])

    kept = within_bounds([big, small])

    assert [change.files for change in kept] == [None, ["a"]]
    assert sum(len(name) for change in kept for name in change.files or ()) <= MOST_FILE_BYTES
