"""One attempt of one task, with what is known of its run by now: what its Job or its process is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dawg_orchestrator.planning.graph import Cell, Graph
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.testrun import GitSource, TestRunSpec

DAWG_DIR = "/dawg"
WORKSPACE = f"{DAWG_DIR}/workspace"


@dataclass(frozen=True, slots=True)
class AttemptRequest:
    """One attempt of one task, with what is known of its run by now."""

    namespace: str
    run: str
    run_uid: str
    spec: TestRunSpec
    graph: Graph
    cell: Cell
    attempt: int
    pool_name: str
    pool: AgentPoolSpec
    commit: str | None
    outputs: Mapping[int, Mapping[str, str]]

    @property
    def name(self) -> str:
        """The name of its Job, by content."""
        return names.child_name(self.run, self.run_uid, self.cell.key, self.attempt)

    @property
    def git(self) -> GitSource | None:
        """The repository to check out, if there is one."""
        return self.spec.source.git if self.spec.source is not None else None

    @property
    def handed_on(self) -> list[str]:
        """Paths of this task that others take as inputs."""
        mine = self.cell.task.name
        tasks = (self.graph.cells[indexes[0]].task for indexes in self.graph.of_task.values())
        return sorted({wanted.path for task in tasks for wanted in task.inputs if wanted.from_ == mine})

    @property
    def uses_workspace(self) -> bool:
        """Whether the test works in the shared volume, and not where its image says."""
        return self.git is not None or bool(self.cell.task.inputs or self.handed_on)

    @property
    def working_dir(self) -> str:
        """Where the test runs if it works in the shared volume."""
        return f"{WORKSPACE}/{self.git.sub_path}" if self.git is not None and self.git.sub_path else WORKSPACE
