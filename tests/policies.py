"""An admission policy of the chart in force in a namespace of the tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import yaml

from chart import of_kind, render, the
from realcluster import Manifest, RealCluster


def policy_and_binding(namespace: str, name: str) -> list[Manifest]:
    """The chart's policy of that name and what binds it."""
    found = of_kind(render(namespace), "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    return [manifest for manifest in found if manifest["metadata"]["name"].endswith(f"-{name}")]


def spoken(cluster: RealCluster, name: str, said: str) -> str:
    """What our own policy of that name says among the warnings of an answer; empty when nothing."""
    speaker = f"ValidatingAdmissionPolicy '{cluster.namespace}-dawg-{name}'"
    return "\n".join(line for line in said.splitlines() if line.startswith("Warning:") and speaker in line)


@contextmanager
def in_force(
    cluster: RealCluster, name: str, people: Mapping[str, str], speaks: Callable[[], str]
) -> Iterator[RealCluster]:
    """The policy for the cluster's namespace, with ``people`` by the chart's roles, once it objects to what it should.

    It warns where the chart's denies: an installed release denies too, and only warnings tell who spoke.
    """
    policy, binding = policy_and_binding(cluster.namespace, name)
    own = {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}
    constraints = {**policy["spec"]["matchConstraints"], "namespaceSelector": own}
    policy = {**policy, "spec": {**policy["spec"], "matchConstraints": constraints}}
    binding = {**binding, "spec": {**binding["spec"], "validationActions": ["Warn"]}}
    roles = [the(render(cluster.namespace), "Role", role) for role in people]
    cluster.done("apply", "-f", "-", stdin=yaml.safe_dump_all([policy, binding, *roles]))
    for role, user in people.items():
        cluster.done("create", "rolebinding", user, f"--role={role}", f"--user={user}")
    try:
        deadline = time.monotonic() + 60
        while not speaks():
            assert time.monotonic() < deadline, "the policy does not come into force"
            time.sleep(0.2)
        yield cluster
    finally:
        for manifest in (policy, binding):
            cluster.done("delete", manifest["kind"], manifest["metadata"]["name"])
