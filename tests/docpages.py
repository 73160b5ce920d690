"""The Markdown pages of the repository: their links, headings and YAML blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of YAML: where it is, and what it says."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [document for document in yaml.safe_load_all(self.text) if document]


def yaml_blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for fence in _FENCE.finditer(text):
            if fence["kind"] == "yaml":
                yield Block(page, text.count("\n", 0, fence.start()) + 1, fence["text"])


def links(page: Path) -> list[str]:
    """Where a page's links lead, but for those to other sites; code holds no links."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    return [link["target"] for link in _LINK.finditer(text) if "://" not in link["target"]]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.finditer(_FENCE.sub("", page.read_text())):
        slug = re.sub(r"[^\w\- ]", "", heading["title"].lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found
