"""The inputs of the built-in steps that agents carry out, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dawg_orchestrator.resources.model import DURATION_PATTERN
from dawg_orchestrator.resources.steps import STEPS
from docgen.markdown import table

JsonObject = Mapping[str, Any]


def steps_reference() -> str:
    """One table a step; fields of lists and objects below the field that holds them."""
    inputs = {name: step.inputs for name, step in STEPS.items() if step.by == "agent" and step.inputs is not None}
    return "\n\n".join(
        f"### `{name}` in full\n\n{table(['Field', 'Type', 'Default'], _rows(model.model_json_schema()))}"
        for name, model in inputs.items()
    )


def _rows(schema: JsonObject) -> Iterator[list[str]]:
    yield from _fields(schema, schema.get("$defs", {}), "")


def _fields(model: JsonObject, definitions: JsonObject, above: str) -> Iterator[list[str]]:
    required = model.get("required", ())
    for name, field in model["properties"].items():
        default = "required" if name in required else _default(field)
        yield [f"`{above}{name}`", _type(field, definitions), default]
        if (inner := _inner(field, definitions)) is not None:
            yield from _fields(inner, definitions, f"{above}{name}{'[]' if _is_list(field) else ''}.")


def _default(field: JsonObject) -> str:
    default = field.get("default")
    if default is None or default in ("", [], {}):
        return "none"
    if isinstance(default, str) and default.startswith("PT"):
        return f"`{default.removeprefix('PT').lower()}`"  # a duration, as JSON's schema writes it
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _is_list(field: JsonObject) -> bool:
    return field.get("type") == "array"


def _named(schema: JsonObject) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _choices(field: JsonObject) -> list[JsonObject]:
    return [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]


def _inner(field: JsonObject, definitions: JsonObject) -> JsonObject | None:
    """The model that the field holds; an address is told as a type of its own."""
    [first, *more] = _choices(field["items"] if _is_list(field) else field)
    name = _named(first)
    return definitions[name] if name and not more and name != "SecretAddress" else None


def _type(field: JsonObject, definitions: JsonObject) -> str:
    if _is_list(field):
        return f"list of {_type(field['items'], definitions)}"
    return " or ".join(_one_type(choice) for choice in _choices(field))


def _one_type(choice: JsonObject) -> str:
    if name := _named(choice):
        return "`{secret: VARIABLE}`" if name == "SecretAddress" else "object"
    if "enum" in choice:
        return ", ".join(f"`{value}`" for value in choice["enum"])
    if choice.get("pattern") == DURATION_PATTERN:
        return "duration"
    if choice.get("type") == "object":
        return f"map to {choice['additionalProperties'].get('type', 'any')}"
    return str(choice.get("format", choice["type"]))
