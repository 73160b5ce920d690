"""The frozen expansion of a run: its tasks after matrix and shards, who needs whom, and which are ready.

The expansion is a function of the spec alone, and the spec is immutable, so an index always means the same cell.
"""

from __future__ import annotations

import graphlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic.alias_generators import to_camel

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import conditions
from dawg_orchestrator.resources.steps import expressions, pool_that_carries, read_inputs, step_of
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.testrun import MAX_TASKS, TestRunSpec
from dawg_orchestrator.resources.workflow import RiskRule


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to run: a task at one point of its matrix and one of its shards."""

    index: int
    task: Task
    values: tuple[tuple[str, str], ...] = ()
    shard: int | None = None  # from 0
    shards: int | None = None

    @property
    def key(self) -> str:
        """As people read it: ``unit[python=3.11] 2/4``; unique within the run."""
        matrix = f"[{','.join(f'{name}={value}' for name, value in self.values)}]" if self.values else ""
        shard = f" {self.shard + 1}/{self.shards}" if self.shard is not None else ""
        return f"{self.task.name}{matrix}{shard}"


@dataclass(frozen=True, slots=True)
class Needs:
    """Who needs whom, as sets of tasks that are bits of an integer; empty when no task of the run needs another.

    A thousand tasks may need two hundred each: to go through them one by one at every look would hold up all others.
    """

    bits: dict[str, int]  # of each task, one
    direct: dict[str, int]  # the bits of what it declares in needs
    stages: dict[str, int]  # the bits of the stages before its own: they must have ended, whatever came of them

    def before(self, name: str) -> int:
        """The bits of all that must have ended before a task may start."""
        return self.direct.get(name, 0) | self.stages.get(name, 0)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which tasks of a Workflow's run are for failures only and which come last; parameters' types, rules of risk."""

    on_failure: frozenset[str] = frozenset()
    final: frozenset[str] = frozenset()
    types: Mapping[str, str] = field(default_factory=dict)
    risk: tuple[RiskRule, ...] = ()

    def is_main(self, name: str) -> bool:
        """Whether the task is one of those that decide whether something has failed."""
        return name not in self.on_failure and name not in self.final


ALL_MAIN = Shape()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Graph:
    """The tasks as declared, their cells in that order, the indexes of each task's cells, the names, needs first."""

    tasks: tuple[Task, ...]
    cells: tuple[Cell, ...]
    of_task: dict[str, tuple[int, ...]]
    order: tuple[str, ...]
    needs: Needs
    shape: Shape = ALL_MAIN
    steps: tuple[int, ...] = ()  # the indexes of built-in steps

    @property
    def has_steps(self) -> bool:
        """Whether any of its tasks is a built-in step."""
        return bool(self.steps)

    def cells_of(self, names: Iterable[str]) -> list[int]:
        """The indexes of all cells of these tasks."""
        return [index for name in names for index in self.of_task[name]]


_SCRIPTS_ONLY = (
    "image", "matrix", "tests", "shards", "exclusive", "inputs", "outputs", "env", "secrets", "resources", "services",
    "scheduling", "results", "cache", "on_failure",
)  # fmt: skip
_PLAIN = Task(name="plain")  # all that a task has by itself
_NO_NEEDS = Needs({}, {}, {})


class NotAvailable(InvalidSpec):
    """The spec asks for what a later release will do."""


def expand(spec: TestRunSpec, shape: Shape = ALL_MAIN) -> Graph:
    """The run's graph; InvalidSpec names the field that makes it impossible, and what would be right."""
    check_run(spec)
    tasks = spec.tasks or []
    _check_names(tasks)
    fields = _fields(tasks, shape)
    for place, task in zip(fields, tasks, strict=True):
        _check_task(place, task)
    needs = _read_needs(tasks, shape, fields)
    order = _needs_first(tasks, needs)
    _check_inputs(tasks, order, needs, fields)
    _check_conditions(tasks, fields)
    cells = tuple(_cells(tasks))
    _check_keys(cells)
    of_task: dict[str, list[int]] = {}
    for cell in cells:
        of_task.setdefault(cell.task.name, []).append(cell.index)
    indexes_of = {name: tuple(indexes) for name, indexes in of_task.items()}
    steps = tuple(cell.index for cell in cells if cell.task.uses is not None)
    return Graph(tuple(tasks), cells, indexes_of, order, needs, shape, steps)


def pool_of(spec: TestRunSpec, task: Task) -> str:
    """The name of the pool that carries the task out."""
    return pool_that_carries(task.uses, task.pool, spec.pool)


def parameter_variable(name: str) -> str:
    """The environment variable of a parameter: ``test-suite`` → ``DAWG_PARAM_TEST_SUITE``."""
    return "DAWG_PARAM_" + variable(name)


