"""Globs as people write them for paths and branches, compiled so that no glob takes for ever."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable


@functools.lru_cache(maxsize=256)
def glob_pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob: ``**/`` any folders, ``*`` and ``?`` within one name, ``[…]`` one character.

    What stands between two wildcards is taken where it first fits (an atomic group), and never looked for again: other
    places would not help, and to try them all takes for ever.
    """
    *folders, last = glob.removeprefix("./").split("/")
    text = run = ""
    floats = False
    for folder in folders:
        if folder != "**":
            run += _one_name(folder) + "/"
            continue
        text += f"(?>(?:[^/]+/)*?{run})" if floats and run else run
        floats, run = True, ""
    run += ".*" if last == "**" else _one_name(last)
    text += f"(?:[^/]+/)*?{run}" if floats else run
    with warnings.catch_warnings(action="ignore"):  # of classes that a later Python may read otherwise
        try:
            return re.compile(f"(?:{text})\\Z", re.DOTALL)
        except re.error:
            return re.compile(re.escape(glob) + r"\Z")


def _one_name(glob: str) -> str:
    """The expression for one step of a path."""
    pieces, at = [""], 0
    while at < len(glob):
        if glob[at] == "*":
            pieces, at = [*pieces, ""] if pieces[-1] or len(pieces) == 1 else pieces, at + 1
        elif glob[at] == "?":
            pieces[-1], at = pieces[-1] + "[^/]", at + 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inside = glob[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            negated = inside[0] in "!^"
            pieces[-1], at = pieces[-1] + (f"[^/{inside[1:]}]" if negated else f"[{inside}]"), end + 1
        else:
            pieces[-1], at = pieces[-1] + re.escape(glob[at]), at + 1
    first, *others = pieces
    if not others:
        return first
    return first + "".join(f"(?>[^/]*?{piece})" for piece in others[:-1]) + f"[^/]*{others[-1]}"


def matches_any(globs: Iterable[str], text: str) -> bool:
    """Whether one of the globs fits the whole text."""
    return any(glob_pattern(glob).match(text) for glob in globs)
