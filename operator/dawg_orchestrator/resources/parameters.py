"""Parameters of a Workflow, and what a run may give for them: one word to who starts a run and to who plans it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.model import parse_duration
from dawg_orchestrator.resources.workflow import Parameter

BOOLEANS = {"true": True, "false": False}


def parameters_of(
    declared: Sequence[Parameter], given: Mapping[str, str], place: str = "spec.parameters."
) -> dict[str, str]:
    """All parameters with their values: as given, else by default; InvalidSpec for one that is wrong or missing.

    ``place`` is where they were given, as the error names it.
    """
    known = {parameter.name: parameter for parameter in declared}
    for name, value in given.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise InvalidSpec(f"{place}{name}", f"the Workflow declares no such parameter; it has: {names}")
        check_value(f"{place}{name}", known[name], value)
    missing = [parameter.name for parameter in declared if parameter.required and parameter.name not in given]
    if missing:
        raise InvalidSpec(f"{place}{missing[0]}", "the Workflow requires this parameter; set it")
    defaults = {parameter.name: parameter.default for parameter in declared if parameter.default is not None}
    return {**defaults, **given}


def check_value(field: str, parameter: Parameter, text: str) -> None:
    """InvalidSpec unless the text is a value of the parameter's type, and one of those it may have."""
    if not _IS_OF_TYPE[parameter.type](text):
        raise InvalidSpec(field, f"{text[:60]!r} is no {parameter.type}")
    if parameter.enum and text not in parameter.enum:
        raise InvalidSpec(field, f"{text[:60]!r} is not one of {', '.join(parameter.enum)}")


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


_IS_OF_TYPE: Mapping[str, Callable[[str], bool]] = {
    "string": lambda _: True,
    "integer": lambda text: re.fullmatch(r"-?[0-9]{1,18}", text) is not None,
    "number": lambda text: re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?", text) is not None,
    "boolean": lambda text: text in BOOLEANS,
    "duration": _is_duration,
}
