"""`python -m dawg_orchestrator controller|api`: one image, two roles."""

from __future__ import annotations

import logging
import os
import sys

import structlog

from dawg_orchestrator.settings import ApiSettings, ControllerSettings

_USAGE = "usage: python -m dawg_orchestrator controller|api"
_USAGE_ERROR = 64


def main(arguments: list[str]) -> int:
    """Start the role; 64 for a wrong call or setting, else what the role returns."""
    if arguments not in (["controller"], ["api"]):
        sys.stderr.write(_USAGE + "\n")
        return _USAGE_ERROR
    _set_up_logs()
    try:
        # A role imports its own libraries only: the controller stays small without the api's, and the other way round.
        if arguments == ["controller"]:
            from dawg_orchestrator.controller import serve as controller

            return controller.main(ControllerSettings.from_environment(os.environ))
        from dawg_orchestrator.api import serve as api

        api.main(ApiSettings.from_environment(os.environ))
        return 0
    except ValueError as error:
        sys.stderr.write(f"dawg: {error}\n")
        return _USAGE_ERROR


def _set_up_logs() -> None:
    """One line of JSON an event, of ours and of the libraries'."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
