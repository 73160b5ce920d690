"""Schedules as a table. Pure: JSON in, something to print out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from dawg_orchestrator.client.view_lists import condition_of, table
from dawg_orchestrator.client.wording import age, until, word

JsonObject = Mapping[str, Any]


def schedules_view(schedules: Sequence[JsonObject], namespace: str, now: datetime) -> RenderableType:
    """When each fires next, what it started last, what it missed, and why it does not fire."""
    if not schedules:
        return Text(f"namespace {namespace!r} has no Schedule; `kubectl apply -f examples/schedule.yaml` makes one")
    shown = table("SCHEDULE", "CRON", "TIMEZONE", "NEXT", "LAST", "ACTIVE", "MISSED", "READY", "REASON", "MESSAGE")
    for schedule in schedules:
        spec, status = schedule.get("spec") or {}, schedule.get("status") or {}
        ready = condition_of(schedule, "Ready")
        last = status.get("lastScheduleTime")
        shown.add_row(
            word(schedule["metadata"]["name"]), word("; ".join(spec.get("cron") or ())),
            word(spec.get("timezone", "UTC")), until(_next_start(status), now),
            f"{age(last, now)} ago" if last else "-", str(len(status.get("active") or ())),
            str(sum(entry.get("count", 1) for entry in status.get("missed") or ())), word(ready.get("status", "-")),
            word(ready.get("reason", "-")),
            word(_message(schedule, ready)),
        )  # fmt: skip
    return shown


def _message(schedule: JsonObject, ready: JsonObject) -> str:
    """Why it starts nothing, why it starts when it does, or what is known of its branch; in this order."""
    watching = condition_of(schedule, "Watching")
    if ready.get("status") != "True":
        return str(ready.get("message", ""))
    if watching.get("status") == "False":
        return f"{watching.get('reason')}: {watching.get('message')}"
    reason = (schedule.get("status") or {}).get("predictionReason")
    return str(reason or watching.get("message") or "")


def prediction_view(schedule: JsonObject, now: datetime) -> RenderableType | None:
    """When a smart Schedule starts its next run by itself, and why then; None for one that goes by the clock alone."""
    status = schedule.get("status") or {}
    if not status.get("predictionReason"):
        return None
    return Text.assemble(
        "by itself it starts next ", until(_next_start(status), now), ": ", word(status["predictionReason"])
    )


def _next_start(status: JsonObject) -> object:
    return status.get("predictedStart") or status.get("nextScheduleTime")
