"""A small world of two runs of one commit, one leader after the other, and an agent: every order of what can happen.

Nothing is drawn here: from the beginning all steps are tried, from what comes of each all steps again, as deep as
``DEPTH``; two worlds that are alike are followed once. Reporter and Publisher are played in their own steps, so that a
leader may die between any two of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from builders import NAMESPACE, NOON
from dawg_orchestrator.controller.gates import UNANSWERED, Gates
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.planning.overriding import Override, overruled_status
from dawg_orchestrator.planning.publishing import Publication, superseded_gate
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import LeaseId, Published

JsonObject = dict[str, Any]
DEPTH = 8
COMMIT = "a" * 40
GATE = SimpleNamespace(repository="shop/web", context="dawg/checks")
SAID = Override("lead", "the site is down")
SOURCE = SimpleNamespace(git=SimpleNamespace(url="https://git.example.org/shop/web.git"))


@dataclass
class Stored:
    """A run as the cluster has it; ``gate`` is what its status says of that."""

    number: int
    verdict: bool | None = None
    gate: JsonObject = field(default_factory=dict)
    deleted: bool = False
    said: bool = False  # somebody has overridden it
    overruled: bool = False  # status says that this counts

    @property
    def allows(self) -> bool:
        return bool(self.verdict) or self.overruled

    @property
    def uid(self) -> str:
        return f"uid-{self.number}"

    @property
    def live(self) -> Run:
        made = SimpleNamespace(
            namespace=NAMESPACE, name=f"run-{self.number}", uid=self.uid, workflow="checks", commit=COMMIT,
            created=NOON + timedelta(seconds=self.number), spec=SimpleNamespace(gate=GATE, source=SOURCE),
            status={"gate": self.gate}, version=0,
        )  # fmt: skip
        return cast("Run", made)

    @property
    def status(self) -> JsonObject:
        merge = {"type": "MergeAllowed", "status": str(self.allows), "message": "said", "reason": "said"}
        return {"verdict": "Passed" if self.verdict else "Failed", "mergeBlocked": not self.allows,
                "source": {"commit": COMMIT}, "conditions": [merge], "gate": self.gate}  # fmt: skip

    @property
    def obj(self) -> JsonObject:
        git = {"url": SOURCE.git.url, "revision": COMMIT}
        spec = {"gate": {"repository": GATE.repository, "context": GATE.context}, "source": {"git": git},
                "workflowRef": {"name": "checks"}}  # fmt: skip
        metadata = {"namespace": NAMESPACE, "name": f"run-{self.number}", "uid": self.uid,
                    "creationTimestamp": format_time(NOON + timedelta(seconds=self.number))}  # fmt: skip
        return {"metadata": metadata, "spec": spec, "status": self.status}


class World:
    """All of it. Each step leaves it as it would be found."""

    def __init__(self) -> None:
        self.runs: list[Stored] = []
        self.term, self.now = 1, NOON
        self.gates = self._new_gates()
        self.under_way: list[tuple[LeaseId, str]] = []  # that the agent has been told
        self.forge, self.heard = "", (0, 0)
        self.path: list[str] = []  # the steps that led here

    def _new_gates(self) -> Gates:
        return Gates(self.term, _nobody, _nobody)

    def steps(self) -> Iterator[tuple[str, Callable[[World], None]]]:
        """Whatever can happen next, by name."""
        if len(self.runs) < 2:
            yield "create", World.create
        for index, run in enumerate(self.runs):
            if run.verdict is None and not run.deleted:
                yield f"pass {index}", lambda world, i=index: world.end(i, verdict=True)
                yield f"fail {index}", lambda world, i=index: world.end(i, verdict=False)
                yield f"die before the verdict of {index}", lambda world, i=index: world.die_before(i)
            if not run.deleted and not run.verdict and not any(one.said for one in self.runs):
                yield f"override {index}", lambda world, i=index: world.override(i)
            if not run.deleted:
                yield f"delete {index}", lambda world, i=index: world.delete(i)
        for index in range(len(self.under_way)):
            yield f"write {index}", lambda world, i=index: world.write(i, answered=True)
            yield f"write {index}, unanswered", lambda world, i=index: world.write(i, answered=False)
        yield "settle", World.settle
        yield "send", World.send
        yield "wait", World.wait
        yield "another leader", World.restart

    def create(self) -> None:
        self.runs.append(Stored(len(self.runs) + 1))
        self.gates.see(self.runs[-1].live)

    def end(self, index: int, *, verdict: bool) -> None:
        """As the reconciler does it: who is overtaken is told first, then the verdict is written."""
        run = self.runs[index]
        self._supersede(run)
        run.verdict = verdict
        stand = self.gates.stand_of(run.live)
        run.overruled = run.said and not verdict and stand.superseded_by is None
        run.gate = {"state": "Open" if run.allows else "Closed", "published": False}
        if stand.superseded_by is not None:
            run.gate = superseded_gate(stand.superseded_by)
        self.gates.finished(run.live, run.status)

    def override(self, index: int) -> None:
        """Somebody says it. Of a run that has its verdict the overruler writes it, with what is on the leader's desk;
        to hear of it later is as if it was said later.
        """
        run = self.runs[index]
        run.said = True
        if run.verdict is None:
            return
        for other in self.runs:
            if other.verdict is None and not other.deleted:
                self.gates.see(other.live)
        self.gates.see_finished(run.obj, self.now)
        status = overruled_status(run.status, SAID, self.gates.newer_than(run.uid), self.now)
        if status is not None and not status["mergeBlocked"]:
            run.overruled, run.gate = True, status["gate"]
            self.gates.see_finished(run.obj, self.now)

    def die_before(self, index: int) -> None:
        self._supersede(self.runs[index])
        self.restart()

    def _supersede(self, run: Stored) -> None:
        self._write_gates(self.gates.older_unsettled(run.live))
        for uid in self.gates.older_under_way(run.live):
            older = next(one for one in self.runs if one.uid == uid)
            newer = self.gates.stand_of(older.live).superseded_by
            if newer is not None and not older.deleted:
                older.gate = superseded_gate(newer)
                self.gates.see(older.live)

    def delete(self, index: int) -> None:
        run = self.runs[index]
        run.deleted = True
        if run.verdict is None:
            self.gates.missed(run.uid)
            self.gates.verified(run.uid, gone=True)

    def settle(self) -> None:
        self._write_gates(self.gates.to_settle(NAMESPACE))

    def _write_gates(self, found: list[tuple[Any, JsonObject]]) -> None:
        for gated, gate in found:
            stored = next(one for one in self.runs if one.uid == gated.uid)
            if stored.deleted:
                self.gates.forget(stored.uid)
                continue
            stored.gate = {**stored.gate, **gate}
            self.gates.settled(gated, gate)

    def send(self) -> None:
        for publication in list(self.gates.to_send(NAMESPACE, self.now)):
            serial = self.gates.sending(publication, "agent", self.now)
            if serial is not None:
                self._check(publication)
                self.under_way.append((serial, publication.state))

    def _check(self, publication: Publication) -> None:
        """A pass is sent only if the newest run that ever had a verdict gives it, or is overridden on its status, and
        no newer one is known.
        """
        if publication.state != "success":
            return
        decided = [run for run in self.runs if run.verdict is not None]
        waiting = [run for run in self.runs if run.verdict is None and not run.deleted]
        assert decided, "a pass of nobody"
        assert decided[-1].allows, "the newest verdict is none"
        assert not any(run.number > decided[-1].number for run in waiting), "a newer run is under way"

    def write(self, index: int, *, answered: bool) -> None:
        """The agent writes; what is older than what it has heard it leaves."""
        serial, state = self.under_way.pop(index)
        if (serial.term, serial.number) > self.heard:
            self.heard, self.forge = (serial.term, serial.number), state
        if answered:
            self.gates.hear("agent", Published(serial=serial, url="https://git.example.org/shown"), self.now)

    def wait(self) -> None:
        """Until the agent has given up what it was told: it tries for less long than that."""
        self.now += UNANSWERED
        self.under_way.clear()

    def restart(self) -> None:
        self.term += 1
        self.gates = self._new_gates()
        there = [run for run in self.runs if not run.deleted]
        for run in there:  # a leader lists what goes on before it leads, and what has ended afterwards
            if run.verdict is None:
                self.gates.see(run.live)
        for run in there:
            if run.verdict is not None:
                self.gates.see_finished(run.obj, self.now)

    def come_to_rest(self) -> None:
        """Nothing else happens, and everything that is due is done."""
        for _ in range(6):
            self.settle()
            self.send()
            while self.under_way:
                self.write(0, answered=True)
            self.wait()
        self.settle()

    def _left(self, again_at: datetime | None, sent_at: datetime | None) -> tuple[object, object]:
        return (
            again_at and (again_at - self.now) // UNANSWERED, sent_at and self.now - sent_at >= UNANSWERED,
        )  # fmt: skip

    def key(self) -> str:
        """What two worlds have in common that have the same future; only times that are left count."""
        gates = vars(self.gates)
        shown = [
            (one.tried, one.serial is not None, one.confirmed, one.failures, *self._left(one.again_at, one.sent_at))
            for one in gates["_shown"].values()
        ]
        runs = [
            (run.verdict, run.deleted, run.said, run.overruled, sorted(run.gate.items(), key=str)) for run in self.runs
        ]
        order = [state for _, state in sorted(self.under_way, key=lambda one: (one[0].term, one[0].number))]
        newer = [(serial.term, serial.number) > self.heard for serial, _ in self.under_way]
        return repr((runs, sorted(gates["_runs"].items()), shown, order, newer, self.forge))


def _nobody(_: str) -> None:
    """Nothing has to be woken: every step is tried at any time."""


def test_no_order_of_events_ends_with_a_false_pass() -> None:
    ahead, seen = [World()], set()
    for _ in range(DEPTH):
        found = []
        for world in ahead:
            whole = pickle.dumps(world)  # a copy many times faster than copy.deepcopy makes it
            for name, step in world.steps():
                after = pickle.loads(whole)  # noqa: S301
                after.path.append(name)
                step(after)
                if (key := after.key()) not in seen:
                    seen.add(key)
                    found.append(after)
                    _rests_well(pickle.loads(pickle.dumps(after)))  # noqa: S301
        ahead = found
    assert len(seen) > 500


def _rests_well(end: World) -> None:
    """Where the cluster still knows a run of the commit: of what is deleted altogether a new leader knows nothing."""
    end.come_to_rest()
    decided = [run for run in end.runs if run.verdict is not None]
    if end.forge == "success" and not all(run.deleted for run in end.runs):
        assert decided, end.path
        assert decided[-1].allows, end.path
    last = end.runs[-1] if end.runs else None
    if decided and last is not None and last.verdict is None and not last.deleted:
        assert end.forge == "pending", end.path
    for run in end.runs:
        assert run.deleted or run.verdict is None or run.gate.get("published"), end.path
