"""Due times of cron expressions in a time zone.

Where clocks change, expressions behave as in Debian's cron: a fixed time that the change skips is due right after it,
one that comes twice is due the first time; a minute or hour that is a ``*`` or ``*/n`` follows the clock through it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from dawg_orchestrator.errors import InvalidSpec

_FIELDS = 5


def check_cron(expressions: Sequence[str], timezone: str) -> None:
    """InvalidSpec names the field that gives no due times."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        told = f"{timezone!r} is no time zone; write it like Europe/Berlin, or UTC"
        raise InvalidSpec("spec.timezone", told) from error
    for position, expression in enumerate(expressions):
        field = f"spec.cron[{position}]"
        if len(expression.split()) != _FIELDS:
            raise InvalidSpec(field, f"{expression!r} has not five fields: minute, hour, day, month, day of the week")
        try:
            CronSim(expression, datetime(2000, 1, 1, tzinfo=zone))
        except CronSimError as error:
            raise InvalidSpec(field, f"{expression!r} is no cron expression: {error}") from error


def due_times(expressions: Sequence[str], timezone: str, after: datetime) -> Iterator[datetime]:
    """The due times after a time (UTC), each once, in their order; an expression may have none."""
    zone = ZoneInfo(timezone)
    streams = [_of_one(expression, zone, after) for expression in expressions]
    last = after
    for due in heapq.merge(*streams):
        if due > last:
            last = due
            yield due


def _of_one(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    # The library goes by local time: what it says of an hour that comes twice may lie before ``after``.
    for due in CronSim(expression, after.astimezone(zone)):
        yield due.astimezone(UTC)
