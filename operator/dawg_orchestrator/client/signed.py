"""Annotations that name their author, whom an admission policy compares with the caller."""

from __future__ import annotations

from dawg_orchestrator.client.connection import Cluster, JsonObject
from dawg_orchestrator.client.exits import GAVE_UP, CommandFailed
from dawg_orchestrator.errors import Forbidden

_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_POLICY = "denied request: "  # what stands before a policy's own words


def whoami(cluster: Cluster) -> str:
    """The person's name as the apiserver has it."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = cluster.create(_REVIEWS, body)
    name = ((answer.get("status") or {}).get("userInfo") or {}).get("username")
    if not name:
        raise CommandFailed("the cluster does not say who you are, so nobody could be named as the author", GAVE_UP)
    return str(name)


def write_signed(cluster: Cluster, path: str, annotation: str, text: str, verb: str) -> JsonObject:
    """Write it on the object, as the person; Forbidden says what the policy has against it, or which role helps."""
    patch = {"metadata": {"annotations": {annotation: text}}}
    try:
        return cluster.merge(path, patch)
    except Forbidden as error:
        _, denied, words_of_policy = str(error).partition(_POLICY)
        role = f"ask for the role dawg-workflow-admin, which has the verb {verb} on workflows.dawg.dev"
        raise Forbidden(words_of_policy if denied else f"{error}; {role}", error.status) from error
