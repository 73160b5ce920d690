"""`dawg watch` on real repositories: what it sends, what it starts, and that it leaves everything as it was."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dawg_orchestrator.client import mergeblock
from dawg_orchestrator.client.exits import CommandFailed
from dawg_orchestrator.client.watchloop import Wanted, Watch
from dawg_orchestrator.client.worktree import WorkTree
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES
from repositories import Repository, git, new_repository

PATIENCE = 30.0


@dataclass
class Cluster:
    """The runs of a namespace, and the patches that were brought; in the place of apiserver and api."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    patches: dict[str, bytes] = field(default_factory=dict)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        name = f"{body['metadata']['generateName']}{len(self.runs)}"
        self.runs[name] = {**body, "metadata": {**body["metadata"], "name": name, "uid": name}, "status": {}}
        return self.runs[name]

    def get(self, path: str) -> dict[str, Any]:
        try:
            return self.runs[path.rsplit("/", 1)[1]]
        except KeyError:
            raise NotFound("gone", 404) from None

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        run = self.get(path)
        run["spec"] |= patch["spec"]
        return run

    def send_patch(self, namespace: str, patch: bytes) -> str:
        ref = "sha256:" + hashlib.sha256(patch).hexdigest()
        self.patches[ref] = patch
        return ref

    def tell(self, event: str, about: dict[str, Any]) -> None:
        self.told.append((event, about))

    def end(self, name: str, *, passed: bool) -> None:
        """What the controller would write."""
        verdict, word = ("Passed", "MergeAllowed") if passed else ("Failed", "MergeBlocked")
        self.runs[name]["status"] = {
            "verdict": verdict, "mergeBlocked": not passed,
            "conditions": [{"type": "MergeAllowed", "status": str(passed), "reason": word, "message": "",
                            "lastTransitionTime": "2026-01-01T12:00:00Z"}],
            "tasks": [{"name": "unit", "verdict": verdict, "reason": "TestsPassed" if passed else "TestsFailed"}],
        }  # fmt: skip

    def named(self, kind: str) -> list[str]:
        """The runs for commits, or for files."""
        return [name for name, run in self.runs.items() if run["metadata"]["annotations"]["dawg.dev/watched"] == kind]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = new_repository(tmp_path)
    git(repository.work, "remote", "add", "origin", str(repository.bare))
    git(repository.work, "fetch", "--quiet", "origin")
    (repository.work / ".gitignore").write_text("*.log\nbuild/\n")
    git(repository.work, "add", "-A")
    git(repository.work, "commit", "--quiet", "-m", "ignore")
    git(repository.work, "push", "--quiet", "origin", "main")
    repository.commits.append(git(repository.work, "rev-parse", "HEAD"))
    return repository


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def a_watch(repository: Repository, cluster: Cluster, **more: Any) -> Watch:
    wanted = Wanted(**{
        "template": {"workflowRef": {"name": "checks"}}, "git": {"url": "https://git.example/shop.git"},
        "namespace": "team", "remote": "origin", "block_pending": True, "lasts": timedelta(hours=24), "delay": 0.2,
        "most_delay": 2.0, **more,
    })  # fmt: skip
    return Watch(WorkTree(repository.work), cluster, cluster, wanted, cluster.tell)  # type: ignore[arg-type]


@contextmanager
def watching(watch: Watch, cluster: Cluster) -> Iterator[None]:
    stopped = threading.Event()
    thread = threading.Thread(target=watch.forever, args=[stopped])
    thread.start()
    try:
        until(lambda: "watching" in [event for event, _ in cluster.told])
        yield
    finally:
        stopped.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)


def tree_with(repository: Repository, base: str, patch: bytes) -> str:
    """The tree that a task gets: of the base with the patch on top."""
    folder = repository.work.parent / "task"
    git(repository.work.parent, "clone", "--quiet", str(repository.bare), str(folder))
    git(folder, "checkout", "--quiet", "--detach", base)
    if patch:
        (folder.parent / "patch").write_bytes(patch)
        git(folder, "apply", "--index", "--binary", "--whitespace=nowarn", "--", str(folder.parent / "patch"))
    return git(folder, "write-tree")


