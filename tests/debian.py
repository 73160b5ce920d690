"""Real parts that tests need and Debian has: installed where they are missing."""

from __future__ import annotations

import os
import subprocess


def install(package: str) -> None:
    """Install a package; the lists are fetched first, since a fresh machine has none."""
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        subprocess.run(
            ["apt-get", "--quiet", *arguments],
            check=True, stdin=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
