"""How much memory one piece of an agent's work takes: python -m integration.agent.peak WORK URL FOLDER

Prints the largest resident size of git, in MiB. A process of its own, because these figures never sink.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from dawg_agent.checkout import check_out
from dawg_agent.commitlog import read_commits
from dawg_agent.git import Access
from dawg_orchestrator.resources.testrun import GitSource

_WITHIN = 300.0


def peak_of(work: str, url: str, folder: Path) -> int:
    """What the other process prints."""
    command = [sys.executable, "-m", "integration.agent.peak", work, url, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=_WITHIN)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


async def _checkout(url: str, folder: Path) -> None:
    await check_out(GitSource(url=url, revision="main"), None, None, folder, timedelta(seconds=_WITHIN))


async def _log(head: str, bare: Path) -> None:
    access = Access("https://git.example.org/shop.git", {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    assert len((await read_commits(access, bare, head)).commits) == 2


if __name__ == "__main__":
    asyncio.run({"checkout": _checkout, "log": _log}[sys.argv[1]](sys.argv[2], Path(sys.argv[3])))
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
