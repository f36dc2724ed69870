"""Logs: one event a line, with a direction (`<` received, `>` sent, `=` state, `!` error), in text or JSON, on stderr.

No payload, password, key, e-mail or delivery address is ever handed to the log, of persons the account alone;
redaction is a second line of defence.
"""

import logging
import sys
from typing import Any, Literal

import msgspec
import structlog

__all__ = ["LogSettings", "configure_logging"]

SECRETS = frozenset({"password", "passphrase", "key", "token", "code", "email", "address", "text", "params", "payload"})


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["text", "json"] = "text"
    """json: one object a line, for a log collector."""
    level: Literal["debug", "info", "warning", "error"] = "info"


def redact(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Structlog processor: a value whose name says that it is secret does not get out."""
    for name in event.keys() & SECRETS:
        event[name] = "[redacted]"
    return event


def configure_logging(settings: LogSettings) -> None:
    """For the whole process; also what libraries say through logging."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    last: list[Any]
    if settings.format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    else:
        last = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    level = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _json(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
