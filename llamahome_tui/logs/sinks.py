"""Loguru in front of the four log files: levels, tracebacks and redaction; loguru is imported on first use only."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.logs.files import ERROR, LONGEST_ENTRY, NAMES, Limits, append

if TYPE_CHECKING:
    from collections.abc import Callable

    from loguru import Logger, Message

_FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {level: <7} {message}"


def open_sinks(logs: Path, limits: Limits) -> Logger:
    """A logger whose channels are the four files under the folder `logs`; call it once in a process.

    `logger.bind(log=TRAINING)` writes there; without a channel lines go to app/error.log from `warning` up.
    Tracebacks never show the values of variables, and every line is redacted.
    """
    from loguru import logger

    logger.remove()
    for name in NAMES:
        logger.add(
            _sink(logs / name, limits),
            level="WARNING" if name == ERROR else limits.level.upper(),
            format=_FORMAT,
            filter=_channel(name),
            backtrace=limits.tracebacks,
            diagnose=False,  # values of variables may hold a token
            colorize=False,
            catch=False,
        )
    return logger


def bridge_logging(logger: Logger) -> None:
    """Send what libraries log with the standard library from `warning` up to app/error.log, never to the terminal."""
    logging.basicConfig(handlers=[_Bridge(logger)], level=logging.WARNING, force=True)


def _channel(name: str) -> Callable[[Any], bool]:
    return lambda record: record["extra"].get("log", ERROR) == name


def _sink(path: Path, limits: Limits) -> Callable[[Message], None]:
    from llamahome_tui.config.secrets import redact

    def sink(message: Message) -> None:
        entry = redact(str(message).rstrip()).encode("utf-8", "backslashreplace")
        append(path, entry[: LONGEST_ENTRY - 1] + b"\n", limits)

    return sink


class _Bridge(logging.Handler):
    """A standard library logging target that writes through loguru."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        level = "ERROR" if record.levelno >= logging.ERROR else "WARNING"
        self._logger.opt(exception=record.exc_info).log(level, "{}: {}", record.name, record.getMessage())
