"""Whoever follows a run hears what it becomes, whatever happens to the watch in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from dawg_orchestrator.client import watching
from dawg_orchestrator.client.watching import Gone, Quiet, Seen, watch_run
from dawg_orchestrator.errors import ClusterError, Forbidden, Unavailable

Answer = dict[str, Any] | ClusterError
EXPIRED = {"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}
DOWN = Unavailable("connection refused")


def a_testrun(verdict: str | None = None, uid: str = "uid-1", version: str = "7") -> dict[str, Any]:
    status = {"verdict": verdict} if verdict else {}
    return {"metadata": {"name": "a", "namespace": "n", "uid": uid, "resourceVersion": version}, "status": status}


def listed(*items: dict[str, Any], version: str = "5") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "items": list(items)}


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


class Script:
    """An API that answers lists and watches in the given order; a watch is the events it brings, or why it fails."""

    def __init__(self, lists: list[Answer], watches: list[list[dict[str, Any]] | ClusterError]) -> None:
        self.lists = lists
        self.watches = watches
        self.watched_from: list[str] = []

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        assert query["fieldSelector"] == "metadata.name=a"
        answer = self.lists.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], *, read_seconds: float) -> Iterator[Any]:
        assert query["fieldSelector"] == "metadata.name=a"
        self.watched_from.append(query["resourceVersion"])
        events = self.watches.pop(0)
        if isinstance(events, ClusterError):
            raise events
        body = b"".join(json.dumps(one).encode() + b"\n" for one in events)
        yield SimpleNamespace(stream=lambda size: (body[at : at + 7] for at in range(0, len(body), 7)))


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], list[Any]]:
    """Follow until the verdict or the end; without waiting between tries."""
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: None)

    def followed(script: Script) -> list[Any]:
        heard: list[Any] = []
        for news in watch_run(script, "n", "a", uid="uid-1"):  # type: ignore[arg-type]
            heard.append(news)
            if isinstance(news, Seen) and news.run.status.verdict:
                break
        return heard

    return followed


def verdicts(heard: list[Any]) -> list[str | None]:
    return [news.run.status.verdict for news in heard if isinstance(news, Seen)]


def test_an_expired_watch_is_replaced_by_a_list(follow: Callable[[Script], list[Any]]) -> None:
    heard = follow(Script([listed(a_testrun()), listed(a_testrun("Passed"))], [[EXPIRED]]))

    assert verdicts(heard) == [None, "Passed"]


def test_a_watch_that_ends_in_order_goes_on_from_its_last_version(follow: Callable[[Script], list[Any]]) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
    script = Script([listed(a_testrun())], [[], [bookmark], [event("MODIFIED", a_testrun("Failed"))]])

    assert verdicts(follow(script)) == [None, "Failed"]
    assert script.watched_from == ["5", "5", "9"]


def test_an_apiserver_that_restarts_is_waited_for(follow: Callable[[Script], list[Any]]) -> None:
    not_yet_ready = Forbidden("roles are not loaded yet", 403)
    script = Script([listed(a_testrun()), DOWN, DOWN, not_yet_ready, listed(a_testrun("Passed"))], [DOWN])

    heard = follow(script)

    assert verdicts(heard) == [None, "Passed"]
    assert [news.problem for news in heard if isinstance(news, Quiet) and news.problem] == [
        "connection refused", "connection refused", "connection refused", "roles are not loaded yet",
    ]  # fmt: skip


def test_rights_that_stay_away_are_an_error(
    follow: Callable[[Script], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PATIENCE_SECONDS", -1.0)

    with pytest.raises(Forbidden):
        follow(Script([Forbidden("no", 403)], []))


@pytest.mark.parametrize(
    ("lists", "watches"),
    [
        ([listed(a_testrun())], [[event("DELETED", a_testrun())]]),
        ([listed(a_testrun()), listed()], [[EXPIRED]]),
        ([listed(a_testrun()), listed(a_testrun(uid="uid-2"))], [[EXPIRED]]),
        ([listed(a_testrun())], [[event("ADDED", a_testrun(uid="uid-2"))]]),
    ],
    ids=["deleted", "deleted while not watched", "recreated while not watched", "recreated"],
)
def test_a_run_that_is_gone_is_told_once(
    follow: Callable[[Script], list[Any]], lists: list[Answer], watches: list[Any]
) -> None:
    heard = follow(Script(lists, watches))

    assert isinstance(heard[-1], Gone)
    assert sum(isinstance(news, Gone) for news in heard) == 1


def test_a_verdict_that_came_with_the_deletion_is_not_lost(follow: Callable[[Script], list[Any]]) -> None:
    heard = follow(Script([listed(a_testrun())], [[event("DELETED", a_testrun("Passed"))]]))

    assert heard[-1].last.status.verdict == "Passed"
