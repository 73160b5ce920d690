"""The gated runs that the leader knows, what forges are to show for them, and what they do show. No I/O.

Nothing here decides: `planning.publishing` does, from what is on status. What is sent carries a serial number, and only
the answer to the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.planning.publishing import (
    GatedRun,
    GateStand,
    Publication,
    Target,
    deciding_run,
    plan_publication,
    superseded_gate,
)
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.names import short_hash
from dawg_orchestrator.resources.protocol import PUBLISH_SECONDS, LeaseId, Published
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

if TYPE_CHECKING:
    from dawg_orchestrator.controller.records import Run

JsonObject = dict[str, Any]

# After which it is sent again: until then the agent that it was sent to may yet write to the forge.
UNANSWERED = timedelta(seconds=PUBLISH_SECONDS + 5)
# Whether the forge still shows what it is to show; each time later, since forges count what they are asked.
READ_AGAIN, _READ_RARELY = timedelta(minutes=10), timedelta(hours=6)
REMEMBERED = timedelta(hours=24)  # after a run's end
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=2), timedelta(minutes=5)


@dataclass(slots=True)
class _Shown:
    """What was sent for a target, and what came of it."""

    tried: Publication | None = None  # the last that was sent, or could not be
    serial: LeaseId | None = None  # of the last that was sent, until it is answered
    agent: str | None = None
    sent_at: datetime | None = None
    confirmed: Publication | None = None
    confirmed_at: datetime | None = None
    url: str | None = None
    trouble: tuple[Reason, str] | None = None
    failures: int = 0
    reads: int = 0  # since it came to be shown
    again_at: datetime | None = None  # when to send, though nothing has changed


class Gates:
    """By namespace and target; ``wake`` is called with a namespace where something is to be published."""

    def __init__(self, term: int, wake: Callable[[str], None], wake_run: Callable[[str], None]) -> None:
        self._term, self._wake, self._wake_run = term, wake, wake_run
        self._runs: dict[str, GatedRun] = {}  # by uid
        self._missed: set[str] = set()  # uids of those that have left the watch without a verdict that we know
        self._of: dict[Target, dict[str, GatedRun]] = {}
        self._shown: dict[Target, _Shown] = {}
        self._serial = 0

    # What is known of runs

    def see(self, run: Run) -> None:
        """An unfinished run, as the desk has it."""
        gated = _of_live(run)
        if gated is not None:
            self._put(gated)

    def finished(self, run: Run, status: JsonObject) -> None:
        """The run's verdict is on status."""
        gated = _of_live(run)
        if gated is not None:
            self._put(_with_verdict(gated, status))

    def see_finished(self, obj: JsonObject, now: datetime) -> None:
        """A run that has its verdict, as a list shows it."""
        gated = _of_object(obj)
        if gated is None:
            return
        known = self._runs.get(gated.uid)
        if known is not None and known.allowed is not None and gated.version < known.version:
            return  # a list that began before the run was overridden
        completed = (obj.get("status") or {}).get("completionTime")
        if gated.published and completed and now - parse_time(completed) > REMEMBERED:
            self._drop(gated.uid)
            return
        self._put(gated)
        if gated.published and gated.superseded_by is None and gated.target not in self._shown:
            self._trust(gated, now)

    def missed(self, uid: str) -> None:
        """A run has left the watch: it has its verdict, or was deleted; the cluster knows which."""
        known = self._runs.get(uid)
        if known is not None and known.allowed is None and not known.gone:
            self._missed.add(uid)
            self._wake(known.target.namespace)

    def to_verify(self, namespace: str) -> list[GatedRun]:
        """Those that nobody has asked the cluster about yet."""
        return [run for run in map(self._runs.__getitem__, self._missed) if run.target.namespace == namespace]

    def verified(self, uid: str, *, gone: bool) -> None:
        """The cluster has been asked. A run that was deleted without a verdict still decides, against the merge."""
        if gone and uid in self._missed:
            self._put(replace(self._runs[uid], gone=True))
        self._missed.discard(uid)

    def newer_than(self, uid: str) -> str | None:
        """The run that decides in the place of this one, by name."""
        known = self._runs.get(uid)
        if known is None:
            return None
        decides = deciding_run(self._of[known.target].values())
        return known.superseded_by or (decides.name if decides is not None and decides.uid != uid else None)

    def stand_of(self, run: Run) -> GateStand:
        """How publishing fares for a run."""
        known = self._runs.get(run.uid)
        if known is None:
            return GateStand()
        newer = self.newer_than(run.uid)
        if newer is not None:
            return GateStand(superseded_by=newer)
        shown = self._shown.get(known.target) or _Shown()
        if shown.confirmed is None or shown.confirmed.run != run.name:
            return GateStand(trouble=shown.trouble)
        return GateStand(published_at=shown.confirmed_at, url=shown.url, trouble=shown.trouble)

    # What is to be done

    def to_send(self, namespace: str, now: datetime) -> Iterator[Publication]:
        """What forges are to show, and do not, or have not been asked about for long."""
        for target, runs in self._of.items():
            wanted = plan_publication(runs.values()) if target.namespace == namespace else None
            if wanted is None:
                continue
            shown = self._shown.setdefault(target, _Shown())
            if shown.tried != wanted or (shown.again_at is not None and now >= shown.again_at):
                yield wanted

    def next_at(self, namespace: str) -> datetime | None:
        """When something is to be sent next though nothing happens."""
        times = [one.again_at for target, one in self._shown.items() if target.namespace == namespace and one.again_at]
        return min(times, default=None)

    def sending(self, publication: Publication, agent: str, now: datetime) -> LeaseId | None:
        """It is about to be sent to this agent; under which serial. None: what was sent before may still be written."""
        shown = self._shown[publication.target]
        if shown.serial is not None and shown.sent_at is not None:
            free_at = shown.sent_at + UNANSWERED
            if now < free_at:
                shown.again_at = free_at
                return None
        self._serial += 1
        shown.serial = LeaseId(term=self._term, number=self._serial)
        shown.tried, shown.agent, shown.sent_at, shown.again_at = publication, agent, now, now + UNANSWERED
        return shown.serial

    def not_sent(self, publication: Publication, why: tuple[Reason, str], now: datetime) -> None:
        """Nobody can publish it now."""
        shown = self._shown[publication.target]
        shown.tried = publication
        self._fail(publication.target, shown, why, now)

    def hear(self, agent: str, answer: Published, now: datetime) -> None:
        """What came of it."""
        found = (one for one in self._shown.items() if one[1].serial == answer.serial and one[1].agent == agent)
        target, shown = next(found, (None, _Shown()))
        if target is None:
            return
        shown.serial = None
        if answer.reason is not None:
            self._fail(target, shown, (answer.reason, answer.message), now)
            return
        fresh = shown.confirmed != shown.tried or shown.trouble is not None
        shown.reads = 0 if fresh else min(shown.reads + 1, 20)
        shown.confirmed, shown.confirmed_at, shown.url = shown.tried, now, answer.url
        shown.trouble, shown.failures = None, 0
        shown.again_at = now + min(_READ_RARELY, READ_AGAIN * 2**shown.reads)
        if fresh:
            self._news(target)
        self._wake(target.namespace)  # what is wanted since then had to wait for this answer

    def to_settle(self, namespace: str) -> list[tuple[GatedRun, JsonObject]]:
        """Finished runs whose status does not tell yet how publishing has ended, and what it is to tell."""
        mine = [target for target in self._of if target.namespace == namespace]
        return [entry for target in mine for entry in self._to_settle_of(target)]

    def _to_settle_of(self, target: Target) -> Iterator[tuple[GatedRun, JsonObject]]:
        runs, shown = self._of[target], self._shown.get(target) or _Shown()
        decides = deciding_run(runs.values())
        is_shown = shown.confirmed is not None and shown.confirmed == plan_publication(runs.values())
        for run in runs.values():
            if run.allowed is None or run.gone:
                continue
            if run.superseded_by is None and decides is not None and decides.uid != run.uid:
                # On status for good: though the newer one be deleted, this one never opens the gate again.
                yield run, superseded_gate(decides.name)
            elif is_shown and not run.published:
                yield run, {"publishedAt": shown.confirmed_at, "url": shown.url, "published": True}

    def older_unsettled(self, run: Run) -> list[tuple[GatedRun, JsonObject]]:
        """Finished runs of the same target of which no status says yet that this one has taken over."""
        mine = self._runs.get(run.uid)
        found = self._to_settle_of(mine.target) if mine is not None else ()
        return [(one, gate) for one, gate in found if "supersededBy" in gate]

    def older_under_way(self, run: Run) -> list[str]:
        """The uids of older runs of the same target that have no verdict, and are not told so on their status."""
        mine = self._runs.get(run.uid)
        others = self._of[mine.target].values() if mine is not None else ()
        return [
            one.uid for one in others
            if mine is not None and one.created < mine.created and one.allowed is None and not one.gone
            and one.superseded_by is None
        ]  # fmt: skip

    def settled(self, run: GatedRun, gate: JsonObject) -> None:
        """Its status tells it now."""
        if run.uid in self._runs:
            known = self._runs[run.uid]
            newer = gate.get("supersededBy") or known.superseded_by
            self._put(replace(known, published=bool(gate["published"]), superseded_by=newer))

    def forget(self, uid: str) -> None:
        """The run is not there any more, and whatever it said is shown or never will be."""
        self._drop(uid)

    # Inside

    def _trust(self, run: GatedRun, now: datetime) -> None:
        """Status says that its verdict is shown. A new leader asks the forge later, and not about all places at once.

        What a newer run wants to be shown instead is not trusted to be: nobody has written that down.
        """
        shown = plan_publication([run])
        spread = int(publication_id(run.target), 16) % 1000 / 1000
        again_at = now + READ_AGAIN * (1 + spread)
        self._shown[run.target] = _Shown(tried=shown, confirmed=shown, confirmed_at=now, again_at=again_at)

    def _put(self, run: GatedRun) -> None:
        known = self._runs.get(run.uid)
        if known == run:
            return
        if known is not None and known.target != run.target:
            self._drop(run.uid)
        if known is not None and known.allowed is not None and run.allowed is None:
            return  # a late word
        if run.allowed is not None:
            self._missed.discard(run.uid)
        self._runs[run.uid] = run
        self._of.setdefault(run.target, {})[run.uid] = run
        self._news(run.target)

    def _drop(self, uid: str) -> None:
        run = self._runs.pop(uid, None)
        self._missed.discard(uid)
        if run is None:
            return
        others = self._of[run.target]
        del others[uid]
        if not others:
            del self._of[run.target]
            self._shown.pop(run.target, None)

    def _fail(self, target: Target, shown: _Shown, why: tuple[Reason, str], now: datetime) -> None:
        shown.again_at = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**shown.failures)
        shown.failures = min(shown.failures + 1, 20)
        if shown.trouble != why:
            shown.trouble = why
            self._news(target)

    def _news(self, target: Target) -> None:
        self._wake(target.namespace)
        for run in self._of.get(target, {}).values():
            if run.allowed is None and not run.gone:
                self._wake_run(run.uid)


