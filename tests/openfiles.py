"""Which files this process holds open, also those that have no name any more."""

from __future__ import annotations

import contextlib
from pathlib import Path


def opened_below(folder: Path) -> list[str]:
    """Where the open files below a folder lie, or lay."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/")]
