"""Whatever the definitions' schemas take, drawn at random: hypothesis strategies made by a walk over them.

Small by default, because most trouble needs two or three odd fields; sizes on the limit are written by hand where
they matter. How many examples a test tries is DAWG_FUZZ_EXAMPLES; without it few, and always the same ones.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from crdschema import LARGEST, Schema, faults, schema_of

JsonObject = dict[str, Any]
T = TypeVar("T", bound=Callable[..., None])

# Of these an object has exactly one; CEL rules say so, not the schema.
_EITHER = (
    {"run", "command", "uses"}, {"tasks", "workflowRef"}, {"emptyDir", "configMap", "ephemeral"},
    {"tcp", "http", "exec"}, {"count", "targetDuration"},
)  # fmt: skip

TEXTS = (
    "", " ", "a", "b", "c", "default", "a" * 63, "A" * 254, "0", "-1", "1e999", "0x7f", "None", "null", "~", "true",
    "../../etc/passwd", "/", ".", "**/*", "$(id)", "`id`", "; rm -rf /", "$(DAWG_RUN)", "$$", "${PATH}", "%s%n", "{0}",
    "{{ 7*7 }}", "'", '"', "\\", "\n", "a\nb: c", "\r\n", "\t", "\x00", "a\x00b", "\x1b[31m", "\x7f", "\u2028",
    "\u202etxt", "\ufeff", "\u0130", "\u00df", "\u00e9", "e\u0301", "\ud7ff", "\uffff", "\U0001f4a5" * 9,
    "\u4e2d\u6587", "\u0661\u0662", "<script>", "--upload-pack=x", "tasks['a'].verdict == 'Passed'",
    "tasks.all(t, true)", "1/0 == 1", "params.x", "has(tasks.a)", "[1].map(x, [x])", "((", "ssh://h:99999999/r",
    "https://[::1", "https://h/r", "git@h:r", "HEAD", "0" * 40, "Passed", "PASSED", "Unknown", "MergeAllowed", "Seen",
    "PFSX.", "10m", "0s", "999999999d", "9" * 31 + "d", "1ms", "* * * * *", "0 0 30 2 *", "*/0 * * * *", "1Gi", "1e9",
    "cpu", "memory", "requests.cpu", "Europe/Berlin", "dawg.dev/run-uid", "DAWG_X", "X", "x" * 4096,
)  # fmt: skip
TIMES = (
    "2026-01-05T11:00:00Z", "2026-01-05T12:00:00.123456789Z", "2026-01-05T13:00:00+14:00", "1969-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 40, 255, 256, 1000, 2**31, LARGEST, -LARGEST - 1)
_KEYS = tuple(text for text in TEXTS if len(text) <= 63)  # what a rule says of parameters and matrices
_LABEL_KEYS = (
    "a", "a" * 63, "dawg.dev/run-uid", "dawg.dev/index", "dawg.dev/for-tests", "dawg.dev/role", "d" * 63 + ".dev/x",
    "app.kubernetes.io/instance-argocd", "argocd.argoproj.io/tracking-id", "kustomize.toolkit.fluxcd.io/name",
)  # fmt: skip
_NAMES = ("a", "run", "r" * 253, ".".join(["n" * 63] * 3), "0", "a--b", "a.b-c.d", "x" * 39 + "-" + "y" * 9)


def examples(few: int) -> Callable[[T], T]:
    """So many examples, always the same; with DAWG_FUZZ_EXAMPLES as many as it says, new ones each time."""
    wanted = int(os.environ.get("DAWG_FUZZ_EXAMPLES", "0"))
    return settings(
        max_examples=wanted or few, derandomize=not wanted, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def specs(kind: str) -> st.SearchStrategy[JsonObject]:
    """Specs that the schema of a kind takes."""
    return values(schema_of(kind))


def statuses(kind: str) -> st.SearchStrategy[JsonObject]:
    """Statuses that the schema of a kind takes, as anybody may have left them."""
    return values(schema_of(kind, "status"))


def labels() -> st.SearchStrategy[dict[str, str]]:
    """Labels that the apiserver takes."""
    text = st.sampled_from(("", "a", "0", "1_0", "true", "a" * 63, "9" * 63, "A.b-c_d"))
    return st.dictionaries(st.sampled_from(_LABEL_KEYS), text, max_size=3)


def annotations() -> st.SearchStrategy[dict[str, str]]:
    """Annotations that the apiserver takes: any text."""
    return st.dictionaries(st.sampled_from(_LABEL_KEYS), st.sampled_from(TEXTS), max_size=3)


def names() -> st.SearchStrategy[str]:
    """Names that the apiserver takes."""
    return st.sampled_from(_NAMES)


@st.composite
def metadata(draw: st.DrawFn) -> JsonObject:
    """What an object's owner may say of it."""
    return {"name": draw(names()), "labels": draw(labels()), "annotations": draw(annotations())}


