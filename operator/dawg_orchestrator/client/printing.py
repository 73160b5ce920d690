"""The answer itself, on stdout: a view for people or JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType


def print_view(view: RenderableType) -> None:
    """Print for people; a pipe gets whole lines, never folded at 80 columns."""
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=500, highlight=False)
        with console.capture() as capture:
            console.print(view)
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))
        return
    console.print(view, highlight=False)


def print_json(answer: Any) -> None:
    """Print for programs."""
    print(json.dumps(answer, indent=2, ensure_ascii=True))


def print_line(text: str) -> None:
    """One line, at once."""
    print(text, file=sys.stdout, flush=True)
