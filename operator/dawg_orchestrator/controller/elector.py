"""Who leads: one Lease, renewed by the monotonic clock. A process that cannot renew in time ends itself.

The term is the Lease's ``leaseTransitions``: it grows at each take-over, also by the same process started again, and
stands in every status, so that the CRD can refuse a former leader's word.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from dawg_orchestrator.cluster.client import LEASES, Cluster, JsonObject
from dawg_orchestrator.errors import ClusterError, Conflict, NotFound
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_micro_time

log = structlog.get_logger()

# Short, because nothing is granted until the next leader has the Lease and all agents have found it: within 5 seconds.
DURATION_SECONDS = 3
_RENEW_SECONDS = 0.9
_CALL_SECONDS = 0.7
_GIVE_UP_SECONDS = 2.3  # shorter than DURATION: the old leader is silent before a new one can speak
_POLL_SECONDS = 0.25


def _monotonic() -> float:
    """Seconds by the event loop's clock, which is the monotonic one."""
    return asyncio.get_running_loop().time()


class LeadershipLost(Exception):
    """The lease could not be renewed, or somebody else holds it: this process must stop at once."""


@dataclass
class _Observed:
    """A holder's record and when, by our own clock, it last changed."""

    record: tuple[object, ...]
    at: float


class Elector:
    """Waits for the Lease, keeps it, gives it back."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str) -> None:
        self._cluster, self._namespace, self._identity = cluster, namespace, identity
        self._lease: JsonObject = {}
        self._observed: _Observed | None = None
        self._renewed_at = 0.0

    async def acquire(self) -> int:
        """Wait until this process leads; returns its term."""
        while True:
            try:
                async with asyncio.timeout(_CALL_SECONDS * 5):
                    term = await self._try_acquire()
            except (ClusterError, TimeoutError) as error:
                log.warning("the leader's Lease cannot be read", error=str(error))
                term = None
            if term is not None:
                return term
            await asyncio.sleep(_POLL_SECONDS)

    async def keep(self) -> None:
        """Renew for ever; raises LeadershipLost."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            while not await self._try_renew():
                if _monotonic() - self._renewed_at > _GIVE_UP_SECONDS:
                    raise LeadershipLost("the Lease could not be renewed in time")
                await asyncio.sleep(0.2)

    def check(self) -> None:
        """Raises LeadershipLost when the Lease may have passed to another, however late this process was woken."""
        if _monotonic() - self._renewed_at > _GIVE_UP_SECONDS:
            raise LeadershipLost("the Lease was not renewed in time")

    async def catch_up(self, term: int) -> None:
        """Let the next term be later than this one; call it when nothing renews any more."""
        spec = {**self._lease["spec"], "leaseTransitions": term}
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self._cluster.replace(LEASES, self._namespace, names.LEADER_LEASE, {**self._lease, "spec": spec})
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not brought up to the statuses' term", term=term, error=str(error))

    async def release(self) -> None:
        """Let the next one lead at once."""
        spec = {**self._lease.get("spec", {}), "holderIdentity": "", "renewTime": format_micro_time(datetime.now(UTC))}
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self._cluster.replace(LEASES, self._namespace, names.LEADER_LEASE, {**self._lease, "spec": spec})
        except (ClusterError, TimeoutError):
            log.info("the Lease was not given back; it expires by itself")

    async def _try_acquire(self) -> int | None:
        try:
            lease = await self._cluster.get(LEASES, self._namespace, names.LEADER_LEASE)
        except NotFound:
            return await self._write(None, 1)
        spec = lease.get("spec") or {}
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if self._observed is None or self._observed.record != record:
            self._observed = _Observed(record, _monotonic())
        expired = _monotonic() - self._observed.at > DURATION_SECONDS
        if spec.get("holderIdentity") in ("", None, self._identity) or expired:
            return await self._write(lease, int(spec.get("leaseTransitions") or 0) + 1)
        return None

    async def _write(self, lease: JsonObject | None, term: int) -> int | None:
        stamp = format_micro_time(datetime.now(UTC))
        spec = {
            "holderIdentity": self._identity, "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": stamp, "renewTime": stamp, "leaseTransitions": term,
        }  # fmt: skip
        started = _monotonic()
        try:
            if lease is None:
                metadata = {"name": names.LEADER_LEASE, "namespace": self._namespace}
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
                self._lease = await self._cluster.create(LEASES, self._namespace, body)
            else:
                self._lease = await self._cluster.replace(
                    LEASES, self._namespace, names.LEADER_LEASE, {**lease, "spec": spec}
                )
        except (Conflict, NotFound):
            return None  # somebody was faster
        self._renewed_at = started
        return term

    async def _try_renew(self) -> bool:
        started = _monotonic()
        spec = {**self._lease["spec"], "renewTime": format_micro_time(datetime.now(UTC))}
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                self._lease = await self._cluster.replace(
                    LEASES, self._namespace, names.LEADER_LEASE, {**self._lease, "spec": spec}
                )
        except Conflict:
            await self._reread()
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not renewed", error=str(error))
            return False
        self._renewed_at = started
        return True

    async def _reread(self) -> None:
        """After a conflict: our own write whose answer got lost, or another leader."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                lease = await self._cluster.get(LEASES, self._namespace, names.LEADER_LEASE)
        except (ClusterError, TimeoutError):
            return
        spec = lease.get("spec") or {}
        mine = self._lease["spec"]
        if (spec.get("holderIdentity"), spec.get("leaseTransitions")) != (self._identity, mine["leaseTransitions"]):
            raise LeadershipLost(f"{spec.get('holderIdentity')} leads now")
        self._lease = lease
