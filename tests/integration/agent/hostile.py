"""Repositories that mean harm, made in seconds: `git fast-import` writes what no work tree could hold."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_WHO = b"dev <dev@example.org> 1760000000 +0000"
LINK = b"120000"
# Names that look like options, paths for git, shell, terminals' commands, or are no UTF-8.
ODD_NAMES = (
    b"--output=pwned", b"-rf", b"--upload-pack=touch pwned", b":(glob)**", b":!a", b"$(touch pwned)", b"`touch pwned`",
    b"a\nb.py", b"a\tb.py", b"q\"uo'te.py", b"\x1b]0;title\x07\x1b[2J.py", b"\x1b[31mred.py", b"\xff\xfe.py",
    b"caf\xc3\xa9.py", b"cafe\xcc\x81.py", b"\xe2\x80\xaegpj.exe.py", b" lead.py", b"trail .py ", b"%s%n.py", b"a:b.py",
    b"back\\slash.py", b"..py", b"...", b"\xf0\x9f\x92\xa9.py", b"\x01mark", b":100644 1", b"1\t2\tx", b"{{x}}.py",
)  # fmt: skip
ODD_LINKS = {b"abs": b"/etc/passwd", b"up": b"../../../../etc/shadow", b"loop": b"loop", b"git": b".git/config"}
MODULES = b'[submodule "sub"]\n\tpath = sub\n\turl = -u./pwned\n\tupdate = !touch pwned\n'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99999999999\n"


class Import:
    """The files of one commit."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def put(self, path: bytes, content: bytes, mode: bytes = b"100644") -> None:
        """A file, or with another mode something else."""
        self._stream.write(b"M %s inline %s\ndata %d\n%s\n" % (mode, _quoted(path), len(content), content))

    def put_submodule(self, path: bytes) -> None:
        self._stream.write(b"M 160000 %s %s\n" % (b"1" * 40, _quoted(path)))


Fill = Callable[[Import], None]


def make(bare: Path, fill: Fill) -> tuple[str, str]:
    """A bare repository of two commits, of which the second has what is filled in; gives both."""
    bare.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)
    with _importing(bare) as stream:
        for files in (lambda first: first.put(b"a.txt", b"one\n"), fill):
            stream.write(b"commit refs/heads/main\ncommitter %s\ndata 6\nchange\n" % _WHO)
            files(Import(stream))
    found = subprocess.run(["git", "rev-parse", "main~1", "main"], cwd=bare, check=True, capture_output=True, text=True)
    first, second = found.stdout.split()
    return first, second


@contextmanager
def _importing(bare: Path) -> Iterator[IO[bytes]]:
    command = ["git", "fast-import", "--quiet", "--force"]
    with subprocess.Popen(command, cwd=bare, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        yield process.stdin
        process.stdin.close()
        assert process.wait() == 0


def _quoted(path: bytes) -> bytes:
    plain = all(32 < byte < 127 and byte not in b'"\\' for byte in path)
    return path if plain else b'"' + b"".join(b"\\%03o" % byte for byte in path) + b'"'


def many(files: int) -> Fill:
    """So many small modules that import each other."""

    def fill(commit: Import) -> None:
        for number in range(files):
            text = b"import part%d.module%d\nx = %d\n" % ((number + 1) % 500, number + 1, number)
            commit.put(b"part%d/module%d.py" % (number % 500, number), text)

    return fill


def far(files: int, folders: int, length: int) -> Fill:
    """Files so deep, below folders with names so long."""
    way = b"/".join([b"d" * length] * folders)

    def fill(commit: Import) -> None:
        for number in range(files):
            commit.put(b"%d/%s/f%d.py" % (number // 250, way, number), b"x = %d\n" % number)

    return fill


def odd(commit: Import) -> None:
    """Names, links, submodules and settings that are made to do something where they are only read."""
    for name in ODD_NAMES:
        commit.put(name, b"import x\n")
        commit.put(b"dir/" + name, b"import y\n")
    for name, target in ODD_LINKS.items():
        commit.put(name, target, LINK)
    commit.put_submodule(b"sub")
    commit.put(b".gitmodules", MODULES)
    commit.put(b".gitattributes", b"* filter=lfs diff=lfs merge=lfs\n")
    commit.put(b".lfsconfig", b"[lfs]\n\turl = http://127.0.0.1:1/pwned\n")
    commit.put(b"big.psd", POINTER)
