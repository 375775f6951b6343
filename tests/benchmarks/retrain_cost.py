"""What a retraining costs when the stream is five times as long: the archive is bounded, so it should cost the same.

`python -m tests.benchmarks.retrain_cost`. Two archives, of 200,000 and of 1,000,000 records; retrainings on them take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from monitor.archive.sample import ScoredRows
from monitor.archive.writer import ArchiveOptions, ArchiveWriter, store_stratum
from monitor.model.registry import Registry
from monitor.model.store import Store, open_store
from tests import machines
from tests.benchmarks.goals import report
from tests.benchmarks.kdd99_stream import say
from training.archive_history import read_archive
from training.challenger import ChallengerPlan, train_challenger, training_plan
from training.feedback import Feedback
from training.history import History
from training.retrain import RetrainPlan, retrain
from training.retrain_steps import Step
from training.train import find_devices

SIZES = {"200k": 200_000, "1m": 1_000_000}
BATCH = 5_000
OPTIONS = ArchiveOptions(stratum_rows=2_000, stratum_records=10_000, strata=20)
REPETITIONS = 3
GOALS = {"retrain_cost_ratio": lambda value: value <= 1.2}


def main() -> int:
    """Fills both archives, retrains on each in turn, prints the figures; 1 when the goal is missed."""
    find_devices()
    with tempfile.TemporaryDirectory() as folder:
        archives = {name: open_store(f"{folder}/{name}", "archive") for name in SIZES}
        for name, records in SIZES.items():
            say(f"archiving {records} records")
            fill(archives[name], records)
        seconds: dict[str, list[float]] = {name: [] for name in SIZES}
        rows = {}
        for repetition in range(REPETITIONS):
            for name, archive in archives.items():
                started = time.perf_counter()
                rows[name] = retrain_on(archive, Path(folder) / f"registry-{name}-{repetition}")
                seconds[name].append(time.perf_counter() - started)
                say(f"{name}: {seconds[name][-1]:.1f} s on {rows[name]} rows")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {f"retrain_{name}_s": round(value, 2) for name, value in medians.items()}
    figures |= {f"retrain_{name}_rows": count for name, count in rows.items()}
    return report(figures | {"retrain_cost_ratio": round(medians["1m"] / medians["200k"], 3)}, GOALS)


def fill(store: Store, records: int) -> None:
    """As a monitor would that scored so many records, one a second."""
    writer = ArchiveWriter(OPTIONS)
    frame = machines.readings(BATCH, seed=7)
    for start in range(0, records, BATCH):
        offsets = np.arange(start, start + BATCH)
        scored = ScoredRows(
            frame=frame,
            topic="features",
            partitions=np.zeros(BATCH, dtype=np.int32),
            offsets=offsets,
            times=1.7e9 + offsets.astype(np.float64),
            raw_score=np.ones(BATCH, dtype=np.float32),
            p_value=np.full(BATCH, 0.5),
            score=np.zeros(BATCH),
            model="v1",
            alert_ids={},
        )
        closed = writer.add(scored.sample(writer.limit))
        if closed is not None:
            store_stratum(store, "machines", machines.SCHEMA, closed, OPTIONS, now=1.7e9 + start)


def retrain_on(archive: Store, folder: Path) -> int:
    """A whole retraining, into a registry of its own; gives the rows that it read."""
    n_rows = 0

    def train(history: History, into: Path, step: Step) -> Path:
        nonlocal n_rows
        n_rows = history.frame.height
        plan = training_plan(None, ChallengerPlan(options={"steps": 600}))
        return train_challenger(history, into, schema=machines.SCHEMA, model="machines", plan=plan, step=step)

    retrain(
        Registry(str(folder)),
        RetrainPlan(model="machines", schema=machines.SCHEMA, target_alert_rate=0.01),
        read=lambda: read_archive(archive, "machines", machines.SCHEMA, Feedback({}), max_rows=200_000),
        train=train,
    )
    return n_rows


if __name__ == "__main__":
    raise SystemExit(main())
