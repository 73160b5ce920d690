"""From the flags of `dawg run` to a TestRun. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.names import API_VERSION

JsonObject = dict[str, Any]
TASK_NAME = "test"
_LONGEST_PREFIX = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class InlineRun:
    """What the person wrote on the command line; ``command`` is everything after ``--``."""

    image: str | None
    command: Sequence[str]
    name: str | None = None
    pool: str | None = None
    priority: str | None = None
    env: Sequence[str] = ()
    junit: Sequence[str] = ()
    git_url: str | None = None
    revision: str | None = None
    task_timeout: str | None = None


def manifest_of(flags: InlineRun, environment: Mapping[str, str]) -> JsonObject:
    """The TestRun that the flags describe; InvalidSpec names the flag that is wrong."""
    if not flags.command:
        raise InvalidSpec("--", "say what to run after `--`, as in: dawg run --image python:3.12 -- pytest -q")
    if flags.revision is not None and flags.git_url is None:
        raise InvalidSpec("--revision", "goes with --git URL")
    task: JsonObject = {"name": TASK_NAME, **_what_to_run(flags.command)}
    if flags.image:
        task["image"] = flags.image
    if flags.env:
        task["env"] = list(_variables(flags.env, environment))
    if flags.junit:
        task["results"] = {"junit": list(flags.junit)}
    spec: JsonObject = {"tasks": [task]}
    if flags.task_timeout is not None:
        spec["timeout"] = task["timeout"] = flags.task_timeout
    for field, value in (("pool", flags.pool), ("priority", flags.priority)):
        if value is not None:
            spec[field] = value
    if flags.git_url is not None:
        git = {"url": flags.git_url} | ({"revision": flags.revision} if flags.revision is not None else {})
        spec["source"] = {"git": git}
    metadata = {"name": flags.name} if flags.name else {"generateName": _prefix(flags.command[0])}
    return {"apiVersion": API_VERSION, "kind": "TestRun", "metadata": metadata, "spec": spec}


def manifest_of_documents(documents: Iterable[Any], origin: str) -> JsonObject:
    """The only TestRun among the documents of a file."""
    found = [document for document in documents if document is not None]
    kinds = [str(one.get("kind")) if isinstance(one, dict) else type(one).__name__ for one in found]
    if len(found) != 1 or kinds != ["TestRun"]:
        raise InvalidSpec(origin, f"has {', '.join(kinds) or 'nothing'}; `dawg run` takes exactly one TestRun")
    manifest: JsonObject = found[0]
    if manifest.get("apiVersion") != API_VERSION:
        raise InvalidSpec(f"{origin}: apiVersion", f"is {manifest.get('apiVersion')!r}; write {API_VERSION}")
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise InvalidSpec(f"{origin}: metadata", "set generateName (a new name each time) or name")
    return manifest


def in_namespace(manifest: JsonObject, asked: str | None, default: str) -> JsonObject:
    """The manifest with its namespace: the one in it, which --namespace may not contradict, or the default."""
    own = manifest["metadata"].get("namespace")
    if own and asked and own != asked:
        raise InvalidSpec("--namespace", f"is {asked!r}, but metadata.namespace is {own!r}; drop one of them")
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": own or asked or default}}


def _what_to_run(command: Sequence[str]) -> JsonObject:
    """One argument with blanks in it is a script; otherwise the arguments go to the program as they are."""
    if len(command) == 1 and re.search(r"\s", command[0]):
        return {"run": command[0]}
    return {"command": list(command)}


def _variables(settings: Sequence[str], environment: Mapping[str, str]) -> Iterable[JsonObject]:
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InvalidSpec("--env", f"{setting!r} is not NAME=VALUE")
        if not equals and name not in environment:
            raise InvalidSpec("--env", f"{name} has no value here; write {name}=VALUE or export it")
        yield {"name": name, "value": value if equals else environment[name]}


def _prefix(program: str) -> str:
    """A start of the run's name from the program: ``/usr/bin/Pytest`` becomes ``pytest-``."""
    word = program.split(maxsplit=1)[0].rsplit("/", 1)[-1].lower() if program.strip() else ""
    cleaned = re.sub(r"[^a-z0-9]+", "-", word).strip("-")[:_LONGEST_PREFIX].strip("-")
    return f"{cleaned or 'run'}-"
