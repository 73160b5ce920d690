"""What a CEL expression over tasks and parameters speaks of, told from its text alone."""

from __future__ import annotations

import re

_ANY = re.compile(r"\btasks\b")
_NAMED = re.compile(
    r"""\btasks\s*(?:\.\s*(?P<dotted>[A-Za-z_]\w*)(?!\w*\s*\()|\[\s*(['"])(?P<quoted>[^'"\\]*)\2\s*\])"""
)


def named_tasks(expression: str) -> frozenset[str] | None:
    """The tasks that a condition names, so that it need not be shown all; None when it may look at any."""
    named = {found["dotted"] or found["quoted"] for found in _NAMED.finditer(expression)}
    return frozenset(named) if len(_NAMED.findall(expression)) == len(_ANY.findall(expression)) else None
