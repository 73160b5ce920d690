"""What tests of agents share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dawg_orchestrator.cluster.client import Cluster, Resource
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import DawgError
from integration.agent.gitserver import GitServer, serve
from repositories import Repository, new_repository

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


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One with a short history; a test that needs another says so itself."""
    return new_repository(tmp_path)


@pytest.fixture
async def server(repository: Repository) -> AsyncIterator[GitServer]:
    """A git server that has it."""
    async with serve(repository.bare.parent) as serving:
        yield serving


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty folder for a checkout."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder
