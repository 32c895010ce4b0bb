"""JSON logs, one object a line on standard error, joined by request and trace id."""

import logging
import sys
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(level: str, trace_id: str = "") -> None:
    """Sends the log to standard error as JSON.

    Args:
        level: unknown ones mean info.
        trace_id: of a process that works for one call alone, so that its lines carry it from whatever thread.
    """

    def add_trace(_logger: object, _method: str, line: EventDict) -> EventDict:
        return {"trace_id": trace_id, **line} if trace_id else line

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def current_rpc() -> str:
    """The RPC that is being answered, as the log names it; empty outside of calls."""
    return str(structlog.contextvars.get_contextvars().get("rpc", ""))


def get_logger(**fields: Any) -> FilteringBoundLogger:  # noqa: ANN401 - a log field may be anything
    """Returns a logger with the given fields bound."""
    return cast(FilteringBoundLogger, structlog.get_logger(**fields))