def source_of(cluster: Cluster, name: str) -> tuple[str, bytes]:
    source = cluster.runs[name]["spec"]["source"]
    return source["git"]["revision"], cluster.patches.get(source.get("patchRef", ""), b"")


# What is sent


def test_commits_that_no_server_has_come_as_a_patch_on_what_it_has(repository: Repository, cluster: Cluster) -> None:
    base = repository.commits[-1]
    repository.commit({"a.txt": "four", "new/\x1b[31m\nname": "odd"})
    (repository.work / "blob").write_bytes(bytes(range(256)) * 9)
    (repository.work / "sub/b.txt").unlink()
    head = repository.commit({})
    (repository.work / "a.txt").write_text("not committed")
    watch = a_watch(repository, cluster)

    run = watch.start(next_commit(watch))

    revision, patch = source_of(cluster, run.name)
    assert revision == base
    assert tree_with(repository, base, patch) == git(repository.work, "rev-parse", f"{head}^{{tree}}")


def test_a_commit_that_the_server_has_needs_no_patch(repository: Repository, cluster: Cluster) -> None:
    watch = a_watch(repository, cluster)

    run = watch.start(next_commit(watch))

    assert source_of(cluster, run.name) == (repository.commits[-1], b"")
    assert "patchRef" not in run.spec["source"]


def test_the_base_is_the_newest_commit_that_any_branch_of_the_remote_has(
    repository: Repository, cluster: Cluster
) -> None:
    git(repository.work, "checkout", "--quiet", "-b", "topic")
    pushed = repository.commit({"b.txt": "1"})
    git(repository.work, "push", "--quiet", "origin", "topic")
    repository.commit({"b.txt": "2"})
    git(repository.work, "checkout", "--quiet", "--detach")
    work = WorkTree(repository.work)

    assert work.published(repository.commit({"b.txt": "3"}), "origin") == pushed
    with pytest.raises(CommandFailed, match="no branch of remote 'other'"):
        work.published(repository.commits[-1], "other")
    with pytest.raises(CommandFailed, match="no name of a remote"):
        work.published(repository.commits[-1], "--upload-pack=x")


def test_files_come_as_they_are_without_what_git_ignores(repository: Repository, cluster: Cluster) -> None:
    work = repository.work
    (work / "a.txt").write_text("edited")
    (work / "staged.txt").write_text("first")
    git(work, "add", "staged.txt")
    (work / "staged.txt").write_text("second")
    (work / "untracked\n\x1bname").write_text("new")
    (work / "noise.log").write_text("ignored")
    (work / "sub/b.txt").unlink()
    before = everything_about(work)

    base = repository.commits[-1]
    patch = WorkTree(work).patch_of_files(base)

    assert everything_about(work) == before
    tree = tree_with(repository, base, patch)
    task = repository.work.parent / "task"
    assert (task / "a.txt").read_text() == "edited"
    assert (task / "staged.txt").read_text() == "second"
    assert (task / "untracked\n\x1bname").read_text() == "new"
    assert not (task / "noise.log").exists()
    assert not (task / "sub/b.txt").exists()
    assert WorkTree(work).state().tree == tree  # type: ignore[union-attr]


def everything_about(work: Path) -> list[object]:
    return [(path, path.read_bytes()) for path in sorted(work.rglob("*")) if path.is_file() and not path.is_symlink()]


def test_a_change_of_the_same_size_and_second_is_seen(repository: Repository) -> None:
    work = WorkTree(repository.work)
    second = 1_700_000_000
    (repository.work / "a.txt").write_text("three")
    os.utime(repository.work / "a.txt", (second, second))
    git(repository.work, "update-index", "--refresh")
    os.utime(repository.work / ".git/index", (second, second))
    before = work.state()

    (repository.work / "a.txt").write_text("other")
    os.utime(repository.work / "a.txt", (second, second))

    assert before is not None
    assert work.state() != before


