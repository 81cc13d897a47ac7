"""One JSON line per event on stderr. Callers of `info` pass ids, names and times: no bodies, prompts, keys."""

import logging
import sys

import structlog
from structlog.typing import FilteringBoundLogger, Processor

_COMMON: list[Processor] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    # Without locals: a frame's variables hold prompts.
    structlog.processors.format_exc_info,
]


def make_logger() -> FilteringBoundLogger:
    """A logger to this moment's stderr. Nothing global is configured."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[*_COMMON, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return logger


def stdlib_config() -> dict[str, object]:
    """For `logging.config.dictConfig`: the server's own lines in the same form, httpx's URLs left out."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*_COMMON[:2]],
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {"httpx": {"level": "WARNING"}, "uvicorn.access": {"level": "WARNING"}},
    }
