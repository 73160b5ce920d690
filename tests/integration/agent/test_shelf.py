"""What is kept within a budget, and what has to go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dawg_agent.shelf import Shelf, size_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def put(shelf: Shelf, name: str, size: int = 100) -> None:
    with shelf.bench() as bench:
        (bench / "draft").write_bytes(name[-1:].encode() * size)
        shelf.put_file(name, bench / "draft")


def put_folder(shelf: Shelf, name: str, size: int = 100) -> None:
    with shelf.bench() as bench:
        (bench / "draft").mkdir()
        (bench / "draft/file").write_bytes(bytes(size))
        shelf.replace_folder(name, bench / "draft")
        shelf.note_folder(name, size)


def has(shelf: Shelf, name: str) -> bool:
    if (handle := shelf.open(name)) is None:
        return False
    os.close(handle)
    return True


def is_swept(folder: Path) -> bool:
    return not list((folder / "scratch").iterdir())


def test_what_was_used_least_recently_goes_first(folder: Path) -> None:
    shelf = Shelf(folder, 250)
    put(shelf, "a")
    put(shelf, "b")
    assert has(shelf, "a")
    put(shelf, "c")

    assert [name for name in "abc" if has(shelf, name)] == ["a", "c"]
    until(lambda: is_swept(folder))
    assert size_of(folder) <= 2 * 4096


def test_a_reader_reads_on_when_the_file_has_gone(folder: Path) -> None:
    shelf = Shelf(folder, 150)
    put(shelf, "a")
    handle = shelf.open("a")
    put(shelf, "b")

    assert handle is not None
    assert not has(shelf, "a")
    with os.fdopen(handle, "rb") as reader:
        assert reader.read() == b"a" * 100


def test_a_folder_in_use_stays_and_goes_afterwards(folder: Path) -> None:
    shelf = Shelf(folder, 150)
    put_folder(shelf, "mirror")
    with shelf.in_use("mirror"):
        put(shelf, "a")
        put(shelf, "b")
        assert (shelf.folder("mirror") / "file").exists()
        shelf.note_folder("mirror", 200)

    assert not shelf.folder("mirror").exists()


def test_room_is_made_for_what_is_being_made(folder: Path) -> None:
    shelf = Shelf(folder, 250)
    put(shelf, "a")
    put(shelf, "b")
    with shelf.claim(100):
        assert [name for name in "ab" if has(shelf, name)] == ["b"]
    put(shelf, "c")

    assert [name for name in "bc" if has(shelf, name)] == ["b", "c"]


def test_what_is_larger_than_the_budget_is_not_kept(folder: Path) -> None:
    shelf = Shelf(folder, 50)
    put(shelf, "a")

    assert not has(shelf, "a")


def test_another_process_finds_what_was_whole_and_sweeps_the_rest_away(folder: Path) -> None:
    before = Shelf(folder, 1000)
    put(before, "a")
    put(before, "b")
    put_folder(before, "mirror")
    until(lambda: is_swept(folder))
    (folder / "scratch/half").mkdir()
    (folder / "scratch/half/draft").write_text("half")
    (folder / "kept/b.100").write_text("half")
    after = Shelf(folder, 2**20)

    assert has(after, "a")
    assert not has(after, "b")
    assert (after.folder("mirror") / "file").exists()
    until(lambda: is_swept(folder))
    assert sorted(path.name for path in (folder / "kept").iterdir()) == ["a.100", "mirror"]


def test_another_process_with_a_smaller_budget_keeps_less(folder: Path) -> None:
    before = Shelf(folder, 1000)
    put(before, "a")
    put(before, "b")
    after = Shelf(folder, 100)

    assert [has(after, name) for name in "ab"].count(True) == 1


def test_a_file_that_somebody_has_written_to_is_not_given_out(folder: Path) -> None:
    shelf = Shelf(folder, 1000)
    put(shelf, "a")
    kept = folder / "kept/a.100"
    before = kept.stat().st_ctime_ns
    while kept.stat().st_ctime_ns == before:  # the file system's clock ticks now and then
        kept.write_bytes(b"evil" * 25)
        os.utime(kept, ns=(0, 0))  # a time that can be set does not count

    assert not has(shelf, "a")
    assert not kept.exists()


def test_a_file_that_somebody_has_deleted_is_not_there(folder: Path) -> None:
    shelf = Shelf(folder, 1000)
    put(shelf, "a")
    (folder / "kept/a.100").unlink()

    assert not has(shelf, "a")
    put(shelf, "a")
    assert has(shelf, "a")


def test_nobody_else_can_look_inside(folder: Path) -> None:
    Shelf(folder, 1000)

    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o700}
