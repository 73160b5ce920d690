"""What a language model says of a commit. It may raise the level of risk or comment on it, and never lower it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, Field

from dawg_agent.commitfacts import plain
from dawg_agent.llm import Llm, LlmUnavailable, Question, ask
from dawg_orchestrator.learning.changes import CommitFacts
from dawg_orchestrator.learning.impact import Impact, Source
from dawg_orchestrator.learning.riskrules import Level, is_graver

_MOST_FILES = 100
_TASK = (
    "You judge how risky a commit is before its tests have run. Say the level of risk (low, medium, high, critical) and"
    " in at most two plain sentences why: what could break, and for whom."
)


class Opinion(BaseModel):
    """What a model is asked for."""

    level: Level
    comment: str = Field(max_length=1000)


@dataclass(frozen=True)
class Judged:
    """The level with its source, and what to say of the model: its comment, or why there is none."""

    level: Level
    source: Source
    told: str


async def second_opinion(llm: Llm, facts: CommitFacts, impact: Impact, tokens: int, patience: timedelta) -> Judged:
    """Ask; whatever goes wrong leaves the level as it is."""
    files = "\n".join(
        f"{file.status} {plain(file.path)} +{file.added if file.added is not None else '?'}"
        f" -{file.deleted if file.deleted is not None else '?'}"
        for file in facts.files[:_MOST_FILES]
    )
    question = Question(
        _TASK,
        {"what is known": "\n".join(impact.reasons), "message": facts.message, "files": files, "diff": facts.diff},
    )
    try:
        opinion = await ask(llm, question, Opinion, tokens, patience)
    except LlmUnavailable as error:
        return Judged(impact.level, impact.source, f"llm: {error}")
    comment = " ".join(plain(opinion.comment).split())[:400]
    if is_graver(opinion.level, impact.level):
        return Judged(opinion.level, "llm", f"llm: {opinion.level}: {comment}")
    return Judged(impact.level, impact.source, f"llm: {comment}")
