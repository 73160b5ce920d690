"""Who owns a path, by a CODEOWNERS file in the syntax of GitHub, GitLab or Gitea.

    GitHub   patterns as in .gitignore; the last one that fits counts
    GitLab   the same within each [section], and every section counts; what names no folder fits at any depth;
             ! takes paths out of their section
    Gitea    regular expressions over the whole path; every one that fits counts; ! turns its meaning round

A line that its forge would not understand is passed over, as the forges do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from dawg_orchestrator.resources.globs import glob_pattern

Forge = Literal["github", "gitlab", "gitea"]

PLACES: dict[Forge, tuple[str, ...]] = {  # in the order in which a forge looks for the file
    "github": (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"),
    "gitlab": ("CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS"),
    "gitea": ("CODEOWNERS", "docs/CODEOWNERS", ".gitea/CODEOWNERS"),
}
LARGEST = 3 * 2**20  # bytes, as on GitHub: a larger file counts as none
MOST_RULES = 2000
_LONGEST_LINE = 2048
_LONGEST_PATH = 512  # that an expression of Gitea's is tried on
_MOST_REPEATS = 2  # in such an expression: with more of them Python may search for ever, where Go does not
_OWNER = re.compile(r"@[\w.-]+(?:/[\w./-]+)?|@@[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+")
_SECTION = re.compile(r"\^?\[(?P<name>[^\]]+)\](?:\[\d+\])?(?P<owners>.*)")
_SAFE_EXPRESSION = re.compile(r"(?:\\[^\w\s]|\\[wd]|[\w/ .*+?^$@#:,~=<>!&%;'\"-]|\[[^\[\]\\]+\])*")


@dataclass(frozen=True, slots=True)
class _Rule:
    expressions: tuple[re.Pattern[str], ...]
    owners: tuple[str, ...]
    negated: bool = False

    def fits(self, path: str) -> bool:
        return any(expression.match(path) for expression in self.expressions)


@dataclass(slots=True)
class _Section:
    name: str
    owners: tuple[str, ...] = ()
    rules: list[_Rule] = field(default_factory=list)


@dataclass(frozen=True)
class Owners:
    """What a CODEOWNERS file says. ``passed_over``: the lines that were not understood, by their numbers."""

    forge: Forge
    sections: tuple[_Section, ...]
    passed_over: tuple[int, ...] = ()

    def of(self, path: str) -> dict[str, tuple[str, ...]]:
        """Owners by section; the section without a name is ''. Nobody's path has none."""
        found = {}
        for section in self.sections:
            owners = self._all(section, path) if self.forge == "gitea" else _last(section, path)
            if owners:
                found[section.name] = owners
        return found

    def _all(self, section: _Section, path: str) -> tuple[str, ...]:
        if len(path) > _LONGEST_PATH:
            return ()
        fitting = (rule.owners for rule in section.rules if rule.fits(path) != rule.negated)
        return tuple(dict.fromkeys(owner for owners in fitting for owner in owners))


def _last(section: _Section, path: str) -> tuple[str, ...]:
    if any(rule.negated and rule.fits(path) for rule in section.rules):
        return ()
    rules = (rule for rule in reversed(section.rules) if not rule.negated and rule.fits(path))
    return next((rule.owners for rule in rules), ())


def forge_of(place: str, text: str) -> Forge:
    """Whose syntax a file has, by where it is and what is in it."""
    if place.startswith((".github/", ".gitlab/", ".gitea/")):
        return place[1:].partition("/")[0]  # type: ignore[return-value]
    if any(_SECTION.fullmatch(line.strip()) and line.lstrip().startswith(("[", "^[")) for line in text.splitlines()):
        return "gitlab"
    return "gitea" if re.search(r"(?m)^!?\S*(?:\.\*|\.\+|\\\.)", text) else "github"


def read_owners(text: str, forge: Forge) -> Owners:
    """Read a file; one of more than LARGEST bytes says nothing, and neither does what follows MOST_RULES rules."""
    sections = {"": _Section("")}
    now, passed_over, rules = sections[""], [], 0
    lines = text.splitlines() if len(text.encode("utf-8", "replace")) <= LARGEST else []
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if forge == "gitlab" and (named := _SECTION.fullmatch(stripped)):
            name = named["name"].strip()
            now = sections.setdefault(name.lower(), _Section(name))
            now.owners = tuple(_OWNER.findall(named["owners"])) or now.owners
            continue
        rule = _rule(stripped, forge, now.owners) if len(line) <= _LONGEST_LINE and rules < MOST_RULES else None
        if rule is None:
            passed_over.append(number)
        else:
            now.rules.append(rule)
            rules += 1
    return Owners(forge, tuple(section for section in sections.values() if section.rules), tuple(passed_over))


def _rule(line: str, forge: Forge, defaults: tuple[str, ...]) -> _Rule | None:
    pattern, *rest = _words(line, comments=forge == "github")
    owners = tuple(word for word in rest if _OWNER.fullmatch(word))
    if len(owners) < len(rest) and forge == "github":
        return None  # GitHub skips a line with an owner that can be none
    negated = pattern.startswith("!") and forge != "github"
    pattern = pattern.removeprefix("!") if negated else pattern
    if not pattern or (forge == "github" and ("[" in pattern or pattern.startswith("!"))):
        return None
    if forge == "gitea":
        return _expression_rule(pattern, owners, negated=negated)
    globs = tuple(_globs(pattern, anywhere=forge == "gitlab" and not pattern.startswith("/")))
    return _Rule(tuple(glob_pattern(glob) for glob in globs), owners or defaults, negated)


def _words(line: str, *, comments: bool) -> list[str]:
    """A pattern and owners. ``\\ `` and ``\\#`` are themselves; what follows a # on GitHub is a comment."""
    words: list[str] = []
    for word in re.findall(r"(?:\\.|[^\s\\]|\\$)+", line):
        if comments and word.startswith("#"):
            break
        words.append(re.sub(r"\\([ #])", r"\1", word))
    return words or [""]


def _globs(pattern: str, *, anywhere: bool) -> Iterator[str]:
    """The pattern of a .gitignore as globs: a name fits a file or a folder, at any depth where it names no folder."""
    if pattern == "*":
        yield "**"
        return
    body = pattern.strip("/")
    rooted = not anywhere and (pattern.startswith("/") or "/" in body)
    start = "" if rooted or body.startswith("**/") else "**/"
    if not body:
        yield "**"
    elif body.endswith("/**") or body == "**":
        yield start + body
    elif pattern.endswith("/"):
        yield f"{start}{body}/**"
    else:
        yield start + body
        if body.rpartition("/")[2] != "*":
            yield f"{start}{body}/**"


def _expression_rule(pattern: str, owners: tuple[str, ...], *, negated: bool) -> _Rule | None:
    if not _SAFE_EXPRESSION.fullmatch(pattern) or len(re.findall(r"(?<!\\)[*+?]", pattern)) > _MOST_REPEATS:
        return None
    try:
        return _Rule((re.compile(f"(?:{pattern})\\Z", re.ASCII),), owners, negated)
    except re.error:
        return None
