"""Seconds of the whole command `ganwatch train`, by default, on the inliers of one half of KDD99.

From exec to the bundle in the registry, with reading, calibration, export and report; never taken from the cache, since
it is a figure of the machine too.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.benchmarks.detection.bench import Bench, Part
from tests.benchmarks.detection.table import print_table
from tests.benchmarks.kdd99_stream import ganwatch, write_training_files

GOALS = {"kdd99_train_command_s": lambda seconds: seconds <= 180}


def run(bench: Bench) -> Part:
    """One training in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_training_files(folder, bench.data)
        started = time.perf_counter()
        ganwatch(folder, "train", "--data", "train.parquet")
        seconds = time.perf_counter() - started
    print_table(
        "The whole command on KDD99", ("command", "s"), [["ganwatch train --data train.parquet", f"{seconds:.0f}"]]
    )
    return Part({"kdd99_train_command_s": round(seconds, 1)}, GOALS)
