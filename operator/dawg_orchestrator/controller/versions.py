"""How old what the cluster says of an object is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def version_of(obj: Mapping[str, Any]) -> int:
    """The resourceVersion as a number; Kubernetes 1.35 made them comparable, as they always were with etcd."""
    return int(obj["metadata"].get("resourceVersion") or 0)
