"""Every error the product raises on purpose.

    DawgError
    ├── InvalidSpec          the user's object cannot run: say which field, and what would be right
    ├── ClusterError         the Kubernetes API answered with an error
    │   ├── NotFound         404
    │   ├── Conflict         409: somebody wrote first, or the name is taken
    │   ├── Invalid          422, 400, 403 by policy: the same request will never be accepted
    │   ├── Forbidden        401, 403: a right is missing
    │   └── Unavailable      429, 5xx, no connection: try again later
    ├── StoreError           history or artifacts cannot be read or written now
    └── ForgeError, PayloadError   a forge, or what it sends: see ``forge/faults.py``

HTTP errors are translated once, in ``cluster/client.py``, and caught once, in ``controller/reconcile.py``.
"""

from __future__ import annotations


class DawgError(Exception):
    """Base of all errors below; never raised itself."""


class InvalidSpec(DawgError):
    """The object cannot run as written; ``field`` names the place, the message the remedy."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class ClusterError(DawgError):
    """The Kubernetes API refused a request; ``status`` is its HTTP code, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFound(ClusterError):
    """The object does not exist, or no longer."""


class Conflict(ClusterError):
    """Somebody wrote first, or an object of that name exists already."""


class Invalid(ClusterError):
    """The API will never accept this request."""


class Forbidden(ClusterError):
    """The caller lacks a right for this request."""


class Unavailable(ClusterError):
    """The API cannot answer now; the request may be repeated. ``retry_after`` is in seconds."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, status)
        self.retry_after = retry_after


class StoreError(DawgError):
    """History or artifacts cannot be read or written now."""
