"""A Kubernetes API in memory: versions, conflicts, selectors, deletion, watches, and the rules of our definitions.

Objects are never changed in place: whoever was given one keeps it as it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from dawg_orchestrator.errors import Conflict, Invalid, NotFound
from dawg_orchestrator.resources.model import format_time

JsonObject = dict[str, Any]
Name = tuple[str, str, str]  # plural, namespace, name
Changed = Callable[[str, JsonObject | None, JsonObject | None, str], None]  # plural, before, after, by whom


class ApiServer:
    """``changed`` is told of every change before anybody else hears of it."""

    def __init__(self, clock: Callable[[], datetime], changed: Changed) -> None:
        self._clock, self._changed = clock, changed
        self._objects: dict[str, dict[tuple[str, str], JsonObject]] = {}
        self._version = 0
        self.watchers: list[Callable[[str, JsonObject | None, JsonObject | None], None]] = []

    def request(self, who: str, method: str, path: str, body: JsonObject | None, params: Any = None) -> JsonObject:
        """One HTTP request; the errors are those that the client makes of the real answers."""
        plural, namespace, name, subresource = _parse(path)
        match method:
            case "GET" if name:
                return self.get(plural, namespace, name)
            case "GET":
                items = [obj for obj in self.all(plural) if matches(obj, params or {})]
                return {"items": items, "metadata": {"resourceVersion": str(self._version)}}
            case "POST":
                return self.create(plural, namespace, body or {}, who)
            case "PATCH":
                return self._patch((plural, namespace, name), body or {}, who)
            case "PUT":
                return self._replace((plural, namespace, name), body or {}, subresource, who)
            case _:
                return self.delete(plural, namespace, name, body or {}, who)

    def all(self, plural: str) -> list[JsonObject]:
        """All objects of a kind."""
        return list(self._objects.get(plural, {}).values())

    def find(self, plural: str, namespace: str, name: str) -> JsonObject | None:
        """One object, if there is one."""
        return self._objects.get(plural, {}).get((namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> JsonObject:
        """One object, or NotFound."""
        found = self.find(plural, namespace, name)
        if found is None:
            raise NotFound(f'{plural} "{name}" not found', 404)
        return found

    def create(self, plural: str, namespace: str, body: JsonObject, who: str) -> JsonObject:
        """A new object."""
        if plural == "events":
            return body
        metadata = body["metadata"]
        if self.find(plural, namespace, metadata["name"]) is not None:
            raise Conflict(f'{plural} "{metadata["name"]}" already exists', 409)
        made = {
            **body,
            "metadata": {
                **metadata, "namespace": namespace, "uid": f"{plural}-{self._version + 1}", "generation": 1,
                "creationTimestamp": format_time(self._clock()),
            },
        }  # fmt: skip
        return self._store(plural, None, made, who)

    def change(self, plural: str, namespace: str, name: str, patch: JsonObject, who: str) -> JsonObject:
        """Merge a patch into an object, whatever its version."""
        before = self.get(plural, namespace, name)
        return self._store(plural, before, merged(before, patch), who)

    def delete(self, plural: str, namespace: str, name: str, options: JsonObject, who: str) -> JsonObject:
        """Delete at once, or in the foreground: then the object stays until ``remove``."""
        found = self.get(plural, namespace, name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != found["metadata"]["uid"]:
            raise Conflict("the uid in the precondition does not match", 409)
        if options.get("propagationPolicy") == "Foreground":
            if "deletionTimestamp" not in found["metadata"]:
                stamp = {"metadata": {"deletionTimestamp": format_time(self._clock())}}
                self._store(plural, found, merged(found, stamp), who)
            return {}
        self.remove(plural, found, who)
        return {}

    def remove(self, plural: str, obj: JsonObject, who: str) -> None:
        """The object is gone, if it is still that one."""
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        found = self._objects.get(plural, {}).get(key)
        if found is None or found["metadata"]["uid"] != obj["metadata"]["uid"]:
            return
        del self._objects[plural][key]
        self._version += 1
        gone = merged(found, {"metadata": {"resourceVersion": str(self._version)}})
        self._changed(plural, found, None, who)
        self._tell(plural, gone, None)

    def _patch(self, name: Name, body: JsonObject, who: str) -> JsonObject:
        before = self.get(*name)
        after = merged(before, body)
        if name[0] == "testruns":
            _check_rules(before, after)
        return self._store(name[0], before, after, who)

    def _replace(self, name: Name, body: JsonObject, subresource: str, who: str) -> JsonObject:
        before = self.get(*name)
        if body["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified", 409)
        if subresource == "status":
            after = {**before, "status": body["status"]}
        else:
            after = {**body, "metadata": before["metadata"]}
        if name[0] == "testruns":
            _check_rules(before, after)
        return self._store(name[0], before, after, who)

    def _store(self, plural: str, before: JsonObject | None, after: JsonObject, who: str) -> JsonObject:
        if before is not None and before == after:
            return before
        self._version += 1
        after = {**after, "metadata": {**after["metadata"], "resourceVersion": str(self._version)}}
        self._objects.setdefault(plural, {})[after["metadata"]["namespace"], after["metadata"]["name"]] = after
        self._changed(plural, before, after, who)
        self._tell(plural, before, after)
        return after

    def _tell(self, plural: str, before: JsonObject | None, after: JsonObject | None) -> None:
        for watcher in list(self.watchers):
            watcher(plural, before, after)


def merged(target: JsonObject, patch: JsonObject) -> JsonObject:
    """RFC 7386, without touching the target."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            known = result.get(key)
            result[key] = merged(known if isinstance(known, dict) else {}, value)
        else:
            result[key] = value
    return result


def matches(obj: JsonObject, selectors: dict[str, str]) -> bool:
    """Whether an object is among those that the selectors name."""
    label, _, value = selectors.get("labelSelector", "").partition("=")
    if label and (obj["metadata"].get("labels") or {}).get(label) != value:
        return False
    return all(_has(obj, field) for field in selectors.get("fieldSelector", "").split(",") if field)


def _has(obj: JsonObject, wanted: str) -> bool:
    """Whether a selectable field has the value that is wanted; one that is not there is empty."""
    path, equals, value = wanted.replace("!=", "=!").partition("=")
    assert equals
    found: Any = obj
    for part in path.split("."):
        found = (found or {}).get(part)
    text = "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
    return text != value[1:] if value.startswith("!") else text == value


def owned(objects: Iterator[JsonObject] | list[JsonObject], uid: str) -> list[JsonObject]:
    """Those that an object owns."""
    return [
        obj for obj in objects if any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences") or ())
    ]


def _check_rules(before: JsonObject, after: JsonObject) -> None:
    """The transition rules of crds/."""
    old, new = before.get("status") or {}, after.get("status") or {}
    if "term" in old and not new.get("term", -1) >= old["term"]:
        raise Invalid("a newer leader has written this status; a former leader's word no longer counts", 422)
    if "verdict" in old and new.get("verdict") != old["verdict"]:
        raise Invalid("a verdict is final; create another run instead", 422)


@functools.lru_cache(maxsize=4096)
def _parse(path: str) -> tuple[str, str, str, str]:
    """The plural, namespace, name and subresource of a path."""
    parts = path.split("/")
    after = parts.index("namespaces")
    namespace, plural, *rest = parts[after + 1 :]
    name, subresource, *_ = [*rest, "", ""]
    return plural, namespace, name, subresource
