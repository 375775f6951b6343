"""How many normal records the threshold methods flag, against their target: what `tests.benchmarks.alert_rate` prints."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.detection.bench import Bench, Part, say

LEAST, MOST = 0.8, 1.25
TARGETS = {"alert_rate_1e2": 1e-2, "alert_rate_1e3": 1e-3}


def run(bench: Bench) -> Part:
    """Another process, which needs no TensorFlow; its last line holds the figures."""
    say("alert rates")
    command = [sys.executable, "-m", "tests.benchmarks.alert_rate"]
    *lines, last = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    print("\n### Realised alert rate\n", *lines, sep="\n")
    goals = {key: lambda rate, target=target: LEAST <= rate / target <= MOST for key, target in TARGETS.items()}
    return Part(json.loads(last), goals)
