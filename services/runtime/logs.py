"""JSON logs, one object a line on standard error, joined by request id."""

import logging
import sys
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(level: str) -> None:
    """Sends the log to standard error as JSON. Unknown levels mean info."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def get_logger(**fields: Any) -> FilteringBoundLogger:  # noqa: ANN401 - a log field may be anything
    """Returns a logger with the given fields bound."""
    return cast(FilteringBoundLogger, structlog.get_logger(**fields))
