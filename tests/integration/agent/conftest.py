"""What tests of agents share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from dawg_orchestrator.cluster.client import Cluster, Resource
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import DawgError

NAMESPACES = Resource("", "v1", "namespaces")


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """The cluster of KUBECONFIG; without one the test is skipped."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            connected = await stack.enter_async_context(Cluster(find_credentials(), user_agent="dawg-tests"))
            await connected.list(NAMESPACES, None)
        except (DawgError, OSError) as error:
            pytest.skip(f"needs a cluster in KUBECONFIG (hack/up starts one): {error}")
        yield connected
