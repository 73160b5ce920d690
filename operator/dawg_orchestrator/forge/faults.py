"""What goes wrong with a forge, or with what says that it comes from one.

    ForgeError
    ├── Refused        asking again changes nothing: what is wrong, and the remedy
    └── Unreachable    it does not answer, or not now: ask again later
        └── RateLimited    later than ``retry_after``
    PayloadError
    ├── NotForUs       it is whole, and of no interest
    └── Malformed      it is not what that forge sends; ``field`` names the place

None of them holds a token or a secret.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from dawg_orchestrator.errors import DawgError


class Cause(StrEnum):
    """Why a forge refuses."""

    TOKEN = "WrongToken"  # noqa: S105 - the name of a reason
    RIGHT = "NoRight"
    NOT_FOUND = "NotFound"
    MOVED = "Moved"
    INVALID = "Invalid"
    CERTIFICATE = "UnknownCertificate"
    NOT_A_FORGE = "NotAForge"


class ForgeError(DawgError):
    """A forge did not do what was asked; never raised itself."""


class Refused(ForgeError):
    """It will not. ``reason`` says what is wrong, ``remedy`` what would change it; ``status`` is HTTP's, or 0."""

    def __init__(self, cause: Cause, reason: str, remedy: str, status: int = 0) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.cause = cause
        self.reason = reason
        self.remedy = remedy
        self.status = status


class Unreachable(ForgeError):
    """It does not answer in time, answers without end, or says that it cannot now."""


class RateLimited(Unreachable):
    """It was asked too often; it answers again after ``retry_after``."""

    def __init__(self, where: str, retry_after: timedelta) -> None:
        super().__init__(f"{where} was asked too often: ask again in {retry_after.total_seconds():.0f} seconds")
        self.retry_after = retry_after


class PayloadError(DawgError):
    """A webhook's request is not used; never raised itself."""


class NotForUs(PayloadError):
    """The forge tells of something that starts nothing and wakes nothing."""


class Malformed(PayloadError):
    """A field is missing, or not what it must be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
