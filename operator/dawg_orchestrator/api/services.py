"""What all doors stand on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dawg_orchestrator.api.auth import Clock, Reviews
from dawg_orchestrator.api.contents import Contents
from dawg_orchestrator.api.follow import Follower
from dawg_orchestrator.api.learned import Lessons
from dawg_orchestrator.api.metrics import Metrics
from dawg_orchestrator.api.wakes import Alarm
from dawg_orchestrator.api.workloads import Workloads
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History


@dataclass(frozen=True)
class Services:
    """One of each; ``closing`` is set when the process is to end, so that open streams end too."""

    settings: ApiSettings
    cluster: Cluster
    history: History
    reviews: Reviews
    contents: Contents
    workloads: Workloads
    follower: Follower
    lessons: Lessons
    metrics: Metrics
    alarm: Alarm
    clock: Clock
    closing: asyncio.Event = field(default_factory=asyncio.Event)


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)