def junk() -> st.SearchStrategy[Any]:
    """Any JSON at all."""
    odd = (None, True, "", [], {}, [[]], {"": None}, 1e308, -0.5, 10**40, -(10**40))
    return st.one_of(st.sampled_from(odd), st.sampled_from(TEXTS), st.sampled_from(_NUMBERS), st.sampled_from(TIMES))


@st.composite
def spoilt(draw: st.DrawFn, whole: Any) -> Any:
    """A copy of a JSON value in which one thing somewhere is missing or something else."""
    copy = json.loads(json.dumps(whole))
    places = list(_places(copy))
    if not places:
        return draw(junk())
    parent, key = draw(st.sampled_from(places))
    if draw(st.integers(0, 3)) == 0:
        del parent[key]
    else:
        parent[key] = draw(junk())
    return copy


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


_made: dict[int, tuple[Schema, st.SearchStrategy[Any]]] = {}  # with its schema, whose id would else be used again


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """What a schema takes."""
    known = _made.get(id(schema))
    if known is None:
        known = _made[id(schema)] = (schema, _make(schema))
    return known[1]


def _make(schema: Schema) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return st.one_of(st.sampled_from(_NUMBERS), _texts(schema))
    if "type" not in schema:
        return junk()
    makers: Mapping[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
        "string": _texts, "integer": _integers, "number": _numbers, "boolean": lambda _: st.booleans(),
        "array": _lists, "object": _objects,
    }  # fmt: skip
    return makers[schema["type"]](schema)


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.sampled_from(TIMES)
    if "x-kubernetes-int-or-string" in schema:
        schema = {"type": "string", "pattern": schema["pattern"], "maxLength": 20}
    longest = min(schema.get("maxLength", 300), 70_000)
    candidates = dict.fromkeys((*TEXTS, *(text * math.ceil(longest / len(text)) for text in ("a", "\u00e9", "1d"))))
    fitting = [text for text in dict.fromkeys(text[:longest] for text in candidates) if not any(faults(schema, text))]
    if not fitting:
        return st.from_regex(re.compile(schema["pattern"]), fullmatch=True)
    return st.sampled_from(fitting)


def _integers(schema: Schema) -> st.SearchStrategy[int]:
    edges = [schema[edge] for edge in ("minimum", "maximum") if edge in schema]
    return st.sampled_from([number for number in (*edges, *_NUMBERS) if not any(faults(schema, number))])


def _numbers(schema: Schema) -> st.SearchStrategy[float]:
    edges = [schema[edge] for edge in ("minimum", "maximum") if edge in schema]
    odd = (*edges, 0, 1, 0.5, 5e-324, 1e308, -1.5, 0.1)
    return st.sampled_from([number for number in odd if not any(faults(schema, number))])


def _lists(schema: Schema) -> st.SearchStrategy[list[Any]]:
    keys = schema.get("x-kubernetes-list-map-keys")
    unique = (lambda item: tuple(item[key] for key in keys)) if keys else None
    least = schema.get("minItems", 0)
    most = min(schema.get("maxItems", 3), least + 3)
    return st.lists(values(schema["items"]), min_size=least, max_size=most, unique_by=unique)


def _objects(schema: Schema) -> st.SearchStrategy[JsonObject]:
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return st.dictionaries(st.sampled_from(_KEYS), values(inner), max_size=min(schema.get("maxProperties", 3), 3))
    if not schema.get("properties"):
        return st.dictionaries(st.sampled_from(_KEYS), junk(), max_size=2)
    return _records(schema)


@st.composite
def _records(draw: st.DrawFn, schema: Schema) -> JsonObject:
    """The required fields and a few of the others."""
    known = schema["properties"]
    required = list(schema.get("required", ()))
    either = next((group for group in _EITHER if group <= known.keys()), set())
    chosen = [draw(st.sampled_from([*sorted(either)] if draw(st.integers(0, 9)) else [""]))] if either else []
    optional = [name for name in known if name not in required and name not in either]
    if optional:
        chosen += draw(st.lists(st.sampled_from(optional), unique=True, max_size=4))
    return {name: draw(values(known[name])) for name in [*required, *filter(None, chosen)]}