def test_nothing_that_a_repository_says_is_run(repository: Repository, cluster: Cluster, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for setting in ("core.fsmonitor", "diff.external", "diff.evil.textconv", "diff.evil.command", "core.pager"):
        git(repository.work, "config", setting, str(trap))
    (repository.work / ".gitattributes").write_text("* diff=evil\n")
    hooks = repository.work / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "pre-commit", "reference-transaction"):
        (hooks / name).symlink_to(trap)
    (repository.work / "a.txt").write_text("$(touch sprung)")
    watch = a_watch(repository, cluster)

    watch.start(next_commit(watch, "files"))

    assert not list(tmp_path.rglob("sprung"))


def next_commit(watch: Watch, kind: Any = "commit") -> Any:
    from dawg_orchestrator.client.changes import Start

    state = watch._work.state()
    assert state is not None
    return Start(kind, state)


# What is started


def test_a_change_is_tested_and_a_newer_one_takes_its_place(repository: Repository, cluster: Cluster) -> None:
    with watching(a_watch(repository, cluster), cluster):
        (repository.work / "noise.log").write_text("ignored")
        (repository.work / "a.txt").write_text("first")
        until(lambda: len(cluster.named("files")) == 1)
        (repository.work / "a.txt").write_text("second")
        until(lambda: len(cluster.named("files")) == 2)
        first, second = cluster.named("files")
        assert cluster.runs[first]["spec"]["cancelled"] is True
        assert "cancelled" not in cluster.runs[second]["spec"]

        repository.commit({"a.txt": "second"})
        until(lambda: len(cluster.named("commit")) == 1)
        repository.commit({"a.txt": "third"})
        until(lambda: len(cluster.named("commit")) == 2)

    assert cluster.runs[second]["spec"]["cancelled"] is True
    assert not [name for name in cluster.named("commit") if "cancelled" in cluster.runs[name]["spec"]]
    assert len(cluster.named("files")) == 2
    notes = [cluster.runs[name]["metadata"]["annotations"] for name in cluster.named("commit")]
    assert [note["dawg.dev/watched-commit"] for note in notes] == repository.commits[-2:]


def test_what_git_ignores_starts_nothing(repository: Repository, cluster: Cluster) -> None:
    watch = a_watch(repository, cluster)
    (repository.work / "build").mkdir()
    ignored = [repository.work / name for name in ("noise.log", "build/out\n", ":(glob)x.log", "-x.log")]

    assert not watch._any_counts(ignored)
    assert watch._any_counts([*ignored, repository.work / "a.txt"])
    assert watch._matters(None, str(repository.work / "a.txt"))
    assert watch._matters(None, str(repository.work / ".git/logs/HEAD"))
    for inside in ("objects/aa/bb", "index.lock", "MERGE_BLOCKED", "FETCH_HEAD"):
        assert not watch._matters(None, str(repository.work / ".git" / inside))


def test_a_linked_work_tree_is_watched_as_well(repository: Repository, cluster: Cluster) -> None:
    second = repository.work.parent / "second"
    git(repository.work, "worktree", "add", "--quiet", "-b", "topic", str(second))
    linked = Repository(repository.bare, second, list(repository.commits))
    with watching(a_watch(linked, cluster), cluster):
        head = linked.commit({"a.txt": "there"})
        until(lambda: len(cluster.named("commit")) == 1)
        until(lambda: mergeblock.read(repository.work / ".git/worktrees/second/MERGE_BLOCKED") is not None)

    block = mergeblock.read(repository.work / ".git/worktrees/second/MERGE_BLOCKED")
    assert block is not None
    assert (block.commit, block.branch) == (head, "topic")


# What a verdict means


