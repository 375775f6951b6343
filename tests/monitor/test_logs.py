"""Logs: one event a line that a program can parse and a person can read."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from monitor.logs import configure_logs


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the test run itself comes back."""
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    before = root.handlers[:], root.level, kafka.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    kafka.setLevel(before[2])


def written(log_format: str, *, level: str = "info", stream: StringIO | None = None, **fields: Any) -> str:
    """What one event with these fields leaves."""
    stream = stream or StringIO()
    configure_logs(level, log_format, stream)
    logging.getLogger("monitor.daemon").info("model_loaded", extra=fields)
    return stream.getvalue()


def test_an_event_is_one_json_object_with_its_fields() -> None:
    line = written("json", model="payments", seconds=0.25, version=None, partitions=[0, 1], done=True)
    assert line.count("\n") == 1
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "monitor.daemon",
        "event": "model_loaded",
        "model": "payments",
        "seconds": 0.25,
        "version": None,
        "partitions": [0, 1],
        "done": True,
    }


def test_the_time_is_utc_with_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.time.time", lambda: 1772366400.25)
    monkeypatch.setattr("logging.time.time_ns", lambda: 1772366400_250_000_000, raising=False)
    assert json.loads(written("json"))["time"] == "2026-03-01T12:00:00.250Z"


@pytest.mark.parametrize("value", ["a\nb", 'say "hi"', "größe 😀", "\u2028", "\x00\x1b[31m", "{}", "back\\slash"])
def test_any_text_stays_on_one_line_and_is_kept(value: str) -> None:
    line = written("json", error=value)
    assert len(line.split("\n")) == 2
    assert json.loads(line)["error"] == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_becomes_text(value: float) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(written("json", loss=value), parse_constant=refuse)["loss"] == str(value)


def test_a_field_of_any_type_is_shown_as_text() -> None:
    assert json.loads(written("json", error=OSError(2, "gone")))["error"] == "[Errno 2] gone"


def test_an_exception_keeps_its_traceback_in_one_field() -> None:
    stream = StringIO()
    configure_logs("info", "json", stream)
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("x").exception("it_failed", extra={"topic": "features"})
    entry = json.loads(stream.getvalue())
    assert entry["level"] == "error"
    assert entry["topic"] == "features"
    assert entry["trace"].startswith("Traceback")
    assert entry["trace"].endswith("ValueError: no such thing")


def test_people_read_time_level_event_and_fields() -> None:
    line = written("text", model="payments", rows=3)
    assert line[8:] == " info    model_loaded  model=payments rows=3\n"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\x1b[31m"])
def test_a_field_cannot_start_a_new_line_or_colour_the_terminal(value: str) -> None:
    line = written("text", error=value)
    assert line.count("\n") == 1
    assert "\r" not in line
    assert "\x1b" not in line


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    assert written("auto", stream=Terminal()).endswith("info    model_loaded\n")
    assert json.loads(written("auto"))["event"] == "model_loaded"
    assert json.loads(written("json", stream=Terminal()))["event"] == "model_loaded"


def test_what_is_below_the_level_is_not_written() -> None:
    assert written("json", level="warning") == ""
    assert written("json", level="debug") != ""


def test_the_kafka_client_is_silent_unless_one_debugs() -> None:
    stream = StringIO()
    configure_logs("info", "json", stream)
    logging.getLogger("kafka.client").error("connection refused")
    assert stream.getvalue() == ""
    configure_logs("debug", "json", stream)
    logging.getLogger("kafka.client").warning("connection refused")
    assert json.loads(stream.getvalue())["event"] == "connection refused"


def test_configuring_twice_writes_each_event_once() -> None:
    stream = StringIO()
    configure_logs("info", "json", stream)
    assert len(written("json", stream=stream).splitlines()) == 1


def test_logs_go_to_stderr_by_default() -> None:
    code = (
        "import logging; from monitor.logs import configure_logs; configure_logs('info', 'auto'); logging.info('event')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert json.loads(done.stderr)["event"] == "event"
