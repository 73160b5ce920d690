"""`dawg watch`: looks at a work tree, starts runs of what has changed, and keeps MERGE_BLOCKED until they allow.

files, HEAD ─► debounce ─► what has changed? ─► patch ─► TestRun ─► verdict ─► MERGE_BLOCKED
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dawg_orchestrator.client import mergeblock
from dawg_orchestrator.client.changes import Debounce, Start, replaces_files, run_for, what_to_start
from dawg_orchestrator.client.connection import Cluster
from dawg_orchestrator.client.door import Door
from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.terminal import one_line
from dawg_orchestrator.client.testruns import Run, cancel_run, create_run, get_run
from dawg_orchestrator.client.worktree import State, WorkTree
from dawg_orchestrator.errors import DawgError, NotFound
from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES

JsonObject = dict[str, Any]
LOOK_SECONDS = 2.0  # between looks at a run that has not ended
_STEP_MILLISECONDS = 250
_AGAIN_SECONDS = 10.0  # after what could not be started
_MOST_FAILURES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the person asked for."""

    template: JsonObject
    git: JsonObject  # url, and credentials if the template has none
    namespace: str
    remote: str
    block_pending: bool
    lasts: timedelta  # how long a block is believed
    delay: float
    most_delay: float


Tell = Callable[[str, JsonObject], None]


