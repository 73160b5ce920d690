"""What all declared and reported objects share: camelCase on the wire, snake_case in Python, durations as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

# So many digits that no sum of a time and a duration leaves the calendar.
DURATION_PATTERN = r"^([0-9]{1,9}ms|[0-9]{1,8}s|[0-9]{1,7}m|[0-9]{1,6}h|[0-9]{1,5}d)+$"
_DURATION_LENGTH = 32
_YEARS = range(1970, 8000)
_UNIT = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_STEPS = ((86400000, "d"), (3600000, "h"), (60000, "m"), (1000, "s"), (1, "ms"))


def parse_duration(text: object) -> timedelta:
    """Turn ``90s``, ``10m`` or ``1h30m`` into a timedelta; raise ValueError naming the accepted form."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or len(text) > _DURATION_LENGTH or not re.match(DURATION_PATTERN, text):
        raise ValueError(f"{text!r:.60} is not a duration; write it like 90s, 10m or 1h30m, and at most 99999d")
    parts = re.findall(r"([0-9]+)(ms|s|m|h|d)", text)
    return sum((timedelta(**{_UNIT[unit]: int(number)}) for number, unit in parts), timedelta())


def format_duration(value: timedelta) -> str:
    """Write a timedelta the way users write it; the largest units first, nothing below a millisecond."""
    rest = round(value.total_seconds() * 1000)
    if rest <= 0:
        return "0s"
    text = ""
    for size, unit in _STEPS:
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text


def parse_time(text: object) -> datetime:
    """Turn the API's RFC 3339 text into an aware UTC datetime."""
    if not isinstance(text, str | datetime):
        raise ValueError(f"{text!r} is not a time")
    try:
        time = (datetime.fromisoformat(text) if isinstance(text, str) else text).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is not a time of our calendar") from error
    if time.year not in _YEARS:
        raise ValueError(f"{text!r} is not a time between the years {_YEARS.start} and {_YEARS.stop}")
    return time


def format_time(value: datetime) -> str:
    """Write a time as the Kubernetes API does: UTC, whole seconds."""
    return value.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def format_micro_time(value: datetime) -> str:
    """Write a time as Kubernetes' MicroTime, for leases and for what is measured."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": _DURATION_LENGTH}),
]
Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Model(BaseModel):
    """A declared or reported object. Unknown fields are ignored: an older release reads a newer one's objects."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself, since it is frozen: thousands of objects share what they leave at its default."""
        return self

    def wire(self) -> dict[str, Any]:
        """The object as the API stores it: camelCase keys, no empty values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