def publication_id(target: Target) -> str:
    """What stands for a target in messages and picks its agent."""
    return short_hash("gate", target.repository, target.context, target.commit)


def _of_live(run: Run) -> GatedRun | None:
    gate, git = run.spec.gate, run.spec.source.git if run.spec.source is not None else None
    if gate is None or git is None or run.workflow is None or run.commit is None:
        return None
    target = Target(run.namespace, gate.repository, gate.context, run.commit)
    newer = (run.status.get("gate") or {}).get("supersededBy")
    return GatedRun(
        run.name, run.uid, run.created, target, run.workflow, git.url, superseded_by=newer, version=run.version
    )


def _of_object(obj: JsonObject) -> GatedRun | None:
    spec, status, metadata = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
    gate, git = spec.get("gate"), (spec.get("source") or {}).get("git")
    workflow = (spec.get("workflowRef") or {}).get("name")
    commit = (status.get("source") or {}).get("commit")
    if not (gate and git and workflow and commit and re.match(FULL_COMMIT_PATTERN, commit)):
        return None
    target = Target(metadata["namespace"], gate.get("repository", ""), gate.get("context") or "dawg", commit)
    known = GatedRun(
        metadata["name"],
        metadata["uid"],
        parse_time(metadata["creationTimestamp"]),
        target,
        workflow,
        git.get("url", ""),
        version=version_of(obj),
    )
    return _with_verdict(known, status)


def _with_verdict(run: GatedRun, status: JsonObject) -> GatedRun:
    gate = status.get("gate") or {}
    merge: JsonObject = next((one for one in status.get("conditions") or () if one.get("type") == "MergeAllowed"), {})
    # Both must say so, or it is closed.
    allowed = status.get("mergeBlocked") is False and merge.get("status") == "True" and gate.get("state") == "Open"
    return replace(
        run, allowed=allowed, message=merge.get("message") or "the merge is not allowed",
        published=gate.get("published") is True, superseded_by=gate.get("supersededBy"),
    )  # fmt: skip
