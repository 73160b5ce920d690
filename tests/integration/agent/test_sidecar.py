"""A sidecar as its pod starts it: a process with a volume, a git server and an uploads door."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dawg_agent.events import read_event
from dawg_agent.volume import Volume
from dawg_orchestrator.resources.protocol import AttemptRef, InputFile, SidecarOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import SidecarEvent
from dawg_orchestrator.resources.task import Results
from dawg_orchestrator.resources.testrun import GitSource
from integration.agent.gitserver import serve
from integration.agent.uploads import TOKEN, Uploads, serve_uploads
from repositories import Repository, new_repository

SOURCE_ROOTS = [Path(__file__).parents[3] / name for name in ("operator", "agent-image")]
REPORT = (
    '<testsuite name="s"><testcase name="good"/><testcase name="bad"><failure message="no"/></testcase></testsuite>'
)
PATIENCE = 20.0


@pytest.fixture
async def uploads() -> AsyncIterator[Uploads]:
    async with serve_uploads() as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return new_repository(tmp_path)


@pytest.fixture
async def source(repository: Repository) -> AsyncIterator[GitSource]:
    async with serve(repository.bare.parent) as server:
        yield GitSource(url=f"{server.url}/shop.git", revision="main", sub_path="sub")


def an_order(uploads: Uploads, index: int = 0, **more: Any) -> SidecarOrder:
    attempt = AttemptRef(namespace="shop", run="checkout-x", run_uid="run-1", index=index, attempt=1)
    return SidecarOrder(attempt=attempt, key="unit", api_url=uploads.url, **more)


async def appears(path: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)


@dataclass
class Running:
    """A sidecar at work."""

    process: asyncio.subprocess.Process
    volume: Volume

    async def event(self) -> SidecarEvent:
        """The next event it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self.process.stdout.readline():
                if event := read_event(line):
                    return event
        raise AssertionError(f"the sidecar ended with {await self.process.wait()} and said no more")

    async def ready(self) -> None:
        """Wait as the entry script does."""
        await appears(self.volume.ready)

    def exit(self, code: int) -> None:
        """What the entry script does when the test has ended."""
        self.volume.mark(self.volume.exit, f"{code}\n")

    async def stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def a_sidecar(
    tmp_path: Path, order: SidecarOrder, role: str = "sidecar", grace: str = "20s"
) -> AsyncIterator[Running]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    volume = Volume(tmp_path / f"dawg-{order.attempt.index}", order.git.sub_path if order.git else None)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*map(str, SOURCE_ROOTS), os.environ.get("PYTHONPATH", "")]),
        "DAWG_ORDER": order.model_dump_json(by_alias=True, exclude_none=True),
        "DAWG_DIR": str(volume.root),
        "DAWG_API_TOKEN_FILE": str(token),
        "DAWG_GRACE": grace,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dawg_agent", role), env=environment, stdout=asyncio.subprocess.PIPE, limit=2**22
    )
    try:
        yield Running(process, volume)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def put(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_from_source_to_stored_report(
    tmp_path: Path, uploads: Uploads, source: GitSource, repository: Repository
) -> None:
    results = Results(junit=["out/*.xml"], artifacts=["*.png"], coverage=["coverage.xml"])
    order = an_order(uploads, git=source, results=results, outputs=["version"], hand_on=["dist"])
    async with a_sidecar(tmp_path, order) as sidecar:
        assert await sidecar.event() == SidecarEvent(event="source", commit=repository.commits[2])
        await sidecar.ready()
        assert (sidecar.volume.working_dir / "b.txt").read_text() == "deep"
        assert (sidecar.volume.control / "commit").read_text() == repository.commits[2]
        await asyncio.sleep(0.02)
        put(sidecar.volume.working_dir, "out/junit.xml", REPORT)
        put(sidecar.volume.working_dir, "dist/app.js", "code")
        put(sidecar.volume.results, "screen.png", "picture")
        put(sidecar.volume.results, "coverage.xml", "<coverage/>")
        put(sidecar.volume.outputs, "version", "1.2\n")
        sidecar.exit(1)

        assert await sidecar.event() == SidecarEvent(event="exited", exit_code=1)
        collected = await sidecar.event()
        assert await sidecar.stop() == 0

    summary = collected.summary
    assert summary is not None
    assert summary.tests is not None
    assert (summary.tests.passed, summary.tests.failed) == (1, 1)
    assert summary.failures[0].test == "s::bad"
    assert summary.outputs == {"version": "1.2"}
    assert (summary.stored, summary.store_error, summary.missing) == (True, None, [])
    assert [case.name for case in uploads.reports["run-1/0/1"].cases] == ["good", "bad"]
    assert summary.sha256
    assert set(uploads.files) == {
        f"run-1/0/1/{name}"
        for name in ("handed/dist", "junit/out/junit.xml", "coverage/coverage.xml", "artifact/screen.png")
    }
    assert uploads.tokens == {f"Bearer {TOKEN}"}


PATCH = b"""diff --git a/sub/b.txt b/sub/b.txt
--- a/sub/b.txt
+++ b/sub/b.txt
@@ -1 +1 @@
-deep
\\ No newline at end of file
+patched
"""


async def test_the_tree_of_a_patched_run_is_its_commits_with_the_patch_on_top(
    tmp_path: Path, uploads: Uploads, source: GitSource, repository: Repository
) -> None:
    ref = "sha256:" + hashlib.sha256(PATCH).hexdigest()
    uploads.patches["run-1"] = PATCH
    async with a_sidecar(tmp_path, an_order(uploads, git=source, patch=ref)) as sidecar:
        assert await sidecar.event() == SidecarEvent(event="source", commit=repository.commits[2])
        await sidecar.ready()

        assert (sidecar.volume.working_dir / "b.txt").read_text() == "patched\n"
        assert (sidecar.volume.control / "commit").read_text() == repository.commits[2]


async def test_a_patch_that_nobody_keeps_is_told_by_its_reason(
    tmp_path: Path, uploads: Uploads, source: GitSource
) -> None:
    async with a_sidecar(tmp_path, an_order(uploads, git=source, patch="sha256:" + "0" * 64)) as sidecar:
        event = await sidecar.event()

        assert (event.event, event.reason) == ("failed", Reason.PATCH_NOT_FOUND)


async def test_what_one_task_hands_on_another_gets(tmp_path: Path, uploads: Uploads) -> None:
    async with a_sidecar(tmp_path, an_order(uploads, hand_on=["dist"])) as first:
        await first.ready()
        put(first.volume.working_dir, "dist/app.js", "code")
        first.exit(0)
        while (await first.event()).event != "collected":
            pass
    order = an_order(uploads, index=1, inputs=[InputFile(index=0, path="./dist")])
    async with a_sidecar(tmp_path, order) as second:
        await second.ready()

        assert (second.volume.working_dir / "dist/app.js").read_text() == "code"


async def test_an_input_that_nobody_left_fails_the_task_with_its_reason(tmp_path: Path, uploads: Uploads) -> None:
    async with a_sidecar(tmp_path, an_order(uploads, inputs=[InputFile(index=7, path="dist")])) as sidecar:
        failed = await sidecar.event()

        assert failed.reason is Reason.INPUT_MISSING
        assert sidecar.volume.failed.exists()
        assert not sidecar.volume.ready.exists()
        assert await sidecar.stop() == 0


async def test_a_source_that_cannot_be_had_is_said_once_and_for_all(
    tmp_path: Path, uploads: Uploads, source: GitSource
) -> None:
    wrong = source.model_copy(update={"revision": "none"})
    async with a_sidecar(tmp_path, an_order(uploads, git=wrong), role="checkout") as checkout:
        assert (await checkout.event()).reason is Reason.REVISION_NOT_FOUND
        assert await checkout.process.wait() == 1


async def test_a_missing_subfolder_is_said(tmp_path: Path, uploads: Uploads, source: GitSource) -> None:
    wrong = source.model_copy(update={"sub_path": "nowhere"})
    async with a_sidecar(tmp_path, an_order(uploads, git=wrong)) as sidecar:
        assert "spec.source.git.subPath" in (await sidecar.event()).message


async def test_a_sidecar_after_a_checkout_tells_the_commit_again(
    tmp_path: Path, uploads: Uploads, source: GitSource, repository: Repository
) -> None:
    order = an_order(uploads, git=source, results=Results(junit=["*.xml"]))
    async with a_sidecar(tmp_path, order, role="checkout") as checkout:
        assert await checkout.process.wait() == 0
    async with a_sidecar(tmp_path, order) as sidecar:
        assert (await sidecar.event()).commit == repository.commits[2]
        put(sidecar.volume.results, "junit.xml", REPORT)
        # a command without entry script writes no exit code: the kubelet's SIGTERM says that it has ended
        sidecar.process.send_signal(signal.SIGTERM)
        collected = await sidecar.event()

        assert collected.event == "collected"
        assert collected.summary is not None
        assert collected.summary.files == 1
        assert await sidecar.process.wait() == 0


async def test_an_api_that_stumbles_delays_nothing_and_loses_nothing(tmp_path: Path, uploads: Uploads) -> None:
    uploads.fail_next = 2
    async with a_sidecar(tmp_path, an_order(uploads, results=Results(junit=["*.xml"]))) as sidecar:
        await sidecar.ready()
        put(sidecar.volume.results, "junit.xml", REPORT)
        sidecar.exit(0)
        assert (await sidecar.event()).event == "exited"
        summary = (await sidecar.event()).summary

    assert summary is not None
    assert summary.stored
    assert uploads.reports


async def test_an_api_that_is_down_costs_the_copy_but_not_the_facts(tmp_path: Path, uploads: Uploads) -> None:
    uploads.down = True
    async with a_sidecar(tmp_path, an_order(uploads, results=Results(junit=["*.xml"])), grace="6s") as sidecar:
        await sidecar.ready()
        put(sidecar.volume.results, "junit.xml", REPORT)
        sidecar.exit(0)
        assert (await sidecar.event()).event == "exited"
        summary = (await sidecar.event()).summary

    assert summary is not None
    assert summary.tests is not None
    assert (summary.tests.failed, summary.stored) == (1, False)
    assert "503" in (summary.store_error or "")


async def test_a_pod_that_is_deleted_during_checkout_ends_at_once(tmp_path: Path, uploads: Uploads) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)  # until the other side gives up
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    order = an_order(uploads, git=GitSource(url=f"http://127.0.0.1:{port}/shop.git"))
    async with a_sidecar(tmp_path, order) as sidecar:
        await appears(sidecar.volume.workspace / ".git")

        assert await asyncio.wait_for(sidecar.stop(), 5) == 0
    server.close()
