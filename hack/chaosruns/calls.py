"""What a controller asks of the apiserver, by kind."""

from __future__ import annotations

from collections.abc import Mapping

_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "replace", "DELETE": "delete"}


def kind_of(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Who does what to which resource, such as ``controller replace testruns/status``."""
    who = _who(headers.get("User-Agent", ""))
    # /api/VERSION/… or /apis/GROUP/VERSION/…, then the namespace where there is one
    words = path.strip("/").split("/")
    words = words[2:] if words[0] == "api" else words[3:]
    if len(words) > 2 and words[0] == "namespaces":
        words = words[2:]
    if not words:
        return f"{who} discover"
    resource = "/".join([words[0], *words[2:]])
    if method != "GET":
        verb = _VERBS[method]
    elif query.get("watch") == "true":
        verb = "watch"
    elif len(words) > 1:
        verb = "get"
    else:
        verb = "list-metadata" if "PartialObjectMetadata" in headers.get("Accept", "") else "list"
    return f"{who} {verb} {resource}"


def event_kind(watch_kind: str) -> str:
    """The events of a watch are a kind of their own."""
    return watch_kind.replace(" watch ", " event ")


def is_write(kind: str) -> bool:
    """Whether calls of this kind change anything."""
    return kind.split()[1] in _VERBS.values()


def _who(agent: str) -> str:
    if agent.startswith("dawg-"):
        return agent.removeprefix("dawg-").partition("/")[0]
    return "watcher" if agent.startswith("kopf") else agent.partition("/")[0] or "unknown"
