"""What kopf is told: handlers that stay in the event loop, and settings under which it writes and keeps nothing."""

from __future__ import annotations

import inspect

from builders import NOON
from dawg_orchestrator.cluster.observe import WATCHED
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.watches import make_registry, make_settings


def test_every_handler_is_a_coroutine_because_kopf_runs_others_in_threads() -> None:
    registry = make_registry(Desk(1, lambda _key, _at: None, NOON))

    handlers = registry._watching.get_all_handlers()
    assert len(handlers) == len(WATCHED) - 1  # TestRuns have a watch of their own
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in handlers)


def test_kopf_posts_no_events_and_keeps_no_copies() -> None:
    settings = make_settings()

    assert settings.posting.enabled is False
    assert settings.persistence.diffbase_storage.build(body={"spec": {"large": "x" * 1000}}) == {}  # type: ignore[typeddict-item]
