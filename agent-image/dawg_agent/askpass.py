"""Answers git's question for a user name or password, from files, and only for the host they are meant for.

git starts this with the question as its argument. After a redirect git would ask for another host: that one gets
nothing. The answer goes to git's pipe and is never on a command line, in a configuration or in a log.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ORIGIN = "DAWG_GIT_ORIGIN"  # scheme://host[:port] of the repository
FOLDER = "DAWG_GIT_FOLDER"  # holds the files username and password
_QUESTION = re.compile(r"^(Username|Password) for '(https?://)(?:[^@/']*@)?([^/']+?)/?': ?$")


def answer(question: str, origin: str, folder: Path) -> str | None:
    """Return what git may be told; None: not for this host."""
    asked = _QUESTION.match(question)
    if asked is None or (asked[2] + asked[3]).lower() != origin.lower():
        return None
    file = folder / asked[1].lower()
    if asked[1] == "Username" and not file.exists():
        return "git"  # forges that take a bare token accept any name
    return file.read_text(encoding="utf-8").rstrip("\r\n")


def main() -> int:
    """Print the answer; 1: there is none."""
    told = answer(" ".join(sys.argv[1:]), os.environ.get(ORIGIN, ""), Path(os.environ.get(FOLDER, "/nonexistent")))
    if told is None:
        return 1
    print(told)
    return 0
