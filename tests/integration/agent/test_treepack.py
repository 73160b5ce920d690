"""A folder as a tree pack: what comes out is what went in."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dawg_agent.treepack import MAGIC, NotATreePack, read_index, write_pack
from treepacks import listing, unpack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def packed(folder: Path) -> io.BytesIO:
    out = io.BytesIO()
    write_pack(folder, out)
    out.seek(0)
    return out


def unpacked(folder: Path, into: Path) -> Path:
    into.mkdir()
    unpack(packed(folder), into)
    return into


def a_file(path: Path, content: bytes = b"text", mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def test_what_is_unpacked_is_what_was_packed(tree: Path, tmp_path: Path) -> None:
    a_file(tree / "run.sh", b"#!/bin/sh\n", 0o755)
    a_file(tree / "src/deep/er/a.py", b"print()\n", 0o664)
    a_file(tree / "src.txt")
    a_file(tree / "empty", b"")
    a_file(tree / "large.bin", os.urandom(3 * 2**20 + 17))
    (tree / "nothing here").mkdir(mode=0o775)
    (tree / "src/link.py").symlink_to("deep/er/a.py")

    assert listing(unpacked(tree, tmp_path / "copy")) == listing(tree)


def test_an_empty_folder_is_a_pack_too(tree: Path, tmp_path: Path) -> None:
    assert listing(unpacked(tree, tmp_path / "copy")) == {}


def test_whatever_the_modes_the_owner_can_work_with_it(tree: Path) -> None:
    a_file(tree / "read-only", mode=0o400)
    a_file(tree / "tool", mode=0o500)
    a_file(tree / "setuid", mode=0o4755)
    a_file(tree / "shared", mode=0o666)
    (tree / "folder").mkdir(mode=0o700)

    modes = {path: mode for _, path, mode, _ in read_index(packed(tree))}
    assert modes == {"read-only": 0o644, "tool": 0o744, "setuid": 0o755, "shared": 0o666, "folder": 0o755}


def test_links_stay_links_wherever_they_lead(tree: Path) -> None:
    targets = {"absolute": "/etc", "file": "/etc/passwd", "out": "../..", "nowhere": "no/such/thing", "self": "self"}
    for name, target in targets.items():
        (tree / name).symlink_to(target)

    assert {path: extra for _, path, _, extra in read_index(packed(tree))} == targets


def test_what_is_no_file_folder_or_link_is_left_out(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    a_file(tree / "plain")

    assert [path for _, path, _, _ in read_index(packed(tree))] == ["plain"]


def names() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name)


@settings(max_examples=40, deadline=None)
@given(names().filter(lambda name: name.strip(b".")), names(), names())
def test_names_need_not_be_text(folder: bytes, target: bytes, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        tree.mkdir()
        inner = tree / os.fsdecode(folder)
        inner.mkdir()
        (inner / os.fsdecode(b"f" + folder)).write_bytes(content)
        (inner / "link").symlink_to(os.fsdecode(target))

        assert listing(unpacked(tree, Path(place) / "copy")) == listing(tree)


@pytest.mark.parametrize("name", [b"\xff\xfe", "é".encode("latin-1"), "😀".encode() + b"\x80", b"\xed\xa0\xbd\xb8\x80"])
def test_a_name_that_is_not_utf_8_keeps_its_bytes(tree: Path, tmp_path: Path, name: bytes) -> None:
    (tree / os.fsdecode(name)).write_text("text")

    assert [os.fsencode(path.name) for path in unpacked(tree, tmp_path / "copy").iterdir()] == [name]


@pytest.fixture
def deep() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    for depth in range(1, 1101):
        Path(f"{folder}{'/d' * depth}").mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)  # Python's own way is not deep enough


def test_a_tree_deeper_than_pythons_stack_can_be_packed(deep: Path) -> None:
    assert len(read_index(packed(deep))) == 1100


class ShrinkingTree(io.BytesIO):
    """Shortens a file as soon as the index is written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def write(self, data: object) -> int:
        os.truncate(self._path, 1)
        return super().write(data)  # type: ignore[arg-type]


def test_a_file_that_shrinks_meanwhile_is_an_error_and_no_shifted_pack(tree: Path) -> None:
    a_file(tree / "a", b"long enough")

    with pytest.raises(OSError, match="has become shorter"):
        write_pack(tree, ShrinkingTree(tree / "a"))


@pytest.mark.parametrize(
    "stream",
    [b"", b"DAWG", b"ANYTHING\0\0\0\x02[]", MAGIC + b"\0\0\0\x09[1", MAGIC + b"\0\0\0\x03[1]", MAGIC],
)
def test_a_stream_that_is_no_pack_is_refused(stream: bytes) -> None:
    with pytest.raises(NotATreePack):
        read_index(io.BytesIO(stream))
