"""The watchdog: silence of the loop is measured, sleep of the whole process is not."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from monitor.stream.watchdog import Watchdog


@dataclass
class Loop:
    turned_at: float = 0.0


def watching(loop: Loop, limit_s: float) -> Watchdog:
    return Watchdog(lambda: loop.turned_at, limit_s)


def test_a_loop_that_turns_is_never_stuck() -> None:
    loop = Loop()
    watchdog = watching(loop, 3.0)
    for second in range(100):
        loop.turned_at = float(second)
        assert not watchdog.is_stuck(float(second))


def test_a_loop_is_stuck_once_it_was_silent_for_longer_than_the_limit() -> None:
    watchdog = watching(Loop(), 5.0)
    assert [second for second in range(10) if watchdog.is_stuck(float(second))] == [6, 7, 8, 9]


def test_silence_begins_anew_with_each_turn() -> None:
    loop = Loop()
    watchdog = watching(loop, 5.0)
    for second in range(6):
        assert not watchdog.is_stuck(float(second))
    loop.turned_at = 5.5
    assert [second for second in range(6, 16) if watchdog.is_stuck(float(second))] == [12, 13, 14, 15]


def test_a_process_that_slept_as_a_whole_is_given_its_time() -> None:
    watchdog = watching(Loop(), 5.0)
    assert not watchdog.is_stuck(0.0)
    assert not watchdog.is_stuck(1000.0)
    assert not watchdog.is_stuck(1001.0)


def test_a_stuck_process_says_where_and_ends_with_its_own_exit_code() -> None:
    program = (
        "import time\nfrom monitor.stream.watchdog import Watchdog\n"
        "Watchdog(lambda: 0.0, 1.0).start()\n"
        "def a_call_that_never_returns():\n    time.sleep(600)\n"
        "a_call_that_never_returns()\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 6
    assert time.monotonic() - started < 30
    assert "a_call_that_never_returns" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("ganwatch: the loop has not turned for ")
