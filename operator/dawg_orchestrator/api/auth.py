"""Who is asking, and what people may see.

Tokens are reviewed by the apiserver; answers are kept for some seconds under the token's hash. No token, and no part
of one, is ever logged, answered or kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dawg_orchestrator.api.answers import forbidden, unauthenticated
from dawg_orchestrator.cluster.client import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Cluster
from dawg_orchestrator.resources.names import GROUP

KEPT_SECONDS = 10.0
_MAX_KEPT = 10000
_MAX_TOKEN = 16384
_SERVICE_ACCOUNT = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"

Clock = Callable[[], float]  # monotonic seconds
_ROLES = {"create": "dawg-runner"}  # what who lacks the right should ask for; dawg-viewer for all else
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody the apiserver knows. ``extra`` is kept for access reviews, which want it back."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def service_account(self) -> tuple[str, str] | None:
        """(namespace, name) if it is one."""
        namespace, colon, name = self.username.removeprefix(_SERVICE_ACCOUNT).partition(":")
        return (namespace, name) if self.username.startswith(_SERVICE_ACCOUNT) and colon else None

    @property
    def pod(self) -> tuple[str, str] | None:
        """(name, uid) of the pod that the token is bound to."""
        extra = dict(self.extra)
        names, uids = extra.get(_POD_NAME, ()), extra.get(_POD_UID, ())
        return (names[0], uids[0]) if names and uids else None


@dataclass
class Kept(Generic[V]):
    """Answers that hold for some seconds; bounded, so that a flood of tokens fills no memory."""

    clock: Clock
    seconds: float = KEPT_SECONDS
    most: int = _MAX_KEPT
    _answers: dict[Any, tuple[float, V]] = field(default_factory=dict)

    def get(self, key: Any) -> V | None:
        """The answer, while it holds."""
        found = self._answers.get(key)
        return found[1] if found is not None and found[0] > self.clock() else None

    def put(self, key: Any, answer: V) -> None:
        """Keep an answer; when there are too many, the oldest goes."""
        self._answers.pop(key, None)
        if len(self._answers) >= self.most:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = (self.clock() + self.seconds, answer)


class Reviews:
    """Asks the apiserver who a token belongs to and what somebody may do."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._known: Kept[Identity | bool] = Kept(clock)
        self._allowed: Kept[bool] = Kept(clock)

    async def identify(self, authorization: str | None, audience: str | None = None) -> Identity:
        """Whose bearer token this is; Refusal 401 says what is wrong with it. No audience: the apiserver's own."""
        token = bearer(authorization)
        key = (hashlib.sha256(token.encode(errors="replace")).digest(), audience)
        known = self._known.get(key)
        if known is None:
            known = await self._review(token, audience) or False
            self._known.put(key, known)
        if isinstance(known, Identity):
            return known
        wanted = f" for the audience {audience}" if audience else ""
        raise unauthenticated(
            f"the cluster does not accept the token{wanted}",
            "send a token that is still valid; `kubectl create token dawg-viewer` makes one"
            if audience is None
            else f"send the pod's projected token of audience {audience}; it dies with its pod",
        )

    async def require(self, identity: Identity, verb: str, namespace: str) -> None:
        """Refusal 403 unless somebody may do this to TestRuns of the namespace."""
        key = (identity, verb, namespace)
        allowed = self._allowed.get(key)
        if allowed is None:
            allowed = await self._may(identity, verb, namespace)
            self._allowed.put(key, allowed)
        if not allowed:
            raise forbidden(
                f"{identity.username} may not {verb} testruns.{GROUP} in namespace {namespace}",
                f"have the Role {_ROLES.get(verb, 'dawg-viewer')} bound in namespace {namespace}",
            )

    async def _review(self, token: str, audience: str | None) -> Identity | None:
        audiences = {"audiences": [audience]} if audience else {}
        review = await self._cluster.create(
            TOKEN_REVIEWS,
            None,
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, **audiences}},
        )
        status = review.get("status") or {}
        if not status.get("authenticated") or (audience and audience not in (status.get("audiences") or [])):
            return None
        user = status.get("user") or {}
        extra = {name: tuple(values) for name, values in (user.get("extra") or {}).items()}
        return Identity(
            user.get("username", ""), user.get("uid", ""), tuple(user.get("groups") or ()), tuple(sorted(extra.items()))
        )

    async def _may(self, identity: Identity, verb: str, namespace: str) -> bool:
        review = await self._cluster.create(
            SUBJECT_ACCESS_REVIEWS,
            None,
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": identity.username,
                    "uid": identity.uid,
                    "groups": list(identity.groups),
                    "extra": {name: list(values) for name, values in identity.extra},
                    "resourceAttributes": {
                        "namespace": namespace, "verb": verb, "group": GROUP, "resource": "testruns"
                    },
                },
            },
        )  # fmt: skip
        return bool((review.get("status") or {}).get("allowed"))


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header; Refusal 401 when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("no token was sent", "send the header Authorization: Bearer TOKEN")
    if len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise unauthenticated("the token is not one that a cluster makes", "send a Kubernetes token")
    return token
