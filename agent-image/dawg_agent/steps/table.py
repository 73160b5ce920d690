"""Which step is carried out by what; the names are those of resources/steps.py."""

from __future__ import annotations

from collections.abc import Mapping

from dawg_agent.steps import health_check, notify
from dawg_agent.steps.about import CarryOut

CARRY_OUT: Mapping[str, CarryOut] = {
    "health-check": health_check.carry_out,
    "notify": notify.carry_out,
}