def test_a_commit_is_blocked_until_its_run_or_a_later_one_allows_it(repository: Repository, cluster: Cluster) -> None:
    file = repository.work / ".git/MERGE_BLOCKED"

    def reason() -> str | None:
        block = mergeblock.read(file)
        return block.reason if block is not None else None

    with watching(a_watch(repository, cluster), cluster):
        bad = repository.commit({"a.txt": "broken"})
        until(lambda: reason() == "TestsPending")
        cluster.end(cluster.named("commit")[0], passed=False)
        until(lambda: reason() == "MergeBlocked")
        block = mergeblock.read(file)
        assert block is not None
        assert (block.commit, block.tasks[0].name, block.branch) == (bad, "unit", "main")

        repository.commit({"a.txt": "fixed"})
        until(lambda: len(cluster.named("commit")) == 2)
        assert reason() == "MergeBlocked"
        cluster.end(cluster.named("commit")[1], passed=True)
        until(lambda: reason() is None)

    events = [event for event, _ in cluster.told]
    assert events == ["watching", "started", "blocked", "ended", "blocked", "started", "ended", "allowed"]


def test_a_verdict_that_came_while_nobody_watched_is_taken_up(repository: Repository, cluster: Cluster) -> None:
    file = repository.work / ".git/MERGE_BLOCKED"
    repository.commit({"a.txt": "four"})
    first = a_watch(repository, cluster)
    run = first.start(next_commit(first))
    block = mergeblock.read(file)
    assert block is not None
    assert block.pending
    cluster.end(run.name, passed=True)

    with watching(a_watch(repository, cluster), cluster):
        until(lambda: not file.exists())

    assert len(cluster.runs) == 1


def test_a_pending_commit_may_be_let_through(repository: Repository, cluster: Cluster) -> None:
    repository.commit({"a.txt": "four"})
    watch = a_watch(repository, cluster, block_pending=False)
    watch.start(next_commit(watch))

    assert not (repository.work / ".git/MERGE_BLOCKED").exists()


def test_a_change_that_is_too_large_is_refused_with_a_way_out(repository: Repository, cluster: Cluster) -> None:
    (repository.work / "large").write_bytes(os.urandom(MAX_PATCH_BYTES))
    watch = a_watch(repository, cluster)

    with pytest.raises(CommandFailed, match="push a branch"):
        watch.start(next_commit(watch, "files"))
    assert cluster.runs == {}


def test_a_commit_that_the_server_has_waits_for_no_verdict(repository: Repository, cluster: Cluster) -> None:
    watch = a_watch(repository, cluster)
    watch.start(next_commit(watch))

    assert not (repository.work / ".git/MERGE_BLOCKED").exists()


def test_files_block_nothing(repository: Repository, cluster: Cluster) -> None:
    (repository.work / "a.txt").write_text("edited")
    watch = a_watch(repository, cluster)
    watch.start(next_commit(watch, "files"))

    assert not (repository.work / ".git/MERGE_BLOCKED").exists()


# The command


@pytest.fixture
def command(repository: Repository, tmp_path: Path) -> list[str]:
    """The command with a kubeconfig whose cluster does not answer."""
    (tmp_path / "kubeconfig").write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "users": [{"name": "none", "user": {"token": "t"}}],
    }))  # fmt: skip
    return [sys.executable, "-m", "dawg_orchestrator.client.cli", "watch", str(repository.work), "--kubeconfig",
            str(tmp_path / "kubeconfig"), "--url", "https://git.example/shop.git", "--workflow", "checks"]  # fmt: skip


ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3] / "operator"), "COLUMNS": "200"}


def test_ctrl_c_ends_it_with_a_word_and_without_an_error(command: list[str]) -> None:
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process inherits SIG_IGN, but no handler
    try:
        process = subprocess.Popen(
            [*command, "-o", "json"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, ours)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)

    assert first["event"] == "watching"
    assert (process.returncode, said) == (0, "dawg: no longer watching; runs under way go on\n")


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--once"], 4, "does not answer"),
        (["--remote", "nowhere", "--once"], 64, "remote 'nowhere'"),
        (["--debounce", "soon"], 64, "--debounce"),
        (["--debounce", "0s"], 64, "--debounce"),
        (["-f", "testrun.yaml"], 64, "testrun.yaml"),
        (["--url", "/srv/git"], 64, "--url"),
    ],
)
def test_what_is_wrong_is_said_at_once(command: list[str], more: list[str], code: int, said: str) -> None:
    done = subprocess.run([*command, *more], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
