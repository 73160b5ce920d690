"""The environment variables that every test gets from us, in a Job's pod and in an agent's slot alike."""

from __future__ import annotations

from dawg_orchestrator.cluster.request import DAWG_DIR, AttemptRequest
from dawg_orchestrator.planning.graph import parameter_variable, variable


def test_variables(request: AttemptRequest) -> dict[str, str]:
    """Every DAWG_ variable of one attempt by its name."""
    cell = request.cell
    values = {
        "DAWG_RUN": request.run,
        "DAWG_NAMESPACE": request.namespace,
        "DAWG_TASK": cell.task.name,
        "DAWG_ATTEMPT": str(request.attempt),
        "DAWG_RESULTS": f"{DAWG_DIR}/results",
        "DAWG_OUTPUTS": f"{DAWG_DIR}/outputs",
    }
    if request.commit:
        values["DAWG_COMMIT"] = request.commit
    if request.uses_workspace:
        values["DAWG_WORKSPACE"] = request.working_dir
    if cell.shard is not None:
        values |= {"DAWG_SHARD_INDEX": str(cell.shard), "DAWG_SHARD_TOTAL": str(cell.shards)}
    values |= {f"DAWG_MATRIX_{variable(name)}": value for name, value in cell.values}
    values |= {parameter_variable(name): value for name, value in request.spec.parameters.items()}
    return values | _output_variables(request)


def _output_variables(request: AttemptRequest) -> dict[str, str]:
    """DAWG_OUTPUT_<TASK>_<NAME> of every task that this one needs."""
    found = {}
    for need in request.cell.task.needs:
        for index in request.graph.of_task[need]:
            for name, value in request.outputs.get(index, {}).items():
                found[f"DAWG_OUTPUT_{variable(need)}_{variable(name)}"] = value
    return found
