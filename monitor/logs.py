"""Logs: one event a line, a constant name plus fields; JSON for machines, text for a terminal. Never payloads, never secrets."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from typing import TextIO

# Attributes every LogRecord has; whatever else it carries was given by us as a field of the event.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# At debug these log credentials: session tokens, signed requests.
_INDISCREET = ("aiobotocore", "botocore", "gcsfs", "s3fs")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _json_value(value: object) -> object:
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _on_one_line(value: object) -> str:
    """Text without line breaks and other control characters."""
    text = str(value)
    return text if text.isprintable() else repr(text)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "event", …fields}` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; an exception becomes its class and message, with the traceback in `trace`."""
        entry: dict[str, object] = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry |= {key: _json_value(value) for key, value in _fields(record).items()}
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`12:00:00 info  event  key=value …` for people."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        fields = " ".join(f"{key}={_on_one_line(value)}" for key, value in _fields(record).items())
        line = f"{_stamp(record)[11:19]} {record.levelname.lower():<7} {record.getMessage()}  {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logs(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Sends all logs to one stream (stderr by default).

    kafka-python is silent below `debug`: it logs every attempt to reconnect as a warning or an error, several lines a second
    during an outage; what matters of it reaches us as exceptions and is logged once, in words of our own. Its own debug lines
    are never shown: they hold its options, passwords among them, and every byte it sends.
    """
    stream = stream or sys.stderr
    text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("kafka").setLevel(logging.INFO if level == "debug" else logging.CRITICAL)
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(logging.INFO)
