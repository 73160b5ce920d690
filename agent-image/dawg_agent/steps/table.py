"""Which step is carried out by what; the names are those of resources/steps.py."""

from __future__ import annotations

from collections.abc import Mapping

from dawg_agent.steps import (
    analyze_changes,
    collect_metrics,
    detect_anomalies,
    health_check,
    notify,
    predict_risks,
    rollback,
    update_dashboard,
)
from dawg_agent.steps.about import CarryOut

CARRY_OUT: Mapping[str, CarryOut] = {
    "health-check": health_check.carry_out,
    "collect-metrics": collect_metrics.carry_out,
    "detect-anomalies": detect_anomalies.carry_out,
    "notify": notify.carry_out,
    "update-dashboard": update_dashboard.carry_out,
    "rollback": rollback.carry_out,
    "analyze-changes": analyze_changes.carry_out,
    "predict-risks": predict_risks.carry_out,
}
