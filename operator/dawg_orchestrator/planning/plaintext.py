"""Text that agents have sent, as it may stand on status and be shown to people."""

from __future__ import annotations


def plain(text: str) -> str:
    """Without what moves a terminal's cursor, turns the direction of writing, or is no character."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
