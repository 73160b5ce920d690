"""What a CEL expression over tasks and parameters speaks of, told from its text alone."""

from __future__ import annotations

import re
from functools import lru_cache

_ANY = re.compile(r"\btasks\b")
_NAMED = re.compile(
    r"""\btasks\s*(?:\.\s*(?P<dotted>[A-Za-z_]\w*)(?!\w*\s*\()|\[\s*(['"])(?P<quoted>[^'"\\]*)\2\s*\])"""
)


@lru_cache(maxsize=4096)  # a run of 1,000 tasks has as many, looked at in turn
def named_tasks(expression: str) -> frozenset[str] | None:
    """The tasks that a condition names, so that it need not be shown all; None when it may look at any."""
    named = {found["dotted"] or found["quoted"] for found in _NAMED.finditer(expression)}
    return frozenset(named) if len(_NAMED.findall(expression)) == len(_ANY.findall(expression)) else None
