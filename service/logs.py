"""The format of the log: one JSON object per line on stderr."""

import logging.config

from pythonjsonlogger.core import RESERVED_ATTRS


def configure_logging(level: str) -> None:
    """Write log records of `level` or above, from any library, and Python's warnings to stderr as JSON lines."""
    logging.captureWarnings(True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "fmt": ["levelname", "name", "process", "message"],
                    "rename_fields": {"levelname": "level", "name": "logger", "process": "pid", "message": "event"},
                    "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
                    "timestamp": True,
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
        }
    )
