"""Fixtures of the stories.

Starting pods one after another is what takes time, so the runs of a file that are marked with ``applied`` are applied
together, in a pool that the file shares; each test then follows its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster_at_hand import Kubectl
from doors import CONTROLLER_PODS, Api, Controller
from stories import Story


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the marker."""
    told = "applied(*tasks, **spec): the TestRun of this story; applied together with the others of its file"
    config.addinivalue_line("markers", told)


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """kubectl in the release's namespace."""
    return Kubectl()


@pytest.fixture(scope="session")
def api(kubectl: Kubectl) -> Iterator[Api]:
    """The people's door of the api role."""
    with Api(kubectl) as api:
        yield api


@pytest.fixture(scope="session")
def controller(kubectl: Kubectl) -> Controller:
    """The controller's figures."""
    return Controller(kubectl)


@pytest.fixture(scope="session")
def test_image(kubectl: Kubectl) -> str:
    """The image of tasks that name none: it has python3 and git."""
    (deployment,) = kubectl.items("deployments", CONTROLLER_PODS)
    variables = {
        entry["name"]: entry.get("value") for entry in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    return str(variables["DAWG_DEFAULT_TASK_IMAGE"])


@pytest.fixture
def story(kubectl: Kubectl) -> Iterator[Story]:
    """A fresh story; what it made is removed."""
    story = Story(kubectl)
    yield story
    story.clean_up()


@pytest.fixture(scope="module")
def shared(kubectl: Kubectl) -> Iterator[Story]:
    """What the stories of a file have in common."""
    story = Story(kubectl)
    yield story
    story.clean_up()


@pytest.fixture(scope="module")
def pool(shared: Story) -> str:
    """A pool for all stories of a file, with room for all of them."""
    return shared.given_pool(minAgents=2, maxAgents=2, slots=32)


@pytest.fixture(scope="module")
def _applied(request: pytest.FixtureRequest, shared: Story, pool: str) -> dict[str, str]:
    """The names of the runs that the file's tests are marked with, by test."""
    names = {}
    for item in request.session.items:
        mark = item.get_closest_marker("applied")
        if mark is not None and item.path == request.path:
            names[item.nodeid] = shared.when_applied(
                *mark.args, **{"pool": pool, "ttlAfterFinished": "1h", **mark.kwargs}
            )
    return names


@pytest.fixture
def run(request: pytest.FixtureRequest, _applied: dict[str, str]) -> str:
    """The name of the run that this test is marked with."""
    return _applied[request.node.nodeid]
