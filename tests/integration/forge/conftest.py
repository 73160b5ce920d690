"""A real Gitea for all tests of this folder; each has people and a repository of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gitea
from forgeshop import Shop, new_shop
from gitea import GiteaServer


@pytest.fixture(scope="session")
def gitea_server() -> Iterator[GiteaServer]:
    with gitea.serving() as server:
        yield server


@pytest.fixture
def shop(gitea_server: GiteaServer, tmp_path: Path) -> Shop:
    return new_shop(gitea_server, tmp_path)
