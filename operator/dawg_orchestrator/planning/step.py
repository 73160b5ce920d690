"""One pass over a run's tasks: the working copy that settle.py and ready.py share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.facts import RunFacts
from dawg_orchestrator.planning.graph import Cell, Graph, pool_of
from dawg_orchestrator.planning.plan import RunAction, StopAttempt
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.risk import Risk, find_risk, read_risk
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.steps import needs_agent
from dawg_orchestrator.resources.verdict import Verdict


class Step:
    """States that change during the pass, actions and times to look again that come out of it."""

    def __init__(self, facts: RunFacts, graph: Graph, now: datetime) -> None:
        self.facts, self.graph, self.now = facts, graph, now
        self.states: list[TaskState] = list(facts.states)
        self.actions: list[RunAction] = []
        self.outputs: dict[int, dict[str, str]] = {}  # of steps that end here
        self.waits: dict[int, tuple[Reason, str]] = {}  # steps that wait for people
        self.met: dict[str, bool] = {}  # conditions that cannot change any more, by task
        self.begun = False
        self.recorded_first = False
        self._looks: list[datetime] = []

    @property
    def all_done(self) -> bool:
        """Whether every task has its verdict."""
        return all(state.done for state in self.states)

    @property
    def next_look(self) -> datetime | None:
        """The earliest time at which waiting alone changes something."""
        return min(self._looks, default=None)

    @property
    def risk(self) -> Risk | None:
        """How risky the run's commit is, as far as anybody has said it."""
        facts = self.facts
        outputs = {**(facts.outputs or {}), **self.outputs}
        return find_risk(self.graph, self.states, outputs, read_risk(facts.written or {}), facts.inherited_risk)

    def look_at(self, due: datetime) -> None:
        """Something is due then."""
        self._looks.append(due)

    def begin(self) -> None:
        """A step that needs no agent has begun, and with it the run."""
        self.begun = True

    def record_first(self) -> None:
        """Status must say that the run has begun before the step goes on."""
        self.recorded_first = True

    def wait(self, index: int, reason: Reason, message: str) -> None:
        """The step waits for somebody."""
        self.waits[index] = reason, message

    def act(self, action: RunAction) -> None:
        """Ask for it, once."""
        if action not in self.actions:
            self.actions.append(action)

    def settle(self, index: int, verdict: Verdict, reason: Reason, message: str) -> None:
        """The task ends without a report."""
        self.states[index] = progress.settled(self.states[index], verdict, reason, message, self.now)

    def stop(self, index: int, reason: Reason) -> None:
        """Ask for the end of a running attempt; also when there is no Job yet: the agent is told."""
        if self.states[index].stopping is None:
            self.states[index] = progress.stop(self.states[index], reason, self.now)
            self.act(StopAttempt(index, reason))

    def pool_of(self, cell: Cell) -> str:
        """The name of the pool that runs the cell."""
        return pool_of(self.facts.spec, cell.task)

    def is_own(self, cell: Cell) -> bool:
        """Whether the controller carries the cell out itself, so that no pool or agent matters to it."""
        return self.graph.has_steps and not needs_agent(cell.task)

    def goes_on(self, index: int) -> bool:
        """Whether the task comes at the end of a run that has begun, so that it runs though the others are ended."""
        return self.facts.started_at is not None and self.graph.cells[index].task.name in self.graph.shape.final

    def timeout_of(self, cell: Cell) -> timedelta:
        """How long an attempt may run: the task's timeout within what its pool allows, if a pool runs it."""
        if self.is_own(cell):
            return cell.task.timeout or self.facts.spec.timeout
        pool = self.facts.pools.get(self.pool_of(cell))
        longest = pool.spec.max_task_duration if pool is not None else self.facts.spec.timeout
        return min(cell.task.timeout, longest) if cell.task.timeout is not None else longest

    def has_ended(self, task: str) -> bool:
        """Whether all cells of a task have their verdicts."""
        return all(self.states[index].done for index in self.graph.of_task[task])

    def tasks_where(self, holds: Callable[[TaskState], bool]) -> int:
        """The bits (see `Needs`) of the tasks of whose cells this holds for all."""
        found = 0
        for task, bit in self.graph.needs.bits.items():
            if all(holds(self.states[index]) for index in self.graph.of_task[task]):
                found |= bit
        return found
