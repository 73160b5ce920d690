"""The doors over HTTP in process, on a real store; the apiserver is a double here and real in test_apiserver.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from apiserver_double import ApiserverDouble
from dawg_orchestrator.api.people import people_app
from dawg_orchestrator.api.serve import assemble
from dawg_orchestrator.api.services import Services
from dawg_orchestrator.api.uploads import uploads_app
from dawg_orchestrator.cluster.client import Cluster, Resource
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import Conflict
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
CRDS_FOLDER = Path(__file__).parents[3] / "crds"
NAMESPACES = Resource("", "v1", "namespaces")


@pytest.fixture
def settings(tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        namespaces=("team",),
        controller_service_account=("dawg", "dawg-controller"),
        data_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path}/history.db",
        tls_dir=tmp_path / "tls",
        uploads_port=0,
        people_port=0,
        metrics_port=0,
        max_file_bytes=2**20,
        free_space_floor=0,
    )


@pytest.fixture
def apiserver() -> ApiserverDouble:
    return ApiserverDouble()


@pytest.fixture
async def services(settings: ApiSettings, apiserver: ApiserverDouble) -> AsyncIterator[Services]:
    history = await History.open(
        settings.database_url, settings.data_dir, max_file_bytes=settings.max_file_bytes, free_space_floor=0
    )
    yield assemble(settings, apiserver, history, asyncio.Event())  # type: ignore[arg-type]
    await history.close()


@pytest.fixture
async def uploads(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(uploads_app(services)), base_url="http://uploads"
    ) as client:
        yield client


@pytest.fixture
async def people(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(people_app(services)), base_url="http://people"
    ) as client:
        yield client


@pytest.fixture
async def real_cluster() -> AsyncIterator[Cluster]:
    """The cluster that hack/up has started, with the resources' types."""
    async with Cluster(find_credentials(), user_agent="dawg-tests") as cluster:
        for file in sorted(CRDS_FOLDER.glob("*.yaml")):
            with contextlib.suppress(Conflict):
                await cluster.create(CRDS, None, yaml.safe_load(file.read_text()))
        yield cluster


@pytest.fixture
async def namespace(real_cluster: Cluster) -> AsyncIterator[str]:
    """A namespace that goes with the test."""
    name = f"dawg-api-{uuid4().hex[:8]}"
    await real_cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
    yield name
    await real_cluster.delete(NAMESPACES, None, name)
