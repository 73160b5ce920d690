"""Uploads come twice, late and in any order; what is stored in the end is the same."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.resources.results import FullReport, Outcome, TestCase
from dawg_orchestrator.store import logs
from dawg_orchestrator.store.artifacts import key_of
from dawg_orchestrator.store.blobs import BlobKey, ChecksumMismatch, NoSpace, TooLarge
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.logfiles import LogFiles
from dawg_orchestrator.store.logs import MARKER, LogKey, OffsetGap
from dawg_orchestrator.store.tables import test_number

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOG = LogKey("run", 0, 1)
FILE = BlobKey("run", 0, 1, "artifact", "shots/a.png")
MIB = 2**20
Kept = Callable[[], list[Path]]


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def content(history: History, key: BlobKey) -> bytes:
    row = await history.artifacts.find(key)
    assert row is not None
    return b"".join([piece async for piece in history.artifacts.read(key_of(row))])


async def log_text(history: History, key: LogKey = LOG) -> bytes:
    state = await history.logs.state(key)
    return b"".join([piece async for piece in history.logs.read(key, 0, state.readable)])


def a_report(*cases: tuple[str, Outcome]) -> FullReport:
    return FullReport(cases=[TestCase(suite="s", classname="c", name=name, outcome=outcome) for name, outcome in cases])


async def put_report(history: History, report: FullReport, attempt: int = 1) -> str:
    body = report.model_dump_json(by_alias=True).encode()
    return await history.reports.put("run", 0, attempt, namespace="team", body=body, report=report, now=NOON)


@pytest.fixture(autouse=True)
async def run(history: History) -> None:
    await history.runs.begin("run", "team", "run", NOON)


async def test_a_file_is_the_last_one_sent(history: History) -> None:
    await history.artifacts.put(FILE, stream(b"old"), now=NOON)
    stored = await history.artifacts.put(FILE, stream(b"new", b"er"), now=NOON)

    assert await content(history, FILE) == b"newer"
    assert [(row["path"], row["size"]) for row in await history.artifacts.of_run("run")] == [("shots/a.png", 5)]
    assert stored.sha256 == hashlib.sha256(b"newer").hexdigest()


async def test_a_file_whose_checksum_is_wrong_leaves_the_old_one(history: History) -> None:
    await history.artifacts.put(FILE, stream(b"old"), now=NOON)
    with pytest.raises(ChecksumMismatch):
        await history.artifacts.put(FILE, stream(b"cut o"), now=NOON, sha256="0" * 64)

    assert await content(history, FILE) == b"old"


async def test_a_large_file_comes_back_byte_for_byte(history: History) -> None:
    pieces = [random.Random(number).randbytes(MIB - number) for number in range(12)]  # noqa: S311
    whole = b"".join(pieces)
    stored = await history.artifacts.put(FILE, stream(*pieces), now=NOON, sha256=hashlib.sha256(whole).hexdigest())

    assert stored.size == len(whole)
    assert await content(history, FILE) == whole


async def test_an_empty_file_is_a_file(history: History) -> None:
    await history.artifacts.put(FILE, stream(), now=NOON)

    assert await content(history, FILE) == b""


async def test_a_file_beyond_the_limit_leaves_nothing_behind(history: History, kept: Kept) -> None:
    with pytest.raises(TooLarge):
        await history.artifacts.put(FILE, stream(*[b"x" * MIB] * 13), now=NOON)

    assert await history.artifacts.find(FILE) is None
    assert kept() == []


@pytest.mark.parametrize("pieces", [1, 11], ids=["small", "large"])
async def test_a_large_file_whose_checksum_is_wrong_leaves_nothing_behind(
    pieces: int, history: History, kept: Kept
) -> None:
    with pytest.raises(ChecksumMismatch):
        await history.artifacts.put(FILE, stream(*[b"x" * MIB] * pieces), now=NOON, sha256="0" * 64)

    assert kept() == []


@pytest.mark.parametrize("pieces", [1, 11], ids=["at the beginning", "in the middle"])
async def test_a_sender_that_breaks_off_leaves_nothing_behind(pieces: int, history: History, kept: Kept) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield b"x" * MIB
        raise ConnectionResetError

    with pytest.raises(StoreError):
        await history.artifacts.put(FILE, breaks(), now=NOON)

    assert kept() == []


@pytest.mark.parametrize("s3", ["disk"], indirect=True)
async def test_no_disk_is_filled_beyond_its_floor(database_url: str, tmp_path: Path) -> None:
    full = await History.open(database_url, tmp_path / "full", max_file_bytes=100, free_space_floor=2**60)
    with pytest.raises(NoSpace):
        await full.artifacts.put(FILE, stream(b"x"), now=NOON)
    with pytest.raises(NoSpace):
        await full.logs.append(LOG, 0, b"x")
    await full.close()


async def test_files_of_clashing_names_live_side_by_side(history: History) -> None:
    keys = [BlobKey("run", 0, 1, "artifact", path) for path in ("a", "a/b", "A", "a b", "ä")]
    for key in keys:
        await history.artifacts.put(key, stream(key.path.encode()), now=NOON)

    assert [await content(history, key) for key in keys] == [key.path.encode() for key in keys]


async def test_many_senders_of_one_file_leave_row_and_bytes_of_one_of_them(history: History) -> None:
    bodies = [bytes([number]) * (number + 1) for number in range(8)]
    await asyncio.gather(*(history.artifacts.put(FILE, stream(body), now=NOON) for body in bodies))

    row, body = await history.artifacts.find(FILE), await content(history, FILE)

    assert row is not None
    assert row["sha256"] == hashlib.sha256(body).hexdigest()


async def test_a_handed_file_is_the_newest_attempts(history: History) -> None:
    for attempt in (2, 1, 3):
        key = BlobKey("run", 0, attempt, "handed", "dist")
        await history.artifacts.put(key, stream(b"x" * attempt), now=NOON)

    row = await history.artifacts.find_handed("run", 0, "dist")

    assert row is not None
    assert row["attempt"] == 3
    assert await history.artifacts.of_run("run") == []


async def test_a_report_sent_again_is_the_same_report(history: History) -> None:
    report = a_report(("a", Outcome.PASSED), ("b", Outcome.FAILED))
    first = await put_report(history, report)

    assert await put_report(history, report) == first
    stored = await history.reports.read("run", 0)
    assert stored is not None
    row, body = stored
    assert FullReport.model_validate_json(body) == report
    assert (row["total"], row["passed"], row["failed"]) == (2, 1, 1)
    assert len(await history.reports.history(test_number("team", "s", "c", "a"), 10)) == 1


async def test_a_report_that_changed_replaces_its_cases(history: History) -> None:
    await put_report(history, a_report(("a", Outcome.FAILED), ("b", Outcome.PASSED)))
    await put_report(history, a_report(("a", Outcome.PASSED)))

    assert [row["outcome"] for row in await history.reports.history(test_number("team", "s", "c", "a"), 9)] == [
        "passed"
    ]
    assert await history.reports.history(test_number("team", "s", "c", "b"), 9) == []


async def test_a_tests_history_is_newest_first(history: History) -> None:
    await put_report(history, a_report(("a", Outcome.FAILED)), attempt=1)
    await put_report(history, a_report(("a", Outcome.PASSED)), attempt=2)

    rows = await history.reports.history(test_number("team", "s", "c", "a"), 10)

    assert [(row["attempt"], row["outcome"]) for row in rows] == [(2, "passed"), (1, "failed")]


async def test_what_no_database_takes_is_made_storable(history: History) -> None:
    case = TestCase(
        name="a\x00b\ud800", message="x" * 5000, details="\x00", duration=float("nan"), outcome=Outcome.FAILED
    )

    assert await put_report_raw(history, FullReport(cases=[case]))


async def put_report_raw(history: History, report: FullReport) -> str:
    return await history.reports.put("run", 0, 1, namespace="team", body=b"{}", report=report, now=NOON)


async def test_a_log_with_a_gap_is_refused_with_the_place_to_go_on(history: History) -> None:
    await history.logs.append(LOG, 0, b"hello")
    with pytest.raises(OffsetGap) as gap:
        await history.logs.append(LOG, 9, b"x")

    assert gap.value.size == 5


async def test_a_complete_log_takes_no_more(history: History) -> None:
    await history.logs.append(LOG, 0, b"hello", final=True)
    state = await history.logs.append(LOG, 5, b" again")

    assert (state.size, state.complete) == (5, True)
    assert await log_text(history) == b"hello"


@pytest.mark.parametrize("s3", ["disk"], indirect=True)
async def test_bytes_that_were_written_but_not_acknowledged_are_written_again(history: History) -> None:
    await history.logs.append(LOG, 0, b"one ")
    assert isinstance(history.logs._kept, LogFiles)
    history.logs._kept.path(LOG).write_bytes(b"one torn wri")
    await history.logs.append(LOG, 4, b"two", final=True)

    assert await log_text(history) == b"one two"


@pytest.mark.parametrize("exactly", [True, False], ids=["cut at the cap", "cut inside a chunk"])
async def test_a_log_beyond_the_cap_is_cut_with_one_marker(
    history: History, exactly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "CAP", 9 * MIB)
    size = 9 * MIB if exactly else 9 * MIB - 10
    await send(history, b"x" * size)

    for offset in (size, size + 100, size + 200):
        state = await history.logs.append(LOG, offset, b"y" * 100)

    assert (state.size, state.truncated) == (size + 300, True)
    tail = [piece async for piece in history.logs.read(LOG, 9 * MIB - 10, state.readable)]
    assert b"".join(tail) == (b"x" * 10 if exactly else b"y" * 10) + MARKER


async def send(history: History, log: bytes, *, chunk: int = 3 * MIB) -> None:
    for offset in range(0, len(log), chunk):
        await history.logs.append(LOG, offset, log[offset : offset + chunk])


@pytest.mark.parametrize("end", [0, 1, 3 * MIB], ids=["growing", "ended", "ended beyond a segment"])
async def test_a_long_log_is_read_from_any_offset_while_it_grows(history: History, end: int) -> None:
    log = random.Random(end).randbytes(9 * MIB + end)  # noqa: S311
    await send(history, log[: 9 * MIB])
    if end:
        await history.logs.append(LOG, 9 * MIB, log[9 * MIB :], final=True)

    assert await log_text(history) == log
    for offset, until in ((4 * MIB - 5, 4 * MIB + 5), (5 * MIB, 9 * MIB), (len(log) - 1, len(log)), (7, 7)):
        some = [piece async for piece in history.logs.read(LOG, offset, until)]
        assert b"".join(some) == log[offset:until]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=400), seed=st.integers(0, 2**32))
async def test_chunks_repeated_and_reordered_make_the_same_log(history: History, data: bytes, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    key = LogKey("run", seed % 1000, seed % 9999 + 1)
    if (await history.logs.state(key)).size:
        return
    chunks = [(start, data[start : start + chance.randint(20, 80)]) for start in range(0, len(data), 20)]
    sent = [*chunks, *chance.choices(chunks, k=len(chunks))]
    chance.shuffle(sent)
    while (await history.logs.state(key)).size < len(data):
        for offset, chunk in sent:
            try:
                await history.logs.append(key, offset, chunk)
            except OffsetGap:
                continue

    assert await log_text(history, key) == data


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
async def test_uploads_repeated_and_reordered_give_the_same_store(history: History, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    run = f"run-{seed}"
    await history.runs.begin(run, "team", "run", NOON)
    report = a_report(("a", Outcome.PASSED), ("b", Outcome.FLAKY))
    body = report.model_dump_json().encode()
    uploads = [
        *(("file", number) for number in range(4)), *(("report", number) for number in range(3)), ("begin", 0)
    ] * 2  # fmt: skip
    chance.shuffle(uploads)
    for what, number in uploads:
        if what == "file":
            key = BlobKey(run, number, 1, "artifact", f"f{number}")
            await history.artifacts.put(key, stream(bytes([number])), now=NOON)
        elif what == "report":
            await history.reports.put(run, number, 1, namespace="team", body=body, report=report, now=NOON)
        else:
            await history.runs.begin(run, "team", "run", NOON)

    files = [(row["index"], row["path"], row["size"]) for row in await history.artifacts.of_run(run)]
    assert files == [(number, f"f{number}", 1) for number in range(4)]
    for number in range(3):
        stored = await history.reports.read(run, number)
        assert stored is not None
        assert (stored[0]["total"], stored[0]["flaky"], stored[1]) == (2, 1, body)


async def test_reports_rest_compressed(history: History, kept: Kept) -> None:
    report = a_report(*((f"test-{number}", Outcome.PASSED) for number in range(500)))
    await put_report(history, report)

    (packed,) = kept()

    assert gzip.decompress(packed.read_bytes()) == report.model_dump_json(by_alias=True).encode()
