"""The process of one attempt in a slot of a Process pool, a pure function to what its agent is told.

It gets the command, variables and folders that the container of a Job gets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.cluster.request import AttemptRequest
from dawg_orchestrator.cluster.sidecar import sidecar_order
from dawg_orchestrator.cluster.variables import test_variables
from dawg_orchestrator.resources.protocol import ProcessOrder

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def process_order(request: AttemptRequest, around: Surroundings) -> ProcessOrder:
    """What a slot is to run for this attempt."""
    task, git, warm = request.cell.task, request.git, request.pool.warm
    env = test_variables(request)
    known = {entry.name: entry.value for entry in request.pool.job_template.env}  # the slot has them already
    for entry in task.env:
        env[entry.name] = expand_references(entry.value, known | env)
    variables = known | env
    command = [expand_references(word, variables) for word in task.command or ()]
    return ProcessOrder(
        argv=["/bin/sh", "-e", "-c", task.run] if task.run is not None else command,
        env=env,
        cwd=request.working_dir if request.uses_workspace else None,
        preloaded=task.command is not None and warm is not None and bool(warm.preload),
        sidecar=sidecar_order(request, around),
        git_secret=git.credentials_secret_ref.name if git is not None and git.credentials_secret_ref else None,
    )


def expand_references(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` as Kubernetes replaces it in containers' variables and commands; ``$$`` is a plain dollar sign."""

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        return "$" if name is None else variables.get(name, found.group())

    return _REFERENCE.sub(replace, text)
