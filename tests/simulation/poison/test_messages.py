"""Whatever an agent says: it is heard or refused, and never moves a task that another holds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from builders import (
    NAMESPACE,
    NOON,
    a_result,
    a_summary,
    a_task_spec,
    after,
    counts,
    pod_object,
    pool_object,
    run_object,
)
from crdgen.schema import structural
from crdschema import faults, schema_of
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.planning.lease import Lease
from dawg_orchestrator.resources.protocol import (
    FROM_AGENT,
    Alive,
    Drained,
    Hello,
    Progress,
    Report,
)
from dawg_orchestrator.resources.testrun import STATUS_BUDGET
from poison import JsonObject, examples, junk, spoilt, values

POOL = (NAMESPACE, "default")
KINDS = (Hello, Progress, Report, Alive, Drained)
SCHEMAS = {kind: structural(kind) for kind in KINDS}


class World:
    """Run ``mine`` is held by agent-1, run ``yours`` by agent-2; both under leases of this term."""

    def __init__(self) -> None:
        self.desk = Desk(2, lambda _key, _at: None, NOON)
        self.desk.see_pool(pool_object())
        self.leases: dict[str, Lease] = {}
        for number, name in enumerate(("mine", "yours"), 1):
            self.desk.see_pod(pod_object(f"agent-{number}"))
            self.hello(number, 1)
            self.desk.see_run(run_object(name, a_task_spec(outputs=["version"])))
            self.plan(name)
            (self.leases[name],) = [self.desk.start(given, NOON) for given in self.desk.assign(POOL, NOON)]

    def hello(self, number: int, slots: int) -> None:
        peer = Peer(f"uid-agent-{number}", f"agent-{number}", NAMESPACE, "default")
        self.desk.hear_hello(peer, Hello(pool="default", version="1", slots=slots), NOON)

    def hear(self, text: str) -> None:
        """Agent 1 says this, and the controller answers as its sessions do."""
        try:
            message = FROM_AGENT.validate_json(text)
        except ValidationError:
            return
        peer = Peer("uid-agent-1", "agent-1", NAMESPACE, "default")
        if isinstance(message, Hello):
            answers = self.desk.hear_hello(peer, message, after(1))
        else:
            answers = self.desk.hear(peer.uid, message, after(1))
        assert all(answer.model_dump_json(by_alias=True) for answer in answers)

    def plan(self, name: str) -> JsonObject:
        run = self.desk.run_named(NAMESPACE, name)
        assert run is not None
        status: JsonObject = self.desk.plan_run(run, after(2)).status
        return status

    def check(self) -> None:
        """Theirs is as it was; mine has a status that can be written."""
        yours = self.leases["yours"]
        assert self.desk.table.holder(yours.task) == yours
        assert self.plan("yours").get("verdict") is None
        status = self.plan("mine")
        assert list(faults(schema_of("TestRun", "status"), status)) == []
        assert len(json.dumps(status, ensure_ascii=False).encode()) <= STATUS_BUDGET
        self.desk.assign(POOL, after(3))
        self.desk.plan_pool(POOL, "t1", after(3))


@st.composite
def said(draw: st.DrawFn, world: World) -> Any:
    """A message of any kind, often about leases and attempts that there are."""
    kind = draw(st.sampled_from(KINDS))
    message = draw(values(SCHEMAS[kind]))
    message["kind"] = kind.model_fields["kind"].default
    known = list(world.leases.values())
    for part in (message, *message.get("holding", ()), *message.get("finished", ())):
        if "lease" in part and draw(st.booleans()):
            part["lease"] = draw(st.sampled_from(known)).id.wire()
        if "attempt" in part and draw(st.integers(0, 3)):
            part["attempt"] = draw(st.sampled_from(known)).attempt.wire()
    return draw(spoilt(message)) if draw(st.integers(0, 2)) == 0 else message


@examples(25)
@given(st.data())
def test_nothing_that_an_agent_says_moves_the_task_of_another(data: st.DataObject) -> None:
    world = World()
    for _ in range(data.draw(st.integers(1, 3))):
        world.hear(json.dumps(data.draw(said(world))))

    world.check()


@examples(15)
@given(st.one_of(st.text(max_size=20), junk().map(json.dumps)))
def test_what_is_no_message_is_refused(text: str) -> None:
    world = World()
    world.hear(text)

    world.check()


@examples(20)
@given(st.data())
def test_any_result_of_its_holder_gives_a_verdict_that_can_be_written(data: st.DataObject) -> None:
    world, lease = World(), None
    lease = world.leases["mine"]
    whole = Report(lease=lease.id, attempt=lease.attempt, result=a_result(1, summary=a_summary(counts(1, 1)))).wire()
    whole["result"] = data.draw(st.one_of(values(SCHEMAS[Report]["properties"]["result"]), spoilt(whole["result"])))
    world.hear(json.dumps(whole))

    world.check()
