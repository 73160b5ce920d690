"""What an image is made of: a digest of its Dockerfile, its arguments and the files that it copies."""

import hashlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

# Made by running things, not by anyone's change.
IGNORED = {"__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", "node_modules"}
DIGEST_LENGTH = 16


def image_digest(dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for file in (dockerfile, context / ".dockerignore"):
        digest.update(file.read_bytes() if file.exists() else b"")
    for source in copied_sources(dockerfile.read_text()):
        for file in sorted(_files_of(context, source)):
            digest.update(f"{file.relative_to(context)}\0{file.lstat().st_mode:o}\0".encode())
            digest.update(str(file.readlink()).encode() if file.is_symlink() else file.read_bytes())
    return digest.hexdigest()[:DIGEST_LENGTH]


def copied_sources(dockerfile: str) -> list[str]:
    """The paths that COPY, ADD and bind mounts take from the build context, in order."""
    sources: list[str] = []
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        words = (
            shlex.split(line, comments=True) if re.match(r"\s*(COPY|ADD|RUN --mount)\b", line, re.IGNORECASE) else []
        )
        if not words:
            continue
        options = [word for word in words[1:] if word.startswith("--")]
        if words[0].upper() == "RUN":
            sources += re.findall(r"source=([^,\s]+)", " ".join(options))
        elif not any(option.startswith("--from=") for option in options):
            sources += [word for word in words[1:-1] if not word.startswith("--")]
    return sources


def _files_of(context: Path, pattern: str) -> Iterator[Path]:
    relative = pattern.strip("/")
    for found in context.glob(relative) if relative not in ("", ".") else [context]:
        if found.is_dir() and not found.is_symlink():
            yield from _files_below(found)
        else:
            yield found


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in IGNORED]
        yield from (Path(parent) / name for name in files if not name.endswith(".pyc"))
