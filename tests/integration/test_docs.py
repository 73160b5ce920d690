"""The documented objects before a real apiserver: it takes each of them as it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from docpages import Block, yaml_blocks
from realcluster import RealCluster, apply_definitions, namespace_on_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with namespace_on_cluster("dawg-docs") as cluster:
        apply_definitions(cluster)
        yield cluster


@pytest.mark.parametrize("block", list(yaml_blocks()), ids=str)
def test_the_apiserver_takes_what_the_documentation_shows(cluster: RealCluster, block: Block):
    for document in block.objects:
        refusal = cluster.kubectl(
            "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(document)
        ).stderr
        assert refusal == ""
