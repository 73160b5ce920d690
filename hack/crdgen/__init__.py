"""Custom resource definitions out of the pydantic models in ``dawg_orchestrator.resources``."""
