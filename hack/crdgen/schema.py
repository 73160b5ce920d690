"""A pydantic model's JSON Schema as the structural OpenAPI v3 schema that Kubernetes wants.

Pydantic writes draft 2020-12 with ``$defs``; Kubernetes takes one inlined tree of an older dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema

from dawg_orchestrator.resources.model import format_duration
from dawg_orchestrator.resources.task import RULES

Schema = dict[str, Any]

_TAKEN_AS_IS = (
    "type", "format", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "minimum", "maximum",
)  # fmt: skip
_DEFAULTABLE = (str, int, float, bool)


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model. Plain defaults are kept at its top level, below it those that say something."""
    source = model.model_json_schema(by_alias=True, schema_generator=_DefaultsAsWritten)
    schema = _Converter(source.get("$defs", {})).convert(source)
    for name, declared in source["properties"].items():
        # Rules and columns read these without asking `has()`, so `false` and 0 are stored here too.
        if isinstance(declared.get("default"), _DEFAULTABLE):
            schema["properties"][name]["default"] = declared["default"]
    return schema


def without_transition_rules(schema: Schema) -> Schema:
    """The same without rules on ``oldSelf``: what is fixed in an object may change in a template of it."""
    kept = {key: value for key, value in schema.items() if key != RULES}
    if still := [rule for rule in schema.get(RULES, ()) if "oldSelf" not in rule["rule"]]:
        kept[RULES] = still
    if "properties" in schema:
        kept["properties"] = {name: without_transition_rules(inner) for name, inner in schema["properties"].items()}
    return kept


def _readable(docstring: str) -> str:
    """A docstring as `kubectl explain` shows it: one paragraph, fields by the names that people write."""
    text = " ".join(docstring.replace("``", "`").split())
    return re.sub(r"(?<=`)[a-z_]+(?=`)", lambda field: to_camel(field[0]), text)


def _merged(general: Schema, particular: Schema) -> Schema:
    """A type's schema with what a field says besides; the rules of both hold."""
    merged = general | particular
    if RULES in general and RULES in particular:
        merged[RULES] = [*general[RULES], *particular[RULES]]
    return merged


class _DefaultsAsWritten(GenerateJsonSchema):
    """Durations are written as users write them, not as ISO 8601."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


class _Converter:
    """One walk over one schema with its definitions."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def convert(self, source: Schema) -> Schema:
        source = self._resolved(source)
        out: Schema = {}
        if "description" in source:
            out["description"] = _readable(source["description"])
        out |= {key: source[key] for key in _TAKEN_AS_IS if key in source}
        if "const" in source:
            out["enum"] = [source["const"]]
        self._bounds(source, out)
        # Below the top level an empty default says nothing new and would be stored in each of 1,000 tasks.
        if isinstance(source.get("default"), _DEFAULTABLE) and source["default"]:
            out["default"] = source["default"]
        if "items" in source:
            out["items"] = self.convert(source["items"])
        if source.get("type") == "object":
            self._object(source, out)
        out |= {key: value for key, value in source.items() if key.startswith("x-kubernetes-")}
        if "x-kubernetes-int-or-string" in source:
            out["anyOf"] = source["anyOf"]
        self._key_length(source, out)
        return out

    def _resolved(self, source: Schema) -> Schema:
        """Follow ``$ref`` and drop the null of ``X | None``: a field that may be null may be absent as well."""
        source = dict(source)
        if "x-kubernetes-int-or-string" in source:
            return source
        if "anyOf" in source:
            choices = [choice for choice in source.pop("anyOf") if choice.get("type") != "null"]
            if len(choices) != 1:
                raise ValueError(f"a structural schema cannot say one of {choices}; give the field one type")
            source = _merged(choices[0], source)
        while "$ref" in source:
            name = source.pop("$ref").removeprefix("#/$defs/")
            source = _merged(self._definitions[name], source)
        return source

    def _object(self, source: Schema, out: Schema) -> None:
        values = source.get("additionalProperties")
        if "properties" in source:
            out["properties"] = {name: self.convert(inner) for name, inner in source["properties"].items()}
            if source.get("required"):
                out["required"] = list(source["required"])
        elif isinstance(values, dict) and values:
            out["additionalProperties"] = self.convert(values)
        else:
            out["x-kubernetes-preserve-unknown-fields"] = True

    @staticmethod
    def _bounds(source: Schema, out: Schema) -> None:
        """Draft 2020-12 has numbers where Kubernetes has a bound and a flag."""
        for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if exclusive in source:
                out |= {bound: source[exclusive], exclusive: True}

    @staticmethod
    def _key_length(source: Schema, out: Schema) -> None:
        """Kubernetes knows no ``propertyNames``; a rule says the same."""
        limit = source.get("propertyNames", {}).get("maxLength")
        if limit is not None:
            rule = {"rule": f"self.all(key, size(key) <= {limit})", "message": f"a name has at most {limit} characters"}
            out[RULES] = [*out.get(RULES, []), rule]
