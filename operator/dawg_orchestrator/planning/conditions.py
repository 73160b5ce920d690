"""CEL conditions of tasks (``when``): over parameters, verdicts and outputs of tasks that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cel

from dawg_orchestrator.errors import InvalidSpec


@lru_cache(maxsize=512)
def _program(expression: str) -> cel.Program:
    return cel.compile(expression)


def compile_condition(field: str, expression: str) -> None:
    """InvalidSpec when the expression is not CEL."""
    try:
        _program(expression)
    except ValueError as error:
        raise InvalidSpec(field, f"this is not a CEL expression: {str(error).splitlines()[0][:300]}") from error


def is_met(expression: str, tasks: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, str]) -> bool:
    """Whether a condition holds; InvalidSpec when it cannot be evaluated or is no truth value.

    ``tasks`` maps names to ``{"verdict": str, "outputs": {name: value}}``.
    """
    try:
        value = _program(expression).execute({"tasks": dict(tasks), "params": dict(parameters)})
    except (ValueError, RuntimeError, TypeError) as error:
        raise InvalidSpec("when", f"{expression!r} cannot be evaluated: {str(error)[:300]}") from error
    if not isinstance(value, bool):
        raise InvalidSpec("when", f"{expression!r} gives {value!r}; a condition must be true or false")
    return value
