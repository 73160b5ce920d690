"""What a test left behind, and what it must not be able to make us read."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import pytest

from dawg_agent.collect import Collected, collect
from dawg_agent.handing import Sending, pack, unpack
from dawg_agent.volume import OutsideTheTree, Volume, open_inside
from dawg_orchestrator.resources.globs import glob_pattern
from dawg_orchestrator.resources.protocol import SidecarOrder
from dawg_orchestrator.resources.task import Results
from unit.agent.pods import ATTEMPT

REPORT = '<testsuite><testcase name="t"/></testsuite>'


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume(tmp_path / "dawg")
    made.create()
    return made


Names = tuple[str, ...]


def an_order(junit: Names = (), artifacts: Names = (), outputs: Names = (), hand_on: Names = ()) -> SidecarOrder:
    return SidecarOrder(
        attempt=ATTEMPT,
        key="unit",
        api_url="https://api",
        results=Results(junit=list(junit), artifacts=list(artifacts)),
        outputs=list(outputs),
        hand_on=list(hand_on),
    )


def written(folder: Path, name: str, text: str = REPORT) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(collected: Collected, kind: str) -> list[str]:
    return [sending.name for sending in collected.sendings if sending.kind == kind]


@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("**/junit*.xml", ["junit.xml", "a/b/junit-1.xml"], ["xjunit.xml", "a/other.xml"]),
        ("*.xml", ["a.xml"], ["a/b.xml"]),
        ("./out/*", ["out/a"], ["out/a/b"]),
        ("out/**", ["out/a", "out/a/b"], ["other/a"]),
        ("a?.[0-9]", ["ab.1"], ["ab.x", "a/.1"]),
        ("[!a].txt", ["b.txt"], ["a.txt"]),
        ("a+b(1).txt", ["a+b(1).txt"], ["aab1.txt"]),
        ("[", ["["], ["a"]),
        ("[z-a]", ["[z-a]"], ["z"]),
        ("**/**/a/**/b*c*", ["a/bc", "x/a/y/z/b-c-d"], ["a/x/bd", "b/bc"]),
        ("a[!b]c", ["adc"], ["abc", "a/c"]),
    ],
)
def test_globs_match_as_people_expect(glob: str, matches: list[str], others: list[str]) -> None:
    assert [name for name in matches + others if glob_pattern(glob).match(name)] == matches


@pytest.mark.parametrize(("glob", "name"), [("**/" * 60 + "x", "a/" * 60 + "y"), ("*a" * 60 + "b", "a" * 200)])
def test_a_glob_of_many_wildcards_is_matched_at_once(glob: str, name: str) -> None:
    started = time.process_time()

    assert not glob_pattern(glob).match(name)
    assert time.process_time() - started < 1  # an agent's other tasks wait meanwhile; it was longer than any lease


def test_reports_are_found_below_the_working_directory_and_the_results_folder(volume: Volume) -> None:
    written(volume.workspace, "target/junit.xml")
    written(volume.results, "junit.xml")
    summary = collect(an_order(junit=("**/junit.xml",)), volume, None).summary

    assert summary.files == 2
    assert summary.tests is not None
    assert summary.tests.passed == 2
    assert summary.missing == []


def test_nothing_declared_is_nothing_counted(volume: Volume) -> None:
    collected = collect(an_order(), volume, None)

    assert collected.summary.tests is None
    assert collected.report is None


def test_a_pattern_without_a_file_or_with_empty_reports_only_is_missing(volume: Volume) -> None:
    written(volume.results, "empty.xml", "<testsuites/>")
    summary = collect(an_order(junit=("empty.xml", "none/*.xml")), volume, None).summary

    assert summary.missing == ["empty.xml", "none/*.xml"]


def test_an_unreadable_report_is_named_and_not_missing(volume: Volume) -> None:
    written(volume.results, "junit.xml", "<testsuite>")
    summary = collect(an_order(junit=("*.xml",)), volume, None).summary

    assert summary.missing == []
    assert [item.file for item in summary.unreadable] == ["junit.xml"]


def test_a_report_that_two_patterns_match_is_counted_once(volume: Volume) -> None:
    written(volume.results, "junit.xml")
    summary = collect(an_order(junit=("*.xml", "**/*.xml")), volume, None).summary

    assert summary.tests is not None
    assert summary.tests.total == 1


def test_a_report_that_came_with_the_source_was_not_written_by_the_test(volume: Volume) -> None:
    written(volume.workspace, "tests/data/junit.xml")
    volume.mark(volume.ready, "")
    time.sleep(0.02)  # the file system's clock ticks every few milliseconds
    order = an_order(junit=("**/junit.xml",), artifacts=("**/*.xml",))

    collected = collect(order, volume, volume.ready_since())
    assert collected.summary.missing == ["**/junit.xml"]
    assert names(collected, "artifact") == ["tests/data/junit.xml"]

    fresh = written(volume.workspace, "out/junit.xml")
    os.utime(fresh, (0, 0))  # unpacked with an old date: it was written here all the same
    assert collect(order, volume, volume.ready_since()).summary.files == 1


def test_a_link_to_what_only_the_sidecar_may_read_is_refused(volume: Volume, tmp_path: Path) -> None:
    token = written(tmp_path, "token", "secret")
    (volume.results / "junit.xml").symlink_to(token)
    (volume.results / "folder").symlink_to(tmp_path)
    (volume.outputs / "version").symlink_to(token)
    order = an_order(junit=("*.xml",), artifacts=("**/*",), outputs=("version",), hand_on=("../token",))
    collected = collect(order, volume, None)

    assert "leads out" in collected.summary.unreadable[0].error
    assert collected.summary.outputs == {}
    assert collected.summary.missing_outputs == ["version", "../token"]
    for sending in collected.sendings:
        with pytest.raises(OutsideTheTree), open_inside(sending.root, sending.path):
            pass


def test_a_link_within_the_tree_is_followed(volume: Volume) -> None:
    written(volume.results, "run-1.xml")
    (volume.results / "latest.xml").symlink_to("run-1.xml")
    summary = collect(an_order(junit=("latest.xml",)), volume, None).summary

    assert summary.tests is not None
    assert summary.tests.passed == 1


def test_a_pipe_does_not_block(volume: Volume) -> None:
    os.mkfifo(volume.results / "junit.xml")

    assert "no plain file" in collect(an_order(junit=("*.xml",)), volume, None).summary.unreadable[0].error


def test_outputs_are_read_within_their_budget(volume: Volume) -> None:
    written(volume.outputs, "version", "1.2.3\n")
    written(volume.outputs, "big", "x" * 5000)
    summary = collect(an_order(outputs=("version", "big", "none")), volume, None).summary

    assert summary.outputs == {"version": "1.2.3"}
    assert len(summary.missing_outputs) == 2
    assert "4096 bytes" in summary.missing_outputs[0]


def test_the_git_folder_is_nobodys_artifact(volume: Volume) -> None:
    written(volume.workspace, ".git/config")
    written(volume.workspace, "a.txt")

    assert names(collect(an_order(artifacts=("**/*",)), volume, None), "artifact") == ["a.txt"]


def test_artifacts_beyond_the_budget_are_left_out_with_a_word(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dawg_agent.collect.MAX_FILES", 2)
    for number in range(3):
        written(volume.results, f"{number}.txt")
    collected = collect(an_order(artifacts=("*.txt",)), volume, None)

    assert names(collected, "artifact") == ["0.txt", "1.txt"]
    assert "1 of 3 artifacts were left out" in collected.left_out[0]


def test_what_is_handed_on_arrives_at_the_same_path(volume: Volume, tmp_path: Path) -> None:
    written(volume.workspace, "dist/app/main.js", "code").chmod(0o755)
    (volume.workspace / "dist/latest").symlink_to("app")
    os.link(volume.workspace / "dist/app/main.js", volume.workspace / "dist/copy.js")
    (sending,) = collect(an_order(hand_on=("./dist/",)), volume, None).sendings
    other = tmp_path / "other"
    other.mkdir()
    with pack(sending, volume.control) as packed:
        unpack(packed, other)

    assert sending.name == "dist"
    assert (other / "dist/app/main.js").read_text() == "code"
    assert (other / "dist/app/main.js").stat().st_mode & 0o100
    assert (other / "dist/copy.js").read_text() == "code"
    assert (other / "dist/latest").readlink() == Path("app")


def test_a_handed_link_that_leads_out_is_refused_where_it_is_unpacked(volume: Volume, tmp_path: Path) -> None:
    written(volume.workspace, "dist/a")
    (volume.workspace / "dist/evil").symlink_to("/etc")
    other = tmp_path / "other"
    other.mkdir()
    sending = Sending("handed", "dist", volume.workspace / "dist", volume.workspace, tarred=True)
    with pack(sending, volume.control) as packed, pytest.raises(OutsideTheTree):
        unpack(packed, other)


def a_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    "members",
    [
        [a_member("../evil")],
        [a_member("/evil")],
        [a_member("a/../../evil")],
        [a_member("up", tarfile.SYMTYPE, "..")],
        [a_member("up", tarfile.SYMTYPE, "/etc")],
        [a_member("hard", tarfile.LNKTYPE, "../token")],
        [a_member("device", tarfile.CHRTYPE)],
        [a_member("pipe", tarfile.FIFOTYPE)],
    ],
    ids=lambda members: members[0].name + members[0].linkname,
)
def test_nothing_is_unpacked_outside_the_folder(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with (tmp_path / "packed.tar").open("w+b") as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for member in members:
                archive.addfile(member)
        with pytest.raises(OutsideTheTree):
            unpack(packed, inside)

    assert list(inside.iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_a_link_of_the_source_is_replaced_and_never_written_through(volume: Volume, tmp_path: Path) -> None:
    written(volume.workspace, "dist", "new")
    (sending,) = collect(an_order(hand_on=("dist",)), volume, None).sendings
    other, elsewhere = tmp_path / "other", written(tmp_path, "elsewhere", "old")
    other.mkdir()
    (other / "dist").symlink_to(elsewhere)
    with pack(sending, volume.control) as packed:
        unpack(packed, other)

    assert elsewhere.read_text() == "old"
    assert (other / "dist").read_text() == "new"


def test_half_an_exit_code_is_not_read(volume: Volume) -> None:
    assert volume.exit_code() is None
    (volume.control / "exit").write_text("")
    assert volume.exit_code() is None
    volume.mark(volume.exit, "137\n")
    assert volume.exit_code() == 137
