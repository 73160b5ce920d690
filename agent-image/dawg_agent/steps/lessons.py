"""What history has taught of a repository, asked of the api: a model of its commits, and what its tests did lately.

And the other way: what a commit is like, of which history will know how its tests ended.

Nothing depends on an answer: who gets none goes on with what it knows itself, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from dawg_agent.upload import Door, DoorClosed, DoorRefused, persist
from dawg_orchestrator.learning.commitfeatures import Features, written
from dawg_orchestrator.learning.commitrisk import RiskModel, restore
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import CommitFound, RiskAnswer, TestsAnswer, TestsQuestion

PATIENCE = 5.0  # seconds that the api may be away
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why there is no answer; the sentence ends in what would change it, if anything would."""

    why: str


class Lessons:
    """Questions to the api; none raises."""

    def __init__(self, door: Door, patience: float = PATIENCE) -> None:
        self._door = door
        self._patience = patience

    async def model(self, repository: str) -> RiskModel | Unknown:
        """The model of the repository's commits."""
        answer = await self._ask(RiskAnswer, "GET", "steps/risk", params={"repository": repository})
        if isinstance(answer, Unknown):
            return answer
        if answer.model is None:
            return Unknown(answer.why or "nothing is known of its commits")
        found = await asyncio.to_thread(restore, answer.model)
        return found or Unknown("api and agent are of two releases, and understand different models")

    async def tests(self, repository: str, tests: Sequence[str] = ()) -> TestsAnswer | Unknown:
        """What these test files did lately; without any, those tests that failed most."""
        question = TestsQuestion(repository=repository, tests=list(tests))
        return await self._ask(TestsAnswer, "POST", "steps/tests", json=question.wire())

    async def teach(self, repository: str, commit: str, features: Features) -> Unknown | None:
        """Have history note what a commit is like; why it could not, else None."""
        found = CommitFound(repository=repository, commit=commit, features=written(features))
        answer = await self._ask(Model, "PUT", "steps/commits", json=found.wire())
        return answer if isinstance(answer, Unknown) else None

    async def _ask(self, answer: type[M], method: str, path: str, **options: Any) -> M | Unknown:
        deadline = asyncio.get_running_loop().time() + self._patience
        try:
            said = await persist(lambda: self._door.exchange(method, path, **options), deadline)
            return answer.model_validate(said)
        except (DoorClosed, DoorRefused) as error:
            return Unknown(f"history could not be asked: {error}")
        except ValidationError:
            return Unknown("api and agent are of two releases, and do not understand each other")
