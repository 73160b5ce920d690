"""CEL conditions of tasks (``when``): over parameters, verdicts and outputs of tasks that have ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cel

from dawg_orchestrator.errors import InvalidSpec

# With these an expression may take any time: each macro repeats its body, and a regular expression is compiled.
_MACRO = re.compile(r"\b(?:all|exists|exists_one|existsOne|filter|map)\s*(?:\(|//)")
_MATCH = re.compile(r"\bmatches\b")
_LITERAL_MATCH = re.compile(r"""\bmatches\(\s*[rR]?(?:'[^'{]*'|"[^"{]*")\s*\)""")
_STEPS_TO_COMPILE = 40  # for each character
MOST_STEPS = 500_000  # about half a second


_REMEMBERED = 4096  # a run of 1,000 tasks has as many conditions, which are evaluated in turn at every look


@lru_cache(maxsize=_REMEMBERED)
def _program(expression: str) -> cel.Program:
    return cel.compile(expression)


def compile_condition(field: str, expression: str) -> None:
    """InvalidSpec when the expression is not CEL."""
    if len(_MATCH.findall(expression)) > len(_LITERAL_MATCH.findall(expression)):
        raise InvalidSpec(field, "matches() takes a regular expression in quotes, without {counts}")
    try:
        _program(expression)
    except ValueError as error:
        raise InvalidSpec(field, f"this is not a CEL expression: {str(error).splitlines()[0][:300]}") from error


def steps(expression: str, tasks: int) -> int:
    """How many steps an evaluation takes at most, roughly, in a run of so many tasks.

    What a macro walks over is the tasks or a list that is written out, two characters an item; if there are several
    macros, each may stand in another.
    """
    walked = max(tasks, len(expression) // 2)
    compiled = _STEPS_TO_COMPILE * len(expression) * len(_MATCH.findall(expression))
    return int(walked ** len(_MACRO.findall(expression))) * (1 + compiled)


def is_met(expression: str, tasks: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Any]) -> bool:
    """Whether a condition holds; InvalidSpec when it cannot be evaluated or is no truth value.

    ``tasks`` maps names to ``{"verdict": str, "outputs": {name: value}}``.
    """
    value = worked_out("when", expression, tasks, parameters)
    if not isinstance(value, bool):
        raise InvalidSpec("when", f"{expression!r} gives {value!r}; a condition must be true or false")
    return value


def worked_out(
    field: str, expression: str, tasks: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Any]
) -> Any:
    """The value of an expression over tasks; InvalidSpec when it has none."""
    return evaluated(field, expression, {"tasks": dict(tasks), "params": dict(parameters)})


def evaluated(field: str, expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression; InvalidSpec when it has none."""
    try:
        return _program(expression).execute(dict(variables))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        told = f"{expression!r} cannot be evaluated: {type(error).__name__}: {str(error)[:300]}"
        raise InvalidSpec(field, told) from error
