"""analyze-changes and the facts below it, with real git servers and repositories that mean harm."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dawg_agent import commitfacts
from dawg_agent.blobs import Blobs
from dawg_agent.commitfacts import read_facts
from dawg_agent.commitlog import read_commits
from dawg_agent.filelists import read_file_lists
from dawg_agent.git import Access, prepare_access
from dawg_agent.histories import Histories, Wanted
from dawg_orchestrator.learning.changes import CommitFacts
from dawg_orchestrator.learning.commitfeatures import History, read_written
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from dawg_orchestrator.resources.testrun import GitSource
from integration.agent.gitserver import PASSWORD, USER, GitServer
from integration.agent.stepbench import StepBench, a_bench
from repositories import Repository, git

PATIENCE = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dawg_agent.checkout.FIRST_PAUSE", 0.01)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[StepBench]:
    async with a_bench(tmp_path) as made:
        yield made


async def facts_of(repository: Repository, commit: str, base: str | None = None) -> CommitFacts:
    """The facts, read from the bare repository itself."""
    scratch = repository.work.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    access = prepare_access("https://nobody.example", None, scratch)
    here = replace(access, environment=access.environment | {"GIT_DIR": "."})
    return await read_facts(Blobs(here, repository.bare, scratch, 60), commit, base)


async def analyse(bench: StepBench, server: GitServer, revision: str, **more: Any) -> TaskResult:
    source = {"git": {"url": f"{server.url}/shop.git", "revision": revision}, **more.pop("source", {})}
    return await bench.carry_out("analyze-changes", source=source, **more)


def outputs(result: TaskResult) -> dict[str, str]:
    assert result.summary is not None
    return result.summary.outputs


def shop(repository: Repository) -> str:
    """A small product, and a change of what much depends on."""
    files = {f"shop/page{number}.py": "from shop import cart\n" for number in range(5)}
    repository.commit({**files, "shop/__init__.py": "", "shop/cart.py": "x = 1\n", "shop/schema.sql": "1",
                       "tests/test_cart.py": "import shop.page1\n", "CODEOWNERS": "/shop/ @org/shop\n"})  # fmt: skip
    for number in range(4):
        repository.commit({"shop/cart.py": f"x = {number + 2}\n", "shop/schema.sql": f"{number + 2}"})
    commit = repository.commit({"shop/cart.py": "x = 9\ny = 9\n"}, "Sum up")
    repository.push()
    return commit


# Facts


async def test_facts_are_those_that_plain_git_tells(repository: Repository) -> None:
    long = "\n".join(map(str, range(50)))
    repository.commit({"moved.txt": long, "gone.txt": "1\n2\n", "kept.txt": "a\nb\nc\n", "bin": "\0" * 10})
    git(repository.work, "mv", "moved.txt", "sub/moved to.txt")
    git(repository.work, "rm", "--quiet", "gone.txt")
    (repository.work / "kept.txt").chmod(0o755)
    commit = repository.commit({"kept.txt": "a\nB\nc\nd\n", "new.py": "x\n", "bin": "\0" * 20}, "Subject\n\nBody")
    repository.push()

    facts = await facts_of(repository, commit)

    show = git(repository.work, "show", "--format=%an|%ae|%at|%cn|%ct|%P", "--no-patch", commit).split("|")
    assert (facts.author.name, facts.author.email, facts.committer.name) == (show[0], show[1], show[3])
    assert facts.authored_at is not None
    assert facts.committed_at is not None
    assert [f"{facts.authored_at.timestamp():.0f}", f"{facts.committed_at.timestamp():.0f}"] == [show[2], show[4]]
    assert (facts.parents, facts.message, facts.base) == ((show[5],), "Subject\n\nBody", show[5])
    counts = git(repository.work, "show", "--numstat", "--format=", "-M50%", commit)
    theirs = {line.split("\t")[2]: line.split("\t")[:2] for line in counts.splitlines()}
    assert {file.path: [str(file.added), str(file.deleted)] for file in facts.files if not file.binary} == {
        "gone.txt": ["0", "2"], "kept.txt": theirs["kept.txt"], "new.py": ["1", "0"], "sub/moved to.txt": ["0", "0"],
    }  # fmt: skip
    found = {file.path: file for file in facts.files}
    assert (found["sub/moved to.txt"].status, found["sub/moved to.txt"].old_path) == ("renamed", "moved.txt")
    assert (found["gone.txt"].status, found["new.py"].status, found["bin"].binary) == ("deleted", "added", True)
    assert (found["kept.txt"].mode_changed, found["new.py"].mode_changed) == (True, False)
    assert "+B" in facts.diff
    assert "binary files (1)" in facts.left_out


async def test_another_base_and_none_at_all_can_be_compared_with(repository: Repository) -> None:
    first, *_, last = repository.commits

    assert [file.path for file in (await facts_of(repository, last, first)).files] == ["a.txt"]
    root = await facts_of(repository, first)
    assert (root.base, {file.path for file in root.files}) == (None, {"a.txt", "sub/b.txt"})


async def test_names_and_words_that_mean_harm_are_data(repository: Repository) -> None:
    names = ["new\nline.py", "--output=x.py", "-rf", "\x1b[31mred.py", "$(touch x).py", ":(top)magic", "*", "a\tb"]
    for name in names:
        (repository.work / name).write_text("x = 1\n")
    (repository.work / os.fsdecode(b"\xff\xfe.py")).write_text("x\n")
    message = repository.work.parent / "message"
    message.write_text("\x1b]0;title\x07 \u202eevil " + "m" * 2_000_000)
    git(repository.work, "add", "-A")
    git(repository.work, "commit", "--quiet", "-F", str(message))
    commit = git(repository.work, "rev-parse", "HEAD")
    repository.push()

    facts = await facts_of(repository, commit)

    assert {file.path for file in facts.files} == {*names, "\udcff\udcfe.py"}
    assert all(file.added == 1 for file in facts.files)
    assert len(facts.message) < commitfacts.MOST_MESSAGE + 100
    assert not {"\x1b", "\x07", "\u202e"} & set(facts.message + facts.diff)


async def test_links_submodules_and_pointers_are_told_from_files(repository: Repository) -> None:
    (repository.work / "loop").symlink_to("loop")
    (repository.work / "out").symlink_to("/etc/passwd")
    git(repository.work, "update-index", "--add", "--cacheinfo", f"160000,{repository.commits[0]},module")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    (repository.work / "large.bin").write_text(pointer)
    git(repository.work, "add", "loop", "out", "large.bin")
    git(repository.work, "commit", "--quiet", "-m", "kinds")
    commit = git(repository.work, "rev-parse", "HEAD")
    repository.push()

    facts = await facts_of(repository, commit)

    kinds = {file.path: file.kind for file in facts.files}
    assert kinds == {"loop": "symlink", "out": "symlink", "module": "submodule", "large.bin": "lfs"}
    assert facts.diff == ""
    assert facts.left_out == ("LFS pointers (1)", "links (2)", "submodules (1)")


async def test_thousands_of_files_are_counted_and_a_huge_one_is_not_read(repository: Repository) -> None:
    many = repository.work / "many"
    many.mkdir()
    for number in range(20_000):
        (many / str(number)).write_text(str(number))
    crowd = repository.commit({})
    huge = repository.commit({"huge.txt": "line\n" * 8_000_000, "small.txt": "x\n"})
    repository.push()

    crowded = await facts_of(repository, crowd)
    facts = await facts_of(repository, huge)
    found = {file.path: file for file in facts.files}

    assert (len(crowded.files), crowded.more_files) == (commitfacts.MOST_FILES, 20_000 - commitfacts.MOST_FILES)
    assert (found["huge.txt"].binary, found["small.txt"].added) == (True, 1)
    assert len(facts.diff) <= commitfacts.MOST_DIFF


async def test_no_diff_driver_or_hook_of_the_repository_runs(repository: Repository, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    repository.commit({".gitattributes": "* diff=evil filter=evil\n"})
    commit = repository.commit({"a.txt": "changed\n"})
    repository.push()
    for setting in ("diff.evil.command", "diff.evil.textconv", "filter.evil.smudge", "diff.external"):
        git(repository.bare, "config", setting, f"touch {trace}")
    (repository.bare / "info").mkdir(exist_ok=True)
    (repository.bare / "info/attributes").write_text("* diff=evil filter=evil\n")

    facts = await facts_of(repository, commit)

    assert "+changed" in facts.diff
    assert not trace.exists()


async def test_file_lists_are_those_of_git_log(repository: Repository) -> None:
    commit = shop(repository)
    access = prepare_access("https://nobody.example", None, repository.work.parent)

    lists = await read_file_lists(access, repository.bare, commit, 100, 30)

    log = git(repository.work, "log", "--name-only", "--no-renames", "--format=%x01", f"{commit}~1")
    assert [set(files) for files in lists] == [set(part.split()) for part in log.split("\x01")[1:]]


# The step


async def test_a_commit_is_analysed_with_its_owners_importers_and_what_changes_with_it(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    commit = shop(repository)

    result = await analyse(bench, server, "main")

    found = outputs(result)
    assert (result.exit_code, result.commit) == (0, commit)
    assert (found["level"], found["source"], found["files"]) == ("medium", "rules", "1")
    assert (json.loads(found["components"]), json.loads(found["areas"])) == (["@org/shop"], ["code"])
    assert json.loads(found["tests"]) == ["tests/test_cart.py"]
    assert "files depend on shop/cart.py" in found["summary"]
    assert "usually changed too, but not here: shop/schema.sql" in found["summary"]
    assert sum(len(name) + len(value) for name, value in found.items()) < 4096


async def test_the_workflows_rules_raise_the_level(bench: StepBench, repository: Repository, server: GitServer) -> None:
    commit = shop(repository)
    rules = [{"paths": ["shop/**"], "level": "critical"}]

    result = await analyse(bench, server, commit, source={"risk": rules, "commit": commit})

    assert outputs(result)["level"] == "critical"
    assert "spec.risk[0]" in result.message


async def test_what_is_already_there_is_not_fetched_again(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    commit = shop(repository)
    first = await analyse(bench, server, commit)
    asked = len(server.authorizations)

    again = await analyse(bench, server, commit)

    assert (len(server.authorizations), outputs(again)) == (asked, outputs(first))


async def test_the_history_needs_no_contents_where_the_server_can_leave_them_away(
    repository: Repository, server: GitServer, tmp_path: Path
) -> None:
    git(repository.bare, "config", "uploadpack.allowFilter", "true")
    commit = shop(repository)
    wanted = Wanted(GitSource(url=f"{server.url}/shop.git"), commit, None)

    async with Histories(tmp_path / "histories").open(wanted, PATIENCE) as opened:
        assert opened.log is not None
        listed = git(opened.log, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)").split()
        lists = await read_file_lists(opened.access, opened.log, commit, 100, 30)

    assert set(listed) <= {"commit", "tree", "tag"}
    assert len(lists) == len(repository.commits) - 1


async def test_an_old_server_that_gives_no_single_commits_is_read_all_the_same(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    shop(repository)
    server.old = True

    result = await analyse(bench, server, repository.commits[-2])

    assert (result.exit_code, json.loads(outputs(result)["components"])) == (0, ["@org/shop"])


@pytest.mark.parametrize("revision", ["no-such-branch", "0" * 40])
async def test_what_cannot_be_read_is_never_low(
    bench: StepBench, repository: Repository, server: GitServer, revision: str
) -> None:
    result = await analyse(bench, server, revision)

    assert (result.exit_code, outputs(result)["level"], outputs(result)["source"]) == (1, "high", "none")
    assert "could not be analysed, so its level is taken to be high" in result.message


async def test_a_run_without_a_repository_says_so_and_is_not_low(bench: StepBench) -> None:
    result = await bench.carry_out("analyze-changes", assume="critical")

    assert (result.exit_code, outputs(result)["level"]) == (1, "critical")
    assert "set spec.source.git" in result.message


async def test_a_server_that_is_down_has_the_step_tried_again(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    server.failures_left = 10**6

    result = await analyse(bench, server, "main")

    assert result.infrastructure is Reason.STEP_BROKEN


async def test_a_private_repository_is_read_with_the_pools_secret_and_with_no_other(
    bench: StepBench, repository: Repository, server: GitServer, tmp_path: Path
) -> None:
    server.private, commit = True, shop(repository)
    secret = tmp_path / "git-secrets/forge"
    secret.mkdir(parents=True)
    (secret / "username").write_text(USER)
    (secret / "password").write_text(PASSWORD)
    url = f"{server.url}/shop.git"

    def source(name: str) -> dict[str, Any]:
        return {"git": {"url": url, "revision": commit, "credentialsSecretRef": {"name": name}}}

    allowed = await bench.carry_out("analyze-changes", source=source("forge"))
    missing = await bench.carry_out("analyze-changes", source=source("other"))
    nameless = await analyse(bench, server, commit)

    assert (allowed.exit_code, outputs(allowed)["level"]) == (0, "medium")
    assert "hold no git Secret 'other'; add it to spec.builtin.gitSecrets" in missing.message
    assert outputs(nameless)["level"] == "high"
    assert PASSWORD not in allowed.model_dump_json() + missing.model_dump_json() + nameless.model_dump_json()


async def test_a_hostile_commit_is_analysed_and_its_outputs_are_plain(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    (repository.work / "tests").mkdir()
    (repository.work / "tests/test_\x1b[2J.py").write_text("import evil\n")
    (repository.work / "evil.py").write_text("(" * 100_000)
    commit = repository.commit({"tests/test_evil.py": "import evil\n", "CODEOWNERS": ".*.*.*.*x @a\n[\n"})
    repository.push()

    result = await analyse(bench, server, commit)

    assert result.exit_code == 0
    assert "\x1b" not in result.model_dump_json()
    assert "\\u001b" not in result.model_dump_json()
    assert json.loads(outputs(result)["tests"]) == ["tests/test_evil.py"]
    assert "imports of 1 of 3 source files could not be read" in result.message


async def test_an_agent_without_room_says_so_and_is_tried_again(
    bench: StepBench, repository: Repository, server: GitServer, tmp_path: Path
) -> None:
    (tmp_path / "full").touch()
    bench.histories = Histories(tmp_path / "full")

    result = await analyse(bench, server, "main")

    assert result.infrastructure is Reason.STEP_BROKEN


# What the commit is like, for a model


async def test_features_are_those_that_a_whole_copy_of_the_repository_tells(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    git(repository.bare, "config", "uploadpack.allowFilter", "true")  # so that the history comes without contents
    shop(repository)
    git(repository.work, "mv", "shop/page1.py", "shop/moved.py")
    commit = repository.commit({"shop/cart.py": "x = 1\n" * 30, "shop/new.py": "y\n"}, "Fix the cart")
    repository.push()

    result = await analyse(bench, server, commit)

    here = Access("https://nobody.example", {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    whole, history = await read_commits(here, repository.bare, commit), History()
    expected = [history.observe(one) for one in whole.commits.values()][-1]
    assert read_written(outputs(result)["features"]) == pytest.approx(expected, rel=1e-5)
    assert (expected.nf, expected.la, expected.lt, expected.fix) == (3, 31, 3, 1)
    assert expected.nuc > 5


async def test_a_merge_has_no_features_and_that_is_said(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    shop(repository)
    git(repository.work, "checkout", "--quiet", "-b", "side", "HEAD~1")
    repository.commit({"side.txt": "1\n"})
    git(repository.work, "checkout", "--quiet", "main")
    git(repository.work, "merge", "--quiet", "--no-ff", "-m", "Merge", "side")
    commit = git(repository.work, "rev-parse", "HEAD")
    repository.push()

    result = await analyse(bench, server, commit)

    assert (result.exit_code, outputs(result)["features"]) == (0, "")
    assert "nothing for a model: it is a merge" in result.message


@pytest.mark.parametrize("short", [True, False], ids=["little of it is asked for", "the server has little of it"])
async def test_a_history_that_ends_early_gives_no_features_and_fails_nothing(
    short: bool, bench: StepBench, repository: Repository, server: GitServer, tmp_path: Path
) -> None:
    commit = shop(repository)
    if not short:
        whole = tmp_path / "whole.git"
        repository.bare.rename(whole)
        git(tmp_path, "clone", "--quiet", "--bare", "--depth=4", f"file://{whole}", str(repository.bare))

    result = await analyse(bench, server, commit, history=3 if short else 1000)

    assert (result.exit_code, outputs(result)["level"], outputs(result)["features"]) == (0, "medium", "")
    assert "nothing for a model: of the history fewer than 1000 commits are there" in result.message


async def test_without_history_there_are_no_features(
    bench: StepBench, repository: Repository, server: GitServer
) -> None:
    result = await analyse(bench, server, shop(repository), history=0)

    assert (result.exit_code, outputs(result)["features"]) == (0, "")
    assert "nothing for a model: there is no history" in result.message


# predict-risks


async def test_a_prediction_raises_what_the_analysis_found_and_says_what_to_run(bench: StepBench) -> None:
    analysis = {
        "level": "medium",
        "source": "rules",
        "tests": '["tests/test_a.py","tests/test_b.py"]',
        "areas": '["api"]',
    }
    durations = {"tests/test_a.py": 30}

    plainly = await bench.carry_out("predict-risks", analysis=analysis, durations=durations, blockAt="high")
    likely = await bench.carry_out("predict-risks", analysis=analysis, probability=0.65, blockAt="high")

    assert outputs(plainly) == {
        "level": "medium", "probability": "", "areas": '["api"]', "tests": '["tests/test_a.py","tests/test_b.py"]',
        "suites": "[]", "durationSeconds": "60.0", "block": "false", "source": "rules",
    }  # fmt: skip
    found = outputs(likely)
    assert (found["level"], found["source"], found["block"], found["probability"]) == ("high", "model", "true", "0.650")
    assert "the level is high (probability 0.65), and blockAt is high" in likely.message


async def test_without_an_analysis_the_level_is_assumed_and_nonsense_is_refused(bench: StepBench) -> None:
    nothing = await bench.carry_out("predict-risks", blockAt="high")
    nonsense = await bench.carry_out("predict-risks", analysis={"level": "none at all"})

    assert (outputs(nothing)["level"], outputs(nothing)["source"], outputs(nothing)["block"]) == (
        "high",
        "none",
        "true",
    )
    assert "there is no analysis" in nothing.message
    assert (nonsense.exit_code, "with.analysis" in nonsense.message) == (1, True)
