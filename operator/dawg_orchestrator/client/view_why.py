"""The answer of `dawg why`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from dawg_orchestrator.client.terminal import one_line
from dawg_orchestrator.client.why import Explanation


def why_view(explanations: Sequence[Explanation]) -> RenderableType:
    """Reason, what happened, what would change it."""
    blocks: list[Text] = []
    for explanation in explanations:
        block = Text.assemble((one_line(explanation.reason), "bold"), ": ", one_line(explanation.message))
        if explanation.remedy:
            block.append(f"\n  → {one_line(explanation.remedy)}", style="cyan")
        blocks.append(block)
    return Group(*blocks)
