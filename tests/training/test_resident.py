"""The resident trainer: by the clock, on request, one at a time, and never too often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monitor.errors import BundleError, ConfigError
from training.resident import Resident, Schedule, parse_duration

ROOT = Path(__file__).parents[2]


@dataclass
class Work:
    """Notes why and when it was called; ends the resident after some calls."""

    times: int
    seconds: float = 0.0
    during: Callable[[int], None] = lambda _: None
    reasons: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    resident: Resident | None = None

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        self.at.append(time.monotonic())
        self.during(len(self.reasons))
        time.sleep(self.seconds)
        if len(self.reasons) == self.times and self.resident:
            self.resident.stop()


def run(work: Work, schedule: Schedule, clock: Callable[[], float] = time.monotonic) -> Work:
    work.resident = Resident(work, schedule, clock)
    work.resident.run_forever()
    return work


def test_it_runs_at_once_and_then_by_the_clock() -> None:
    work = run(Work(times=3), Schedule(every_s=0.8))
    assert work.reasons == ["schedule"] * 3
    assert work.at[2] - work.at[0] == pytest.approx(1.6, rel=0.5)


def test_a_wish_is_followed_after_the_cool_down_and_not_before() -> None:
    # Asked at the beginning and the end of each run, and when a wish is looked at.
    times = iter([0.0, 0.0, 0.1, 399.9, 400.0, 400.0, 401.0])

    def ask(number: int) -> None:
        if number == 1:
            assert work.resident is not None
            for reason in ("too early", "still too early", "data drift"):
                work.resident.wish(reason)

    work = Work(times=2, during=ask)
    run(work, Schedule(every_s=3600, cool_down_s=400.0), clock=lambda: next(times))
    assert work.reasons == ["schedule", "data drift"]


def test_a_wish_during_the_cool_down_is_followed_once_when_it_ends() -> None:
    def ask(number: int) -> None:
        if number == 1:
            assert work.resident is not None
            for reason in ("data drift", "more drift"):
                work.resident.wish(reason)

    work = Work(times=3, during=ask)
    run(work, Schedule(every_s=1.2, cool_down_s=0.4))
    assert work.reasons == ["schedule", "data drift", "schedule"]
    assert work.at[1] - work.at[0] >= 0.4


def test_what_comes_due_during_a_run_is_not_made_up_for() -> None:
    work = run(Work(times=2, seconds=1.2), Schedule(every_s=0.5))
    assert work.at[1] - work.at[0] >= 1.2 + 0.25


def test_a_run_that_takes_more_than_half_the_time_between_two_is_followed_by_the_next_one_in_time() -> None:
    work = run(Work(times=3, seconds=0.7), Schedule(every_s=1.0))
    assert work.at[2] - work.at[0] == pytest.approx(2.0, abs=0.3)


def test_jitter_moves_the_runs() -> None:
    work = run(Work(times=6), Schedule(every_s=0.5, jitter_s=0.2))
    gaps = [later - earlier for earlier, later in zip(work.at[1:], work.at[2:], strict=False)]
    assert max(abs(gap - 0.5) for gap in gaps) > 0.02


def test_a_run_that_fails_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(number: int) -> None:
        if number == 1:
            raise BundleError("s3://models", "cannot be listed: no route to host")

    work = run(Work(times=2, during=fail), Schedule(every_s=0.3))
    assert len(work.reasons) == 2
    (record,) = [record for record in caplog.records if record.getMessage() == "retrain_failed"]
    assert vars(record)["error"] == "s3://models: cannot be listed: no route to host"


def test_an_error_of_the_program_ends_it() -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Work(times=2, during=fail), Schedule(every_s=0.2))


@pytest.mark.parametrize("busy", ["0", "60"])
def test_sigterm_ends_it_at_once_working_or_waiting(busy: str) -> None:
    code = (
        "import sys, time; from training.resident import Resident, Schedule, stop_on_signals\n"
        "def work(reason): print('at work', flush=True); time.sleep(float(sys.argv[1]))\n"
        "resident = Resident(work, Schedule(every_s=3600)); stop_on_signals(resident); resident.run_forever()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, busy], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("6h", 21600), ("2d", 172800), (" 1.5H ", 5400)]
)
def test_durations_are_read_with_and_without_unit(text: str, seconds: float) -> None:
    assert parse_duration(text, "--every") == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "six hours", "1w", "h"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--every: expected a duration such as 90s, 30m, 6h or 2d, got "):
        parse_duration(text, "--every")
