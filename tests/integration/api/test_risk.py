"""What history teaches of commits: recorded through the api's doors, fitted beside it, asked for by the real steps."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from apiserver_double import ApiserverDouble, a_task
from benchmarks.commits import generated
from dawg_agent.histories import Histories
from dawg_agent.step import Bench, StepAttempt
from dawg_agent.steps.addresses import Addresses
from dawg_agent.steps.kept import Kept
from dawg_agent.steps.lessons import Lessons
from dawg_agent.steps.table import CARRY_OUT
from dawg_agent.upload import Door
from dawg_orchestrator.api.risk import Recollection
from dawg_orchestrator.api.services import Services
from dawg_orchestrator.api.training import Training
from dawg_orchestrator.api.uploads import uploads_app
from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.learning.commitfeatures import Features, written
from dawg_orchestrator.learning.commitrisk import RiskModel, probability, restore
from dawg_orchestrator.learning.repositories import repository_name
from dawg_orchestrator.learning.risksamples import Sample
from dawg_orchestrator.resources.protocol import AttemptRef, Held, LeaseId, StepOrder
from dawg_orchestrator.resources.results import FullReport, Outcome, TaskResult, TestCase
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.testrun import record_of
from integration.agent.gitserver import serve
from repositories import new_repository

URL = "https://git.example/org/shop.git"
NAME = "git.example/org/shop"
USUAL = Features(1, 1, 1, 0, la=10, ld=2, lt=100, fix=0, ndev=2, age=3, nuc=4, exp=50, rexp=5, sexp=20)
LARGE = USUAL._replace(la=900, nf=9, nd=4, exp=1, rexp=1, sexp=1, ndev=7)
BEGAN = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return replace(settings, namespaces=("team", "other"))


@pytest.fixture
def on_each_database(settings: ApiSettings, database_url: str) -> ApiSettings:
    return replace(settings, database_url=database_url)


def commit_of(number: int) -> str:
    return f"{number:040x}"


def a_run(
    name: str, number: int, workflow: str, tasks: list[dict[str, Any]], verdict: str, **status: Any
) -> dict[str, Any]:
    """A finished run of a Workflow on the commit of this number, which is a minute younger than the one before."""
    created = (BEGAN + timedelta(minutes=number)).isoformat()
    entries = [{"name": task["name"], "index": at, "attempt": 1, "verdict": verdict} for at, task in enumerate(tasks)]
    return {
        "metadata": {"name": name, "namespace": "team", "uid": f"{name}-uid", "resourceVersion": "1",
                     "creationTimestamp": created},
        "spec": {"workflowRef": {"name": workflow}, "tasks": tasks, "source": {"git": {"url": URL}}},
        "status": {"verdict": verdict, "source": {"commit": commit_of(number)}, "completionTime": created,
                   "tasks": entries, **status},
    }  # fmt: skip


def a_push(number: int, verdict: str = "Passed") -> dict[str, Any]:
    """The run that a push starts: it analyses the commit and starts its tests. Its end leaves no outputs."""
    tasks = [
        {"name": "look", "uses": "analyze-changes"},
        {"name": "tests", "uses": "run-tests", "with": {"suites": ["all"]}},
    ]
    return a_run(f"push-{number}", number, "pre-release", tasks, verdict)


async def analysed(history: History, number: int, features: Features, repository: str = NAME) -> None:
    """What the analysis of a commit tells history."""
    seen = BEGAN + timedelta(minutes=number)
    await history.commits.note("team", repository, commit_of(number), features, seen)


def some_tests(number: int, *, failed: bool, workflow: str = "unit-suite") -> dict[str, Any]:
    tasks = [{"name": "unit", "run": "pytest", "image": "python"}]
    return a_run(f"{workflow}-{number}", number, workflow, tasks, "Failed" if failed else "Passed")


def a_report(number: int, *, failed: bool, test: str | None = None) -> FullReport:
    """Of two files; what fails is another test at each commit, for else it would have been broken before."""
    outcome = Outcome.FAILED if failed else Outcome.PASSED
    return FullReport(
        cases=[
            TestCase(file="tests/test_cart.py", name=test or f"test_{number}", outcome=outcome, duration=2),
            TestCase(classname="tests.test_pay.TestPay", name="test_it", outcome=Outcome.PASSED, duration=5),
        ]
    )  # fmt: skip


async def bring_report(uploads: httpx.AsyncClient, apiserver: ApiserverDouble, run: str, report: FullReport) -> None:
    """As the sidecar of the run's task does."""
    apiserver.testrun(run)
    headers = apiserver.task_pod(run, 0)
    answer = await uploads.put(
        f"/v1/uploads/{run}-uid/0/1/report", content=report.model_dump_json(by_alias=True), headers=headers
    )
    assert answer.status_code < 300, answer.text