def variable(name: str) -> str:
    """A name as environment variables are written: upper case, ``_`` for everything else."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _cells(tasks: Sequence[Task]) -> Iterable[Cell]:
    index = 0
    for task in tasks:
        names = list(task.matrix)
        for values in itertools.product(*task.matrix.values()):
            count = task.shards.count if task.shards is not None else None
            for shard in range(count) if count is not None else (None,):
                if index >= MAX_TASKS:
                    raise InvalidSpec(
                        "spec.tasks", f"matrix and shards make more than {MAX_TASKS} tasks; split the run"
                    )
                yield Cell(index, task, tuple(zip(names, values, strict=True)), shard, count)
                index += 1


def check_run(spec: TestRunSpec) -> None:
    """All that can be wrong about a run besides its tasks; InvalidSpec."""
    _check_gate(spec)
    _check_patch(spec)
    if spec.selection is not None and spec.selection.mode != "off":
        raise NotAvailable("spec.selection", "selecting tests is not part of this release; set mode: off")
    _check_url(spec)
    _check_variables("spec.parameters", spec.parameters, "DAWG_PARAM_")


def _check_gate(spec: TestRunSpec) -> None:
    """A gate opens merges: only the verdict of a Workflow on a commit that a repository has can do that."""
    if spec.gate is None:
        return
    if spec.source is not None and spec.source.patch_ref is not None:
        raise InvalidSpec(
            "spec.gate", "with source.patchRef the run tests what no server has, so it proves nothing; remove the field"
        )
    if spec.workflow_ref is None:
        raise InvalidSpec("spec.gate", "tasks of the run's own prove nothing about a merge; name a Workflow instead")
    if spec.source is None or spec.source.git is None:
        raise InvalidSpec("spec.gate", "without spec.source.git there is no commit to publish the verdict for")


def _check_patch(spec: TestRunSpec) -> None:
    if spec.source is not None and spec.source.patch_ref is not None and spec.source.git is None:
        raise InvalidSpec("spec.source.patchRef", "a patch goes on top of a commit; name its repository in source.git")


def _check_url(spec: TestRunSpec) -> None:
    if spec.source is None or spec.source.git is None:
        return
    try:
        _ = urlsplit(spec.source.git.url).port
    except ValueError as error:
        raise InvalidSpec("spec.source.git.url", f"{spec.source.git.url!r} leads nowhere: {error}") from error


def _check_variables(field: str, names: Iterable[str], prefix: str) -> None:
    """Two names may not become the same environment variable."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(variable(name), name)
        if other != name:
            raise InvalidSpec(f"{field}.{name}", f"it and {other!r} both become {prefix}{variable(name)}; rename one")


def _fields(tasks: Sequence[Task], shape: Shape) -> list[str]:
    """Where each task is declared: the list of its stage, and its place there."""
    counts: Counter[str] = Counter()
    fields = []
    for task in tasks:
        stage = "finally" if task.name in shape.final else "onFailure" if task.name in shape.on_failure else "tasks"
        fields.append(f"spec.{stage}[{counts[stage]}]")
        counts[stage] += 1
    return fields


def _check_names(tasks: Sequence[Task]) -> None:
    name = _first_repeated(task.name for task in tasks)
    if name is not None:
        raise InvalidSpec("spec.tasks", f"two tasks are named {name!r}; names are unique within a run")


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _check_keys(cells: Iterable[Cell]) -> None:
    """A cell's Job is named by its key, so two cells may not read the same."""
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            field = f"spec.tasks[{cell.task.name}].matrix"
            raise InvalidSpec(field, f"two of its cells read {cell.key!r}; make its values differ")
        seen.add(cell.key)


def _check_task(field: str, task: Task) -> None:
    unavailable = {
        "cache": task.cache is not None,
        "tests": task.tests is not None,
        "shards.targetDuration": task.shards is not None and task.shards.target_duration is not None,
    }
    for name, asked in unavailable.items():
        if asked:
            raise NotAvailable(f"{field}.{name}", "this release does not do that yet; remove the field")
    if sum(what is not None for what in (task.run, task.command, task.uses)) != 1:
        raise InvalidSpec(field, "set exactly one of run (a script), command (a list) and uses (a built-in step)")
    if task.uses is not None:
        _check_step(field, task)
    if task.on_failure is not None and task.on_failure.hold is not None and task.run is None:
        raise InvalidSpec(f"{field}.onFailure.hold", "a held pod needs a shell: write the command as a run script")
    for part, used in (("env", [e.name for e in task.env]), ("secrets", [s.env for s in task.secrets])):
        own = next((name for name in used if name.startswith("DAWG_")), None)
        if own is not None:
            raise InvalidSpec(f"{field}.{part}", f"{own}: names that start with DAWG_ are the product's own")
    service = _first_repeated(service.name for service in task.services)
    if service is not None:
        raise InvalidSpec(f"{field}.services", f"two services are named {service!r}; rename one")
    _check_variables(f"{field}.matrix", task.matrix, "DAWG_MATRIX_")
    if task.when is not None:
        conditions.compile_condition(f"{field}.when", task.when)


