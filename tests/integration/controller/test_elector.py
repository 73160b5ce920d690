"""One Lease decides who leads, on a real apiserver, whose answers may be lost or late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from dawg_orchestrator.cluster.client import LEASES, Cluster
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.controller.elector import DURATION_SECONDS, Elector, LeadershipLost
from dawg_orchestrator.resources import names
from realcluster import RealCluster, namespace_on_cluster


@pytest.fixture
def namespace() -> Iterator[RealCluster]:
    with namespace_on_cluster("dawg-elector") as cluster:
        yield cluster


@pytest.fixture
async def apiserver() -> AsyncIterator[Cluster]:
    async with Cluster(find_credentials(), user_agent="dawg-tests") as cluster:
        yield cluster


async def test_only_one_of_two_leads_and_a_lease_given_back_is_taken_at_once(
    apiserver: Cluster, namespace: RealCluster
) -> None:
    first, second = (Elector(apiserver, namespace.namespace, who) for who in ("first", "second"))
    assert await first.acquire() == 1
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire())

    await asyncio.wait({waiting}, timeout=DURATION_SECONDS + 2)
    assert not waiting.done(), "the second leads while the first renews"

    keeping.cancel()
    await first.release()
    async with asyncio.timeout(DURATION_SECONDS - 1):
        assert await waiting == 2


async def test_the_lease_of_a_silent_leader_is_taken_only_after_the_leader_has_ended_itself(
    apiserver: Cluster, namespace: RealCluster
) -> None:
    first, second = (Elector(apiserver, namespace.namespace, who) for who in ("first", "second"))
    await first.acquire()
    acquired_at = time.monotonic()

    async with asyncio.timeout(DURATION_SECONDS * 4):
        assert await second.acquire() == 2

    assert time.monotonic() - acquired_at > DURATION_SECONDS - 0.5
    with pytest.raises(LeadershipLost):
        first.check()


async def test_a_leader_learns_that_another_has_its_lease(apiserver: Cluster, namespace: RealCluster) -> None:
    leader = Elector(apiserver, namespace.namespace, "leader")
    await leader.acquire()
    lease = await apiserver.get(LEASES, namespace.namespace, names.LEADER_LEASE)
    taken = {**lease, "spec": {**lease["spec"], "holderIdentity": "other", "leaseTransitions": 2}}
    await apiserver.replace(LEASES, namespace.namespace, names.LEADER_LEASE, taken)

    with pytest.raises(LeadershipLost, match="other leads now"):
        async with asyncio.timeout(DURATION_SECONDS):
            await leader.keep()


async def test_a_renewal_whose_answer_got_lost_does_not_end_the_leader(
    apiserver: Cluster, namespace: RealCluster
) -> None:
    leader = Elector(apiserver, namespace.namespace, "leader")
    await leader.acquire()
    lease = await apiserver.get(LEASES, namespace.namespace, names.LEADER_LEASE)
    written = {**lease, "spec": {**lease["spec"], "renewTime": "2026-01-01T00:00:00.000000Z"}}
    await apiserver.replace(LEASES, namespace.namespace, names.LEADER_LEASE, written)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DURATION_SECONDS):
            await leader.keep()

    spec = (await apiserver.get(LEASES, namespace.namespace, names.LEADER_LEASE))["spec"]
    assert spec["renewTime"] > written["spec"]["renewTime"]


async def test_the_term_after_catching_up_is_later_than_that_of_the_statuses(
    apiserver: Cluster, namespace: RealCluster
) -> None:
    elector = Elector(apiserver, namespace.namespace, "leader")
    assert await elector.acquire() == 1

    await elector.catch_up(41)

    assert await Elector(apiserver, namespace.namespace, "leader").acquire() == 42
