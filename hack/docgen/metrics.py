"""The reference of metrics, from the registries of both roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry

from dawg_orchestrator.api.metrics import Metrics
from dawg_orchestrator.controller.metrics import REGISTRY
from docgen.markdown import table


def metrics_reference() -> str:
    """One table for each role."""
    roles = {"Controller": REGISTRY, "Api": Metrics().registry}
    return "\n\n".join(f"## {role}\n\n{_table(registry)}" for role, registry in roles.items())


def _table(registry: CollectorRegistry) -> str:
    rows = [(_exposed(metric), metric.type, _labels(registry, metric.name), metric.documentation) for metric in
            registry.collect()]  # fmt: skip
    return table(["Metric", "Type", "Labels", "Meaning"], rows)


def _exposed(metric: Any) -> str:
    """The name as Prometheus reads it: counters end in _total."""
    return f"`{metric.name}_total`" if metric.type == "counter" else f"`{metric.name}`"


def _labels(registry: CollectorRegistry, name: str) -> str:
    """Labels are known to the collector only: a metric that was never set has no sample to read them from."""
    collector: Any = registry._names_to_collectors[name]  # noqa: SLF001
    labels: Iterable[str] = collector._labelnames  # noqa: SLF001
    return ", ".join(f"`{label}`" for label in labels) or "none"