def _check_step(field: str, task: Task) -> None:
    """A step has inputs and nothing of what scripts have."""
    step = step_of(task)
    if step is None or (step.by == "later" and not step.optional):
        raise NotAvailable(f"{field}.uses", f"the step {task.uses} is not part of this release; remove the task")
    for name in _SCRIPTS_ONLY:
        if getattr(task, name) != getattr(_PLAIN, name):
            raise InvalidSpec(f"{field}.{to_camel(name)}", "a built-in step has no such thing; it takes `with`")
    for name, expression in expressions(task).items():
        conditions.compile_condition(f"{field}.with.{name}.cel", expression)
    if step.inputs is not None:
        read_inputs(field, task)


def _read_needs(tasks: Sequence[Task], shape: Shape, fields: Sequence[str]) -> Needs:
    """InvalidSpec for a need that no task answers to, or one that belongs to a later stage."""
    if not any(task.needs for task in tasks) and shape.on_failure == shape.final == frozenset():
        return _NO_NEEDS
    bits = {task.name: 1 << position for position, task in enumerate(tasks)}
    direct: dict[str, int] = {}
    for place, task in zip(fields, tasks, strict=True):
        found = 0
        for need in task.needs:
            if need not in bits:
                raise InvalidSpec(f"{place}.needs", f"no task is named {need!r}")
            found |= bits[need]
        direct[task.name] = found
    return Needs(bits, direct, _read_stages(tasks, bits, direct, shape, fields))


def _read_stages(
    tasks: Sequence[Task], bits: Mapping[str, int], direct: Mapping[str, int], shape: Shape, fields: Sequence[str]
) -> dict[str, int]:
    main = sum(bits[task.name] for task in tasks if shape.is_main(task.name))
    failure = sum(bits[name] for name in shape.on_failure)
    final = sum(bits[name] for name in shape.final)
    stages = {}
    for place, task in zip(fields, tasks, strict=True):
        earlier = 0
        if task.name in shape.final:
            earlier, later = main | failure, 0
        elif task.name in shape.on_failure:
            earlier, later = main, final
        else:
            later = failure | final
        if direct[task.name] & later:
            raise InvalidSpec(f"{place}.needs", "it needs a task of onFailure or finally, which come later")
        if earlier:
            stages[task.name] = earlier
    return stages


def _needs_first(tasks: Sequence[Task], needs: Needs) -> tuple[str, ...]:
    """The tasks' names, as declared but each after those it needs; InvalidSpec for a circle."""
    waiting = [task.name for task in tasks]
    if not needs.bits:
        return tuple(waiting)
    order: list[str] = []
    placed = 0
    while waiting:
        later: list[str] = []
        for name in waiting:
            if needs.before(name) & ~placed:
                later.append(name)
            else:
                order.append(name)
                placed |= needs.bits[name]
        if len(later) == len(waiting):
            raise _circle([task for task in tasks if not needs.bits[task.name] & placed])
        waiting = later
    return tuple(order)


def _circle(tasks: Sequence[Task]) -> InvalidSpec:
    """The error for tasks that keep each other waiting."""
    try:
        graphlib.TopologicalSorter({task.name: task.needs for task in tasks}).prepare()
    except graphlib.CycleError as error:
        cycle = " → ".join(reversed(error.args[1]))
        return InvalidSpec("spec.tasks[].needs", f"the tasks need each other in a circle: {cycle}")
    raise AssertionError("tasks that all wait for one another are a circle")


def _check_inputs(tasks: Sequence[Task], order: Sequence[str], needs: Needs, fields: Sequence[str]) -> None:
    if not any(task.inputs for task in tasks):
        return
    earlier = _all_needs({task.name: task.needs for task in tasks}, order, needs)
    for place, task in zip(fields, tasks, strict=True):
        for wanted in task.inputs:
            if not earlier[task.name] & needs.bits.get(wanted.from_, 0):
                raise InvalidSpec(f"{place}.inputs", f"it takes files of {wanted.from_!r}, so add that task to needs")


def _all_needs(declared: Mapping[str, Sequence[str]], order: Sequence[str], needs: Needs) -> dict[str, int]:
    """The bits of all that each task needs, directly or through others."""
    found: dict[str, int] = {}
    for name in order:
        everything = needs.direct.get(name, 0)
        for need in declared[name]:
            everything |= found[need]
        found[name] = everything
    return found


def _check_conditions(tasks: Sequence[Task], fields: Sequence[str]) -> None:
    """All conditions are evaluated each time that the run is looked at, and nobody else is served meanwhile."""
    steps = 0
    for place, task in zip(fields, tasks, strict=True):
        if task.when is None and task.with_ is None:
            continue
        for expression in ([task.when] if task.when is not None else []) + list(expressions(task).values()):
            steps += conditions.steps(expression, len(tasks))
        if steps > conditions.MOST_STEPS:
            told = f"the run's conditions may take {steps} steps, {conditions.MOST_STEPS} are allowed; nest no macros"
            raise InvalidSpec(f"{place}.when", told)
