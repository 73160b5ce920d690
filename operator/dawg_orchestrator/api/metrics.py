"""What Prometheus reads of this role; labels are bounded: routes are templates, never paths."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


class Metrics:
    """The role's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dawg_api_requests_total", "Requests by door, route and status.", ["door", "method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "dawg_api_request_seconds", "Time until an answer begins.", ["door"], registry=self.registry,
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
        )  # fmt: skip
        self.recorded = Counter("dawg_api_runs_recorded_total", "Runs written to history.", registry=self.registry)
        self.unrecorded = Gauge(
            "dawg_api_runs_unrecorded", "Finished runs that wait to be written to history.", registry=self.registry
        )
        self.webhooks = Counter(
            "dawg_webhooks_total",
            "Webhooks by result: started, woken, hello, repeated; or refused: unverified, invalid, conflict, forbidden,"
            " slow, large, busy, unavailable.",
            ["result"], registry=self.registry,
        )  # fmt: skip
        self.forgotten = Counter("dawg_api_runs_forgotten_total", "Runs deleted by age.", registry=self.registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class Counted:
    """Counts the requests of one door."""

    def __init__(self, app: ASGIApp, metrics: Metrics, door: str) -> None:
        self._app = app
        self._metrics = metrics
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        method = scope["method"] if scope["method"] in _METHODS else "other"

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(self._door, method, route, str(message["status"])).inc()
                self._metrics.seconds.labels(self._door).observe(time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, send_counted)
