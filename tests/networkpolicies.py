"""Who may reach whom under Kubernetes' NetworkPolicies, computed from manifests: no cluster has to enforce them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A pod as policies see it; namespaces carry their name as a label, as in every cluster."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        """Own labels of the namespace and the one that Kubernetes sets."""
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


def may_reach(policies: Iterable[Manifest], source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let out by the source's policies and let in by the target's."""
    policies = list(policies)
    return _passes(policies, "Egress", source, target, port, protocol) and _passes(
        policies, "Ingress", target, source, port, protocol
    )


def _passes(policies: list[Manifest], way: str, own: Place, other: Place, port: int, protocol: str) -> bool:
    binding = [policy for policy in policies if _binds(policy, way, own)]
    key, peers = ("egress", "to") if way == "Egress" else ("ingress", "from")
    return not binding or any(
        _rule_allows(rule, peers, policy["metadata"]["namespace"], other, port, protocol)
        for policy in binding
        for rule in policy["spec"].get(key) or []
    )


def _binds(policy: Manifest, way: str, place: Place) -> bool:
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == place.namespace
        and way in spec["policyTypes"]
        and _selects(spec["podSelector"], place.labels)
    )


def _rule_allows(rule: Manifest, peers: str, namespace: str, other: Place, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    if ports and not any(p.get("protocol", "TCP") == protocol and p["port"] == port for p in ports):
        return False
    return not rule.get(peers) or any(_is_peer(peer, namespace, other) for peer in rule[peers])


def _is_peer(peer: Manifest, namespace: str, other: Place) -> bool:
    if "ipBlock" in peer:
        # Some networks count pods to an address range and some do not; the worse of the two is assumed.
        return True
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], other.all_namespace_labels):
            return False
    elif other.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_matches(wanted, labels) for wanted in selector.get("matchExpressions") or [])


def _matches(wanted: Manifest, labels: dict[str, str]) -> bool:
    key, operator = wanted["key"], wanted["operator"]
    match operator:
        case "In":
            return labels.get(key) in wanted["values"]
        case "NotIn":
            return labels.get(key) not in wanted["values"]
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"no such operator: {operator}")
