"""The committed definitions' own schemas, and what is wrong with a value by them.

Only what the definitions use: a structural OpenAPI v3 schema, without its CEL rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).resolve().parents[1] / "crds"
KINDS = {"TestRun": "testruns", "Workflow": "workflows", "Schedule": "schedules", "AgentPool": "agentpools"}
LARGEST = 2**63 - 1  # the API's integers have 64 bits

Schema = Mapping[str, Any]

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
}  # fmt: skip


@cache
def schema_of(kind: str, part: str = "spec") -> Schema:
    """The schema of ``spec`` or ``status`` of a kind."""
    definition = yaml.load((CRDS / f"dawg.dev_{KINDS[kind]}.yaml").read_text(), yaml.CSafeLoader)
    schema: Schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def faults(schema: Schema, value: Any, place: str = "") -> Iterator[str]:
    """What the apiserver would refuse or drop, each with its place."""
    if "x-kubernetes-int-or-string" in schema:
        allowed: type | tuple[type, ...] = (int, str)
    elif "type" in schema:
        allowed = _TYPES[schema["type"]]
    else:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and schema.get("type") != "boolean"):
        yield f"{place}: {value!r:.80} is no {schema.get('type', 'integer or string')}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r:.80} is none of {schema['enum']}"
    if isinstance(value, str):
        yield from _of_text(schema, value, place)
    elif isinstance(value, int | float):
        yield from _of_number(schema, value, place)
    elif isinstance(value, list):
        yield from _of_list(schema, value, place)
    else:
        yield from _of_object(schema, value, place)


def matches(pattern: str, text: str) -> bool:
    """As the apiserver matches: in its dialect ``$`` is the very end."""
    return re.search(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern, text) is not None


def _of_text(schema: Schema, value: str, place: str) -> Iterator[str]:
    yield from _size(schema, len(value), "Length", place)
    if "pattern" in schema and not matches(schema["pattern"], value):
        yield f"{place}: {value!r:.80} does not match {schema['pattern']}"
    if schema.get("format") == "date-time":
        try:
            wrong = len(value) < 20 or datetime.fromisoformat(value).tzinfo is None
        except ValueError:
            wrong = True
        if wrong:
            yield f"{place}: {value!r:.80} is no time"


def _of_number(schema: Schema, value: float, place: str) -> Iterator[str]:
    exclusive = schema.get("exclusiveMinimum") is True and value == schema.get("minimum")
    if value < schema.get("minimum", -LARGEST - 1) or value > schema.get("maximum", LARGEST) or exclusive:
        yield f"{place}: {value!r:.80} is out of bounds"


def _of_list(schema: Schema, value: list[Any], place: str) -> Iterator[str]:
    yield from _size(schema, len(value), "Items", place)
    for position, item in enumerate(value):
        yield from faults(schema["items"], item, f"{place}[{position}]")
    if schema.get("x-kubernetes-list-type") == "map":
        keys = [tuple(item.get(key) for key in schema["x-kubernetes-list-map-keys"]) for item in value]
        if len(set(keys)) < len(keys):
            yield f"{place}: duplicate keys"


def _of_object(schema: Schema, value: dict[str, Any], place: str) -> Iterator[str]:
    yield from _size(schema, len(value), "Properties", place)
    known: Schema = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place}.{name}: is missing"
    for name, item in value.items():
        inner = known.get(name) or schema.get("additionalProperties")
        if inner is not None:
            yield from faults(inner, item, f"{place}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{place}.{name}: is not known"


def _size(schema: Schema, size: int, unit: str, place: str) -> Iterator[str]:
    if size < schema.get(f"min{unit}", 0) or size > schema.get(f"max{unit}", size):
        yield f"{place}: {size} is too small or too large for {unit}"
