"""Log configuration: JSON lines, or coloured text for consoles."""

from __future__ import annotations

import sys
from typing import Any, Literal

import structlog

LogFormat = Literal["auto", "json", "console"]


def log_config(log_format: LogFormat, level: str) -> dict[str, Any]:
    """Return a ``logging.config`` dictionary that sends all logs, uvicorn's included, to standard error.

    ``auto`` is text where that is a terminal, and JSON elsewhere.
    """
    is_terminal = sys.stderr.isatty()
    renderers = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json" or (log_format == "auto" and not is_terminal)
        else [structlog.dev.ConsoleRenderer(colors=is_terminal)]
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
            _drop_duplicates,
        ],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "linewise": {"level": level.upper()},
            "uvicorn": {"level": level.upper()},
            "uvicorn.access": {"level": "CRITICAL"},  # RequestContextMiddleware logs each request
        },
    }


def _drop_duplicates(logger: Any, name: str, event: Any) -> Any:
    """Drop uvicorn's second copy of its message, which has colour codes."""
    event.pop("color_message", None)
    return event
