"""Logs as one JSON object per line, or as coloured lines for a person."""

from __future__ import annotations

from typing import Any, Literal

import structlog

LogFormat = Literal["json", "console"]


def log_config(log_format: LogFormat, level: str) -> dict[str, Any]:
    """A ``logging.config`` dictionary that sends everything, the server's own lines included, to standard error."""
    final = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer()]
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
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
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
            "uvicorn.access": {"level": "CRITICAL"},  # the service writes its own line per request, with more in it
        },
    }


def _drop_duplicates(logger: Any, name: str, event: Any) -> Any:
    """Uvicorn repeats its message with escape codes for colour."""
    event.pop("color_message", None)
    return event
