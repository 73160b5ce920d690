"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars and line ends in cells are taken care of."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def with_code(text: str) -> str:
    """A command at the end of a sentence, after a colon, set as code, so that it can be copied."""
    return re.sub(r": ((?:dawg|kubectl) [^;`]+?)(?=;|\.?$)", r": `\1`", text)