async def live_through(
    samples: Sequence[Sample], services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    """A commit for each sample: pushed, analysed, tested, recorded."""
    records = []
    for number, sample in enumerate(samples):
        tests = some_tests(number, failed=sample.failed)
        if sample.failed or number % 20 == 0:
            await bring_report(uploads, apiserver, tests["metadata"]["name"], a_report(number, failed=sample.failed))
        await analysed(services.history, number, sample.features)
        records += [record_of(a_push(number, "Failed" if sample.failed else "Passed")), record_of(tests)]
    await services.history.runs.record(records)


@asynccontextmanager
async def an_agent(services: Services, apiserver: ApiserverDouble, folder: Path) -> AsyncIterator[Bench]:
    """What steps of a Builtin pool's agent share, with a door that leads to the api over HTTP."""
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(uploads_app(services), lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    token = folder / "token"
    token.write_text(apiserver.step_agent()["Authorization"].removeprefix("Bearer "))
    try:
        async with Door(f"http://127.0.0.1:{bound.getsockname()[1]}", token, token) as door:
            yield Bench(
                CARRY_OUT, Addresses({}), Kept(door), kube=None,  # type: ignore[arg-type]
                histories=Histories(folder / "histories"), lessons=Lessons(door, patience=1.0),
            )  # fmt: skip
    finally:
        server.should_exit = True
        await serving
        bound.close()


async def carried_out(bench: Bench, uses: str, git: dict[str, str], inputs: dict[str, Any]) -> TaskResult:
    """A step of the run ``push-n`` that did not fail."""
    ref = AttemptRef(namespace="team", run="push-n", run_uid="push-n-uid", index=1, attempt=1)
    order = StepOrder(uses=uses, inputs=inputs, git=git)  # type: ignore[arg-type]
    result = await StepAttempt(Held(lease=LeaseId(term=1, number=1), attempt=ref), "step", order, bench, ignore).watch()
    assert result.exit_code == 0, result.message
    return result


def ignore(_: object) -> None:
    """Nobody listens to the step's progress."""


async def predict(bench: Bench, features: Features | None, url: str = URL, **inputs: Any) -> TaskResult:
    analysis = {"level": "low", "source": "rules", "tests": '["tests/test_cart.py","tests/test_pay.py"]',
                "features": written(features) if features is not None else ""}  # fmt: skip
    return await carried_out(bench, "predict-risks", {"url": url}, {"analysis": analysis, **inputs})


def outputs(result: TaskResult) -> dict[str, str]:
    assert result.summary is not None
    return result.summary.outputs


@pytest.fixture
def samples() -> list[Sample]:
    return list(generated()[0].samples[:600])


class TestOnEachDatabase:
    @pytest.fixture
    def settings(self, on_each_database: ApiSettings) -> ApiSettings:
        return on_each_database

    async def test_six_hundred_commits_teach_a_model_that_says_how_likely_a_push_is_to_fail(
        self, samples: list[Sample], services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        await live_through(samples, services, uploads, apiserver)
        await Training(services.history, ["team"]).look_after_all()

        async with an_agent(services, apiserver, tmp_path) as bench:
            usual, large, again = [await predict(bench, features) for features in (USUAL, LARGE, LARGE)]
            given = await predict(bench, LARGE, probability=0.01)
            elsewhere = await predict(bench, LARGE, url="git@git.example:org/shop")
            another = await predict(bench, LARGE, url="https://git.example/org/other.git")

        learnt = await services.history.commits.samples("team", NAME)
        assert [one.failed for one in learnt] == [one.failed for one in samples]
        assert float(outputs(large)["probability"]) > float(outputs(usual)["probability"])
        assert (outputs(large)["level"], outputs(large)["source"]) != ("low", "rules")
        assert outputs(large)["source"] == "model"
        assert outputs(again) == outputs(large)
        assert "a model of 600 commits (AUC 0." in large.message
        assert "lines added" in large.message
        assert (outputs(given)["probability"], outputs(given)["level"]) == ("0.010", "low")
        assert outputs(elsewhere)["probability"] == outputs(large)["probability"]
        assert (outputs(another)["probability"], outputs(another)["level"]) == ("", "low")
        assert "0 commits with a verdict are known, and 500 are needed" in another.message

    async def test_what_tests_did_lately_says_where_they_run_how_long_and_what_failed(
        self, services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, tmp_path: Path
    ) -> None:
        for number in range(6):
            for workflow in ("unit-suite", "nightly"):
                failed = workflow == "nightly" and number == 3
                run = some_tests(number, failed=failed, workflow=workflow)
                await bring_report(uploads, apiserver, run["metadata"]["name"], a_report(number, failed=failed))
                await services.history.runs.record([record_of(run)])

        async with an_agent(services, apiserver, tmp_path) as bench:
            found = await predict(bench, None)
            own = await predict(bench, None, durations={"tests/test_cart.py": 100})
            nobody = await predict(bench, None, url="https://git.example/org/other.git")

        assert json.loads(outputs(found)["suites"]) == ["nightly", "unit-suite"]
        assert outputs(found)["durationSeconds"] == "7.0"
        assert "1 of 2 tests failed lately: tests/test_cart.py (1 of 12 runs)" in found.message
        assert outputs(own)["durationSeconds"] == "105.0"
        assert (outputs(nobody)["suites"], outputs(nobody)["durationSeconds"]) == ("[]", "")

    async def test_an_outcome_is_the_commits_own_only_if_nothing_else_explains_it(
        self, services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
    ) -> None:
        story = [("test_a", True), ("test_a", True), ("test_b", True), (None, False)]
        for number, (test, failed) in enumerate(story):
            run = some_tests(number, failed=failed)
            await bring_report(uploads, apiserver, run["metadata"]["name"], a_report(number, failed=failed, test=test))
            await analysed(services.history, number, USUAL)
            await services.history.runs.record([record_of(a_push(number)), record_of(run)])
        again = some_tests(2, failed=False)
        again["metadata"] |= {"name": "again", "uid": "again-uid"}
        patched = some_tests(3, failed=True, workflow="nightly")
        patched["metadata"] |= {"name": "patched", "uid": "patched-uid"}
        patched["spec"]["source"]["patchRef"] = f"sha256:{'0' * 64}"
        await services.history.runs.record([record_of(again), record_of(patched)])

        await Training(services.history, ["team"]).look_after_all()

        learnt = await services.history.commits.samples("team", NAME)
        assert [one.failed for one in learnt] == [True, False, False, False]  # broke it; found it so; flaky; passed

    async def test_one_replica_at_a_time_looks_after_a_repository(self, services: Services) -> None:
        models, now = services.history.risk_models, datetime.now(UTC)
        later = now + timedelta(minutes=15)

        claims = await asyncio.gather(*(models.claim("team", NAME, now, later) for _ in range(8)))
        in_time = await models.claim("team", NAME, now + timedelta(minutes=14), later)
        after_it = await models.claim("team", NAME, later, later + timedelta(minutes=15))

        assert sorted(claims) == [False] * 7 + [True]
        assert (in_time, after_it) == (False, True)

    async def test_samples_outlive_their_runs_and_models_end_with_their_samples(
        self, services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
    ) -> None:
        history = services.history
        await live_through([Sample(USUAL, failed=False)] * 3, services, uploads, apiserver)
        await Training(history, ["team"]).look_after_all()
        forgotten = await history.retention.forget(datetime.now(UTC), alive=())

        assert forgotten == 6
        assert len(await history.commits.samples("team", NAME)) == 3
        assert await history.risk_models.forget() == 0
        assert await history.commits.forget(datetime.now(UTC)) == 3
        assert await history.risk_models.forget() == 1


async def test_after_ten_commits_one_is_told_how_many_are_missing(
    samples: list[Sample], services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, tmp_path: Path
) -> None:
    await live_through(samples[:10], services, uploads, apiserver)
    await Training(services.history, ["team"]).look_after_all()

    async with an_agent(services, apiserver, tmp_path) as bench:
        result = await predict(bench, LARGE)

    assert (outputs(result)["probability"], outputs(result)["level"], outputs(result)["source"]) == ("", "low", "rules")
    assert "there is no model: 10 commits with a verdict are known, and 500 are needed" in result.message


async def test_without_history_a_prediction_is_that_of_rules(
    services: Services, apiserver: ApiserverDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> str:
        raise StoreError("the database is away")

    monkeypatch.setattr(type(services.history.risk_models), "read", gone)
    monkeypatch.setattr(type(services.history.test_records), "of_repository", gone)

    async with an_agent(services, apiserver, tmp_path) as bench:
        result = await predict(bench, LARGE)

    assert (outputs(result)["level"], outputs(result)["source"], outputs(result)["suites"]) == ("low", "rules", "[]")
    assert "history could not be asked" in result.message


async def test_a_model_of_another_release_is_not_used(
    samples: list[Sample], services: Services, apiserver: ApiserverDouble, tmp_path: Path
) -> None:
    models, now = services.history.risk_models, datetime.now(UTC)
    await models.claim("team", NAME, now, now)
    kept = await models.read("team", NAME)
    await models.keep("team", NAME, replace(kept, version=1, model='{"version": 99}'), now)

    async with an_agent(services, apiserver, tmp_path) as bench:
        result = await predict(bench, LARGE)

    assert outputs(result)["probability"] == ""
    assert "of two releases" in result.message


async def test_an_analysis_puts_what_failed_lately_first_and_its_numbers_become_a_sample(
    services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, tmp_path: Path
) -> None:
    repository = new_repository(tmp_path)
    imports = {f"tests/test_{name}.py": "import shop.cart\n" for name in "abc"}
    repository.commit({"shop/__init__.py": "", "shop/cart.py": "x = 1\n", **imports})
    commit = repository.commit({"shop/cart.py": "x = 1\ny = 2\n"}, "Fix the sum")
    repository.push()
    async with serve(repository.bare.parent) as server, an_agent(services, apiserver, tmp_path) as bench:
        url = f"{server.url}/shop.git"
        for number in range(4):
            run = some_tests(number, failed=number > 1)
            run["spec"]["source"]["git"]["url"] = url
            case = TestCase(
                classname="tests.test_c", name="test", outcome=Outcome.FAILED if number > 1 else Outcome.PASSED
            )
            await bring_report(uploads, apiserver, run["metadata"]["name"], FullReport(cases=[case]))
            await services.history.runs.record([record_of(run)])

        analysis = await carried_out(bench, "analyze-changes", {"url": url, "revision": commit}, {"llm": False})

    push, tests = a_push(9), some_tests(9, failed=False)
    for run in (push, tests):
        run["spec"]["source"]["git"]["url"] = url
        run["status"]["source"]["commit"] = commit
    await services.history.runs.record([record_of(push), record_of(tests)])
    await Training(services.history, ["team"]).look_after_all()
    (sample,) = await services.history.commits.samples("team", repository_name(url))

    assert json.loads(outputs(analysis)["tests"]) == [f"tests/test_{name}.py" for name in "cab"]
    assert "1 of 3 tests to run first failed lately: tests/test_c.py" in analysis.message
    assert (sample.features.nf, sample.features.la, sample.features.lt, sample.features.fix) == (1, 1, 1, 1)
    assert sample.failed is False


# The process that fits

ENOUGH = [Sample(USUAL._replace(la=float(number % 40)), failed=number % 40 > 30) for number in range(520)]


async def know(history: History, samples: Sequence[Sample], repository: str = URL) -> None:
    """Commits whose outcomes are to be found out, without reports."""
    records = []
    for number, sample in enumerate(samples):
        await analysed(history, number, sample.features, repository_name(repository))
        runs = a_push(number), some_tests(number, failed=sample.failed)
        for run in runs:
            run["spec"]["source"]["git"]["url"] = repository
            run["metadata"]["uid"] += repository[-12:]
        if sample.failed:  # each fails in another task, so that none was broken before
            runs[1]["spec"]["tasks"][0]["name"] = runs[1]["status"]["tasks"][0]["name"] = f"unit-{number}"
        records += [record_of(run) for run in runs]
    await history.runs.record(records)


@pytest.mark.parametrize(
    ("process", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)", "it was killed"),
        ("raise MemoryError('no room')", "MemoryError: no room"),
        ("print('nonsense')", "nothing that can be read"),
        ("print('[]')", "nothing that can be read"),
        ("import time; time.sleep(600)", "it took longer than 1 s"),
    ],
    ids=["killed", "no memory", "nonsense", "no object", "hangs"],
)
async def test_a_fit_that_ends_badly_harms_nobody_and_is_tried_again_later(
    process: str, why: str, services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    history = services.history
    await know(history, ENOUGH)
    before = replace(await history.risk_models.read("team", NAME), version=1, model='{"version": 99}')
    await history.risk_models.claim("team", NAME, BEGAN, BEGAN)
    await history.risk_models.keep("team", NAME, before, BEGAN)
    training = Training(history, ["team"], longest_fit=timedelta(seconds=1), command=(sys.executable, "-c", process))

    await training.look_after_all()

    kept = await history.risk_models.read("team", NAME)
    assert (kept.model, kept.version, kept.fitted_to) == (before.model, 1, 0)  # the old one stays
    assert why in kept.why
    assert "tried again in 6 hours" in kept.why
    assert await history.risk_models.due([("team", NAME)], datetime.now(UTC) + timedelta(hours=5)) == []
    assert await history.risk_models.due([("team", NAME)], datetime.now(UTC) + timedelta(hours=7)) == [("team", NAME)]
    answer = await uploads.get("/v1/steps/risk", params={"repository": URL}, headers=apiserver.step_agent())
    assert answer.status_code == 200


def first_words(note: Path) -> int:
    """The number that a process writes when it has begun."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if note.exists() and (said := note.read_text()).endswith("."):
            return int(said[:-1])
        time.sleep(0.05)
    raise AssertionError("the process has not begun")


async def test_the_doors_answer_while_a_model_is_fitted_and_a_stop_ends_the_fit(
    services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    process = f"import os, time; open({str(note)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(600)"
    await know(services.history, ENOUGH)
    running = asyncio.create_task(Training(services.history, ["team"], command=(sys.executable, "-c", process)).run())
    pid = await asyncio.to_thread(first_words, note)

    answer = await uploads.get("/v1/steps/risk", params={"repository": URL}, headers=apiserver.step_agent())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert "it is fitted soon" in answer.json()["why"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert await services.history.risk_models.due([("team", NAME)], datetime.now(UTC)) == [("team", NAME)]


async def test_the_process_has_none_of_the_apis_secrets_and_stands_back(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "seen"
    monkeypatch.setenv("DAWG_DATABASE_URL", "postgresql://u:hidden@host/d")
    process = f"import os; open({str(note)!r}, 'w').write(repr(dict(os.environ)))"
    await know(services.history, ENOUGH)

    await Training(services.history, ["team"], command=(sys.executable, "-c", process)).look_after_all()

    seen = note.read_text()
    assert "hidden" not in seen
    assert "'OMP_NUM_THREADS': '1'" in seen


async def test_nothing_is_fitted_anew_before_enough_has_come(services: Services, tmp_path: Path) -> None:
    count = tmp_path / "fits"
    process = f"open({str(count)!r}, 'a').write('x'); print('{{\"why\": \"no reason\"}}')"
    history, training = services.history, Training(services.history, ["team"], command=(sys.executable, "-c", process))
    await know(history, ENOUGH)

    for _ in range(3):
        await history.risk_models.claim("team", NAME, datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC))
        await training.look_after_all()

    assert count.read_text() == "x"
    kept = await history.risk_models.read("team", NAME)
    assert (kept.why, kept.version, kept.fitted_to) == ("no reason", 1, len(ENOUGH))


async def test_a_repository_that_cannot_be_looked_after_keeps_nobody_waiting(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = "https://git.example/org/zoo.git"
    await know(services.history, ENOUGH[:5])
    await know(services.history, ENOUGH[:5], others)
    real = services.history.commits.outcomes

    async def broken(namespace: str, repository: str, since: datetime) -> Any:
        if repository == NAME:
            raise ValueError("nobody thought of that")
        return await real(namespace, repository, since)

    monkeypatch.setattr(type(services.history.commits), "outcomes", staticmethod(broken))
    await Training(services.history, ["team"]).look_after_all()

    assert await services.history.commits.labelled("team", "git.example/org/zoo") == 5


def test_the_api_and_the_controller_start_without_the_library_that_fits() -> None:
    program = (
        "import sys, dawg_orchestrator.api.serve, dawg_orchestrator.controller.serve\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'sklearn', 'numpy', 'scipy', 'joblib'}))"
    )
    environment = os.environ | {"PYTHONPATH": "operator"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)

    assert done.stdout.strip() == "[]"


# Who may ask


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/steps/risk?repository=https://git.example/a"), ("POST", "/v1/steps/tests")]
)
async def test_only_agents_of_builtin_pools_are_answered(
    method: str, path: str, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    apiserver.testrun("run", a_task("unit"))
    strangers = {"sidecar": apiserver.task_pod("run", 0), "agent": apiserver.agent_pod("agent"),
                 "controller": apiserver.controller()}  # fmt: skip
    for name, headers in strangers.items():
        answer = await uploads.request(method, path, json={"repository": URL}, headers=headers)
        assert answer.status_code == 403, name
    assert (await uploads.request(method, path, json={"repository": URL})).status_code == 401


async def test_a_namespace_learns_nothing_of_another(
    services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    run = some_tests(1, failed=True)
    await bring_report(uploads, apiserver, run["metadata"]["name"], a_report(1, failed=True))
    await analysed(services.history, 1, USUAL)
    await services.history.runs.record([record_of(a_push(1)), record_of(run)])
    await Training(services.history, ["team", "other"]).look_after_all()
    mine, theirs = apiserver.step_agent(), apiserver.step_agent(namespace="other")

    for headers, known, commits in ((mine, 1, "1 commits"), (theirs, 0, "0 commits")):
        tests = await uploads.post("/v1/steps/tests", json={"repository": URL}, headers=headers)
        model = await uploads.get("/v1/steps/risk", params={"repository": URL}, headers=headers)
        assert len(tests.json()["failing"]) == known
        assert model.json()["why"].startswith(commits)


@pytest.mark.parametrize(
    "body", ["nonsense", "{}", '{"repository": ""}', json.dumps({"repository": URL, "tests": ["x"] * 201})]
)
async def test_a_question_that_is_none_is_refused_with_a_remedy(
    body: str, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    answer = await uploads.post("/v1/steps/tests", content=body, headers=apiserver.step_agent())

    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "remedy"}


@pytest.mark.parametrize(
    "wrong", [{"features": "[1]"}, {"features": "x"}, {"commit": "main"}, {"repository": ""}, {"features": "9" * 300}]
)
async def test_a_commit_that_is_none_is_refused_and_taught_nobody(
    wrong: dict[str, str], services: Services, uploads: httpx.AsyncClient, apiserver: ApiserverDouble
) -> None:
    body = {"repository": URL, "commit": commit_of(1), "features": written(USUAL), **wrong}

    answer = await uploads.put("/v1/steps/commits", json=body, headers=apiserver.step_agent())
    stranger = await uploads.put("/v1/steps/commits", json=body)

    assert (answer.status_code, set(answer.json())) == (400, {"error", "remedy"})
    assert stranger.status_code == 401
    assert await services.history.commits.repositories(["team"]) == []


async def test_many_who_ask_at_once_cause_one_look_into_history(services: Services) -> None:
    looks = 0

    class Counting:
        async def of_repository(self, namespace: str, repository: str) -> list[Any]:
            nonlocal looks
            looks += 1
            await asyncio.sleep(0)
            return []

    clock = 0.0
    recollection = Recollection(Counting(), lambda: clock)  # type: ignore[arg-type]

    await asyncio.gather(*(recollection.of("team", NAME) for _ in range(5)))
    clock = 59.0
    await recollection.of("team", NAME)
    assert looks == 1
    clock = 61.0
    await recollection.of("team", NAME)
    assert looks == 2


def test_what_is_sent_is_what_was_fitted(samples: list[Sample]) -> None:
    from dawg_orchestrator.api.fitter import fitted

    asked = {"trainedAt": "2026-01-01T12:00:00Z", "samples": [[list(one.features), one.failed] for one in samples]}

    model = restore(json.loads(json.dumps(fitted(json.loads(json.dumps(asked)))))["model"])

    assert isinstance(model, RiskModel)
    assert model.card is not None
    assert (model.card.commits, model.card.trained_at) == (len(samples), datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert 0 < probability(model, LARGE) < 1
