"""A developer's clone: what no server has is tested, and held back until it passes."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster_at_hand import JsonObject, eventually
from command_line import dawg, start
from realsuites.gitserver import serving
from repositories import Repository, git, new_repository
from stories import Story, task

NO_RETRY = {"infra": {"limit": 0}}


@dataclass(frozen=True)
class Clone:
    """A clone of a repository that the cluster has under another address."""

    repository: Repository
    url: str

    @property
    def work(self) -> Path:
        return self.repository.work

    def blocked(self) -> JsonObject:
        """What MERGE_BLOCKED says; empty while it is not there."""
        try:
            content: JsonObject = json.loads((self.work / ".git/MERGE_BLOCKED").read_text())
        except FileNotFoundError:
            return {}
        return content

    def push(self) -> tuple[int, str]:
        """Push as the developer does; what git said."""
        done = subprocess.run(
            ["git", "push", "origin", "main"], cwd=self.work, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr


@pytest.fixture
def clone(test_image: str, tmp_path: Path) -> Iterator[Clone]:
    """The cluster's copy of the server never moves: it has what was pushed before the story began."""
    repository = new_repository(tmp_path)
    git(repository.work, "remote", "add", "origin", str(repository.bare))
    git(repository.work, "fetch", "--quiet", "origin")
    namespace = f"dawg-git-{secrets.token_hex(3)}"
    with serving(repository.bare.parent, test_image, namespace) as host:
        yield Clone(repository, f"http://{host}/shop.git")


@pytest.fixture(params=["Job", "Process"])
def any_pool(request: pytest.FixtureRequest, story: Story) -> str:
    """A pool of each kind that runs tests."""
    more = {"executor": "Process", "slots": 2} if request.param == "Process" else {}
    return story.given_pool(**more)


def file_of_a_run(clone: Clone, pool: str, mark: str) -> str:
    """A file with a TestRun that passes where a.txt does not say that it is broken."""
    script = 'test "$(cat a.txt)" != broken && test "$(git rev-parse HEAD)" = "$DAWG_COMMIT"'
    file = clone.work.parent / "testrun.json"
    file.write_text(json.dumps({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": f"watch-{mark}-"},
        "spec": {"pool": pool, "tasks": [task(run=script, retry=NO_RETRY)], "ttlAfterFinished": "10m"},
    }))  # fmt: skip
    return str(file)


def test_a_commit_that_fails_is_not_pushed_and_its_fix_is(story: Story, pool: str, clone: Clone) -> None:
    published = clone.repository.commits[-1]
    file = file_of_a_run(clone, pool, story.mark)
    dawg("hooks", "install", str(clone.work))
    watching = start("watch", str(clone.work), "--url", clone.url, "-f", file, "-o", "json")
    assert watching.stdout is not None
    try:
        assert json.loads(watching.stdout.readline())["event"] == "watching"

        bad = clone.repository.commit({"a.txt": "broken"})
        eventually(lambda: clone.blocked().get("commit") == bad, within=30, told=lambda: str(clone.blocked()))
        assert clone.push()[0] != 0
        eventually(
            lambda: clone.blocked().get("reason") == "MergeBlocked", within=240, told=lambda: str(clone.blocked())
        )
        block = clone.blocked()
        story.made("TestRun", block["run"])
        assert [(one["name"], one["reason"]) for one in block["tasks"]] == [("unit", "ExitCode")]
        assert story.status(block["run"])["source"]["commit"] == published
        code, said = clone.push()
        assert code != 0
        assert all(word in said for word in (bad, "MergeBlocked", "ExitCode", f"dawg logs {block['run']}"))

        fixed = clone.repository.commit({"a.txt": "fixed"})
        eventually(lambda: not clone.blocked(), within=240, told=lambda: str(clone.blocked()))
        assert clone.push()[0] == 0
        assert git(clone.repository.bare, "rev-parse", "main") == fixed
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert watching.returncode == 0


def test_the_commit_of_head_is_tested_at_once_whoever_has_it(story: Story, any_pool: str, clone: Clone) -> None:
    file = file_of_a_run(clone, any_pool, story.mark)
    words = ("watch", str(clone.work), "--url", clone.url, "-f", file, "--once")

    clone.repository.commit({"a.txt": "broken", "new/file": "new"})
    dawg(*words, code=1)
    clone.repository.commit({"a.txt": "fixed"})
    dawg(*words, code=0)

    assert not clone.blocked()


def test_a_patch_that_nobody_keeps_is_infrastructure(story: Story, any_pool: str, clone: Clone) -> None:
    source = {"git": {"url": clone.url}, "patchRef": "sha256:" + "0" * 64}
    run = story.when_applied(task(retry=NO_RETRY), pool=any_pool, source=source)

    entry = story.then_task_ends(run, "unit")
    assert (entry["verdict"], entry["reason"]) == ("InfraError", "PatchNotFound")