class Watch:
    """One work tree, and the runs that were started for it."""

    def __init__(self, work: WorkTree, cluster: Cluster, door: Door, wanted: Wanted, tell: Tell) -> None:
        self._work, self._cluster, self._door, self._wanted, self._tell = work, cluster, door, wanted, tell
        self._file = work.git_dir / mergeblock.FILE
        self._under_way: dict[str, tuple[Start, Run]] = {}
        self._looked = 0.0
        self._last: Run | None = None
        self._told = ""

    def forever(self, stopped: threading.Event | None = None) -> None:
        """Watch until KeyboardInterrupt, or until it is stopped."""
        import watchfiles

        tested = self._work.state()
        self._take_up()
        self._tell("watching", {"path": str(self._work.root), "commit": tested.head if tested else None})
        debounce = Debounce(self._wanted.delay, self._wanted.most_delay)
        debounce.touched(time.monotonic())  # what changes before the watch stands is seen by a look thereafter
        folders = {self._work.root, self._work.git_dir}
        looking = watchfiles.watch(
            *folders, watch_filter=self._matters, debounce=_STEP_MILLISECONDS, step=50,
            rust_timeout=_STEP_MILLISECONDS, yield_on_timeout=True, stop_event=stopped,
        )  # fmt: skip
        for found in looking:
            if self._any_counts(Path(path) for _, path in found):
                debounce.touched(time.monotonic())
            if debounce.due(time.monotonic()):
                tested, done = self._step(tested)
                if not done:
                    debounce.touched(time.monotonic() + _AGAIN_SECONDS)
            self._look_at_runs()

    def once(self) -> Run | None:
        """Test the commit of HEAD, and return its run once it has ended; None if that was deleted."""
        state = self._work.state()
        if state is None:
            raise CommandFailed(f"{self._work.root} has no commit yet", USAGE)
        started = self.start(Start("commit", state))
        while started.name in self._under_way:
            time.sleep(LOOK_SECONDS / 4)
            self._look_at_runs()
        return self._last

    def start(self, start: Start) -> Run:
        """Start a run, and block a commit that is not pushed yet until its verdict is known."""
        head, wanted = start.state.head, self._wanted
        base = self._work.published(head, wanted.remote)
        change = self._work.patch_of_files(base) if start.kind == "files" else self._work.patch_of_commit(base, head)
        if len(change) > MAX_PATCH_BYTES:
            size, most = len(change) / 2**20, MAX_PATCH_BYTES >> 20
            told = f"what the server lacks takes {size:.1f} MiB, and {most} MiB is the most"
            raise CommandFailed(f"{told}; push a branch, or let git ignore what needs no test", USAGE)
        patch = self._door.send_patch(wanted.namespace, change) if change else None
        git = {**wanted.git, "revision": base}
        manifest = run_for(
            wanted.template,
            start,
            namespace=wanted.namespace,
            git=git,
            patch=patch,
            watch=one_line(self._work.root.name),
        )
        run = create_run(self._cluster, manifest)
        self._under_way[run.name] = (start, run)
        self._tell("started", {**_named(start, run), "base": base, "patch": patch})
        if start.kind == "commit" and wanted.block_pending and base != head:
            self._keep_block(start, run)
        return run

    # What has changed

    def _matters(self, _change: object, path: str) -> bool:
        """In git's folder only what goes along with a new HEAD; neither objects nor locks nor our own file."""
        place = Path(path)
        if not place.is_relative_to(self._work.git_dir):
            return ".git" not in place.relative_to(self._work.root).parts if self._inside(place) else False
        inside = place.relative_to(self._work.git_dir).parts
        return bool(inside) and inside[0] in ("HEAD", "logs", "refs", "index") and not place.name.endswith(".lock")

    def _inside(self, place: Path) -> bool:
        return place.is_relative_to(self._work.root)

    def _any_counts(self, paths: Iterable[Path]) -> bool:
        seen = set(paths)
        files = {path for path in seen if not path.is_relative_to(self._work.git_dir)}
        return bool(seen - files) or bool(files - self._work.ignored(files))

    def _step(self, tested: State | None) -> tuple[State | None, bool]:
        """Start what the change asks for; return what counts as tested now, and False if some could not be started."""
        try:
            now = self._work.state()
            if now is None or tested is None:
                return now, True
            if replaces_files(tested, now):
                self._cancel_files()
            for start in what_to_start(tested, now):
                self.start(start)
                tested = replace(tested, head=now.head)
        except DawgError as error:
            self._problem(error)
            return tested, False
        self._told = ""
        return now, True

    def _problem(self, error: DawgError) -> None:
        """Say it once, however often it comes."""
        if str(error) != self._told:
            self._told = str(error)
            self._tell("problem", {"message": self._told})

    def _take_up(self) -> None:
        """Go on with the run whose verdict an earlier watch has not lived to see."""
        try:
            block = mergeblock.read(self._file)
            if block is None or not block.pending or not block.run or block.namespace != self._wanted.namespace:
                return
            run = get_run(self._cluster, block.namespace, block.run)
        except DawgError as error:
            self._problem(error)
            return
        self._under_way[run.name] = (Start("commit", State(block.commit, block.branch, "", "")), run)

    def _cancel_files(self) -> None:
        for name, (start, run) in list(self._under_way.items()):
            if start.kind == "files":
                cancel_run(self._cluster, run.namespace, name)
                del self._under_way[name]
                self._tell("cancelled", _named(start, run))

    # What came of it

    def _look_at_runs(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS or not self._under_way:
            return
        self._looked = time.monotonic()
        for name, (start, run) in list(self._under_way.items()):
            try:
                now = get_run(self._cluster, run.namespace, name)
            except NotFound:
                del self._under_way[name]
                self._tell("deleted", _named(start, run))
                continue
            except DawgError as error:
                self._problem(error)
                return
            if now.status.verdict is not None:
                del self._under_way[name]
                self._ended(start, now)

    def _ended(self, start: Start, run: Run) -> None:
        self._last = run
        failures = [{"test": one.test, "task": one.task, "message": one.message} for one in run.status.top_failures]
        succeeded, allowed = run.condition("Succeeded"), run.condition("MergeAllowed")
        self._tell("ended", {
            **_named(start, run), "verdict": run.status.verdict, "mergeBlocked": run.status.merge_blocked,
            "reason": succeeded.reason if succeeded else None, "message": succeeded.message if succeeded else None,
            "merge": allowed.message if allowed else None, "failures": failures[:_MOST_FAILURES],
        })  # fmt: skip
        if start.kind == "commit":
            self._keep_block(start, run)

    def _keep_block(self, start: Start, run: Run) -> None:
        """Bring MERGE_BLOCKED in line with what a commit's run says."""
        now, commit = datetime.now(UTC), start.state.head
        try:
            standing = mergeblock.read(self._file)
        except mergeblock.UnreadableBlock as error:
            self._problem(error)
            return
        wanted = mergeblock.block_of(run, commit, start.state.branch, now, self._wanted.lasts)
        block = mergeblock.after(standing, wanted, commit, self._work.contains, now)
        if block != standing:
            mergeblock.write(self._file, block)
            told = {"commit": block.commit, "reason": block.reason} if block else {"commit": commit}
            self._tell("blocked" if block else "allowed", told)


def _named(start: Start, run: Run) -> JsonObject:
    return {"run": run.name, "namespace": run.namespace, "kind": start.kind, "commit": start.state.head}
