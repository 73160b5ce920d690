"""What history knows of a repository, for the steps that judge its commits; part of the uploads door.

The namespace is always the caller's own; of another's runs nothing is told.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from dawg_orchestrator.api.answers import bad_request
from dawg_orchestrator.api.auth import Clock
from dawg_orchestrator.api.bodies import read_body, read_model
from dawg_orchestrator.api.parameters import Token
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.learning.commitfeatures import read_written
from dawg_orchestrator.learning.repositories import repository_name
from dawg_orchestrator.learning.risksamples import too_few
from dawg_orchestrator.learning.testhistory import rate_of, records_of
from dawg_orchestrator.resources.protocol import CommitFound, RiskAnswer, TestRecord, TestsAnswer, TestsQuestion
from dawg_orchestrator.store.commits import Commits
from dawg_orchestrator.store.testrecords import TestRecords

_MAX_QUESTION = 4 * 2**20
_MAX_COMMIT = 16 * 1024
_FRESH_SECONDS = 60.0
_REPOSITORIES = 16  # whose tests are remembered
_MOST_FAILING = 100
Repository = Annotated[str, Query(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Recollection:
    """The records of tests, worked out at most once a minute, however many ask."""

    def __init__(self, records: TestRecords, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._one = asyncio.Lock()
        self._known: dict[tuple[str, str], tuple[float, list[TestRecord]]] = {}

    async def of(self, namespace: str, repository: str) -> list[TestRecord]:
        """All records of a repository."""
        async with self._one:
            now = self._clock()
            self._known = {key: kept for key, kept in self._known.items() if kept[0] > now}
            key = namespace, repository
            if key not in self._known:
                found = await self._records.of_repository(namespace, repository)
                while len(self._known) >= _REPOSITORIES:
                    del self._known[next(iter(self._known))]
                self._known[key] = self._clock() + _FRESH_SECONDS, found
            return self._known[key][1]


def add_risk_routes(app: FastAPI, services: Services) -> None:
    """The routes."""
    history = services.history
    recollection = Recollection(history.test_records, services.clock)

    @app.get("/v1/steps/risk")
    async def get_model(repository: Repository, authorization: Token = None) -> JSONResponse:
        namespace = await services.workloads.step_agent(authorization)
        name = repository_name(repository)
        kept = await history.risk_models.read(namespace, name)
        if kept.model is not None:
            answer = RiskAnswer(version=kept.version, model=json.loads(kept.model), why=kept.why)
        else:
            answer = RiskAnswer(version=kept.version, why=kept.why or await why_none(history.commits, namespace, name))
        return JSONResponse(answer.wire())

    @app.put("/v1/steps/commits")
    async def put_commit(request: Request, authorization: Token = None) -> Response:
        namespace = await services.workloads.step_agent(authorization)
        found = read_model(CommitFound, await read_body(request, _MAX_COMMIT))
        features = read_written(found.features)
        if features is None:
            raise bad_request("features: not those of a commit", "send what learning.commitfeatures.written gives")
        name = repository_name(found.repository)
        await history.commits.note(namespace, name, found.commit, features, now())
        return Response(status_code=204)

    @app.post("/v1/steps/tests")
    async def post_question(request: Request, authorization: Token = None) -> JSONResponse:
        namespace = await services.workloads.step_agent(authorization)
        question = read_model(TestsQuestion, await read_body(request, _MAX_QUESTION))
        records = await recollection.of(namespace, repository_name(question.repository))
        answer = await asyncio.to_thread(answered, question, records)
        return JSONResponse(answer.wire())


def answered(question: TestsQuestion, records: list[TestRecord]) -> TestsAnswer:
    """What is asked for, found among all records."""
    if question.tests:
        return TestsAnswer(tests=records_of(question.tests, records))
    failing = sorted((one for one in records if one.failures), key=lambda one: (-rate_of(one), one.place))
    return TestsAnswer(failing=failing[:_MOST_FAILING])


async def why_none(commits: Commits, namespace: str, repository: str) -> str:
    """Why nothing was fitted yet."""
    return too_few(await commits.samples(namespace, repository)) or "there is enough to learn from; it is fitted soon"
