"""Levels of risk by paths: the Workflow's own rules, and the built-in ones by kinds of area.

    critical   AI features, backend services      high   API endpoints, integrations, what builds and delivers
    medium     user interface, all other code     low    documentation, tests

A Workflow's rule counts for every path that it names. The built-in ones do not make documentation or tests more than
low, wherever these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dawg_orchestrator.learning.changes import ChangedFile, is_documentation, is_test, shortened
from dawg_orchestrator.resources.globs import matches_any
from dawg_orchestrator.resources.workflow import RiskRule

Level = Literal["low", "medium", "high", "critical"]

LEVELS: tuple[Level, ...] = ("low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Area:
    """A kind of code, and how risky changes of it are when nobody has said otherwise."""

    name: str
    level: Level
    globs: tuple[str, ...] = ()


AREAS = (  # the gravest first: a path belongs to the first that fits
    Area("ai", "critical", (
        "**/ai/**", "**/ml/**", "**/llm/**", "**/llms/**", "**/prompts/**", "**/inference/**", "**/embeddings/**",
    )),
    Area("backend", "critical", (
        "**/backend/**", "**/server/**", "**/services/**", "**/service/**", "**/core/**", "**/migrations/**",
        "**/internal/**", "**/*.sql",
    )),
    Area("api", "high", (
        "**/api/**", "**/apis/**", "**/routes/**", "**/routers/**", "**/controllers/**", "**/endpoints/**",
        "**/handlers/**", "**/graphql/**", "**/*.proto", "**/openapi*", "**/*.graphql",
    )),
    Area("integrations", "high", (
        "**/integrations/**", "**/integration/**", "**/connectors/**", "**/adapters/**", "**/webhooks/**",
        "**/clients/**", "**/providers/**",
    )),
    Area("delivery", "high", (
        "**/Dockerfile*", ".github/workflows/**", ".gitea/workflows/**", ".gitlab-ci.yml", "**/Jenkinsfile",
        "**/charts/**", "**/deploy/**", "**/*.tf", "**/pyproject.toml", "**/requirements*.txt", "**/package.json",
        "**/package-lock.json", "**/yarn.lock", "**/pnpm-lock.yaml", "**/poetry.lock", "**/uv.lock", "**/go.mod",
        "**/go.sum", "**/Cargo.toml", "**/Cargo.lock", "**/pom.xml", ".gitmodules",
    )),
    Area("ui", "medium", (
        "**/ui/**", "**/frontend/**", "**/components/**", "**/views/**", "**/pages/**", "**/dashboard/**",
        "**/*.css", "**/*.scss", "**/*.tsx", "**/*.jsx", "**/*.vue", "**/*.svelte", "**/*.html",
    )),
)  # fmt: skip
DOCUMENTATION = Area("documentation", "low")
TESTS = Area("tests", "low")
DEPENDENCY = Area("delivery", "high")  # a submodule is code that comes from elsewhere
CODE = Area("code", "medium")


def is_graver(level: Level, than: Level) -> bool:
    """Whether the first level is graver than the second."""
    return LEVELS.index(level) > LEVELS.index(than)


def gravest(levels: Iterable[Level]) -> Level:
    """The gravest; low when there is none."""
    return max(levels, key=LEVELS.index, default="low")


def area_of(file: ChangedFile) -> Area:
    """The kind of area of a file; of one that was moved, the graver of where it was and where it is."""
    if file.kind == "submodule":
        return DEPENDENCY
    return max((_area_of_path(path) for path in file.paths), key=lambda area: LEVELS.index(area.level))


def _area_of_path(path: str) -> Area:
    if is_test(path):
        return TESTS
    if is_documentation(path):
        return DOCUMENTATION
    return next((area for area in AREAS if matches_any(area.globs, path)), CODE)


def level_of_rules(files: Sequence[ChangedFile], rules: Sequence[RiskRule]) -> tuple[Level, str]:
    """The level of the gravest rule that fits any file, and which one that is."""
    found: tuple[Level, str] = ("low", "nothing was changed")
    for file in files:
        for level, why in _levels(file, rules):
            if found[1] == "nothing was changed" or is_graver(level, found[0]):
                found = level, why
    return found


def _levels(file: ChangedFile, rules: Sequence[RiskRule]) -> Iterable[tuple[Level, str]]:
    area = area_of(file)
    yield area.level, f"{shortened(file.path)} is {area.name}"
    for number, rule in enumerate(rules):
        globs = [f"{glob}**" if glob.endswith("/") else glob for glob in rule.paths]
        if any(matches_any(globs, path) for path in file.paths):
            yield rule.level, f"{shortened(file.path)} fits spec.risk[{number}] of the Workflow"
