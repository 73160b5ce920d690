"""Features of commits that lie in a real forge, read as agents read them, beside a slow and separate count."""

from __future__ import annotations

import base64
import random
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_agent.commitlog import read_commits
from dawg_agent.git import GitError
from dawg_agent.origins import Mirror, Origin, read_secret
from dawg_orchestrator.learning.commitfeatures import Features, History
from dawg_orchestrator.resources.reasons import Reason
from gitea import GiteaServer, Person
from integration.agent.histories import RandomHistory, SlowCount, run
from repositories import git

PATIENCE = timedelta(seconds=60)


def worked_on(server: GiteaServer, folder: Path) -> tuple[str, Person, str]:
    """A private repository that two people push to, and in which Gitea itself commits; with its newest commit."""
    ann, bob = server.make_person("history-ann"), server.make_person("history-bob")
    name = server.make_repository(ann, "history")
    server.call("PATCH", f"/repos/{name}", {"private": True}, by=ann)
    server.call("PUT", f"/repos/{name}/collaborators/{bob.name}", {"permission": "write"}, by=ann)
    grown = RandomHistory(folder, random.Random(11))  # noqa: S311 - the same history each time
    head = grown.grow(30)
    server.push(folder, name, f"{head}~3:refs/heads/main", by=ann)
    server.push(folder, name, f"{head}:refs/heads/main", by=bob)
    (folder / "a.py").write_text("line\n" * 40)
    run(folder, "checkout", "--quiet", "-b", "mend")
    run(folder, "add", "-A")
    run(folder, "commit", "--quiet", "-m", "fix: count from one", at=grown.now + 3600, author="bob@example.org")
    server.push(folder, name, "mend:mend", by=bob)
    merged = server.merge(name, server.open_pull_request(name, "mend", by=bob), ann)
    assert merged.is_success, merged.text
    written = {"content": base64.b64encode(b"by hand\n").decode(), "message": "Mend a bug in the browser"}
    server.call("POST", f"/repos/{name}/contents/docs/new.md", written, by=bob)
    git(folder, "fetch", "--quiet", server.clone_url(name, ann), "main")
    return name, ann, git(folder, "rev-parse", "FETCH_HEAD")


async def test_features_of_a_private_repository_are_those_of_a_slow_count(
    gitea_server: GiteaServer, tmp_path: Path
) -> None:
    name, owner, head = worked_on(gitea_server, tmp_path / "work")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "username").write_text(owner.name)
    (secret / "password").write_text(owner.token)
    (tmp_path / "bench").mkdir()
    origin = Origin(f"{gitea_server.url}/{name}.git", read_secret(secret), PATIENCE)
    access = origin.access(tmp_path / "bench")
    mirror = Mirror(access, tmp_path / "mirror", PATIENCE)
    await mirror.create()

    commit = await mirror.fetch(head[:12])  # an abbreviated commit is looked for in the whole history
    log = await read_commits(access, mirror.folder, commit)

    slow, history = SlowCount(tmp_path / "work", head), History()
    assert (commit, log.missing) == (head, None)
    assert list(log.commits) == [told.commit for told in slow.all]
    for number, told in enumerate(log.commits.values()):
        found = history.observe(told)
        assert found == pytest.approx(Features(*slow.features(number))), f"number {number}: {found}"


async def test_a_private_repository_is_not_read_without_the_secret(gitea_server: GiteaServer, tmp_path: Path) -> None:
    owner = gitea_server.make_person("history-cid")
    name = gitea_server.make_repository(owner, "closed")
    gitea_server.call("PATCH", f"/repos/{name}", {"private": True}, by=owner)
    (tmp_path / "bench").mkdir()
    origin = Origin(f"{gitea_server.url}/{name}.git", {}, PATIENCE)
    mirror = Mirror(origin.access(tmp_path / "bench"), tmp_path / "mirror", PATIENCE)
    await mirror.create()

    with pytest.raises(GitError) as caught:
        await mirror.fetch("main")

    assert caught.value.reason is Reason.SOURCE_REFUSED
