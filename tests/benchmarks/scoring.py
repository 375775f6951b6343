"""The daemon's scorer against other ways to score the same rows: `make bench-scoring`.

The bundle is the one that `ganwatch train` makes on KDD99 with the preset `default`; the rows are the other half of KDD99,
transformed. Every contender has one thread and takes turns with the others; medians of rows per second of the process's CPU
time are compared, which on an idle machine are those of the clock: `keras.predict` as in a hand-written loop (E, G and D, 64
rows a call), the `tf.function` graph of the detector (4,096 rows a call), PyOD's ALAD (all rows in one call) and River's
HalfSpaceTrees (row by row: it has no other form); the last two in the environment that RIVALS_PYTHON names. TensorFlow's
networks are those of the preset, untrained: what they learn does not change their speed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from monitor.model.bundle import Bundle
from tests.benchmarks.goals import Goals, report
from tests.benchmarks.kdd99_stream import champion, data_folder, encode, train_champion
from tests.benchmarks.rivals.hand_written import KerasScorer
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.trainer import use_one_thread_an_operation

Score = Callable[[NDArray[np.float32]], object]

ROWS = 16_384
KERAS_ROWS = 5 * 64
GOALS: Goals = {
    "ratio_keras_predict_64": lambda value: value >= 300,
    "ratio_tf_function_4096": lambda value: value >= 1.5,
}
# Ratio, ours, theirs.
RATIOS = (
    ("ratio_keras_predict_64", "LiteRT, 64 rows", "keras.predict, 64 rows"),
    ("ratio_tf_function_4096", "LiteRT, 4,096 rows", "tf.function, 4,096 rows"),
    ("ratio_pyod_alad", "LiteRT, 4,096 rows", "PyOD ALAD"),
    ("ratio_river_hst", "LiteRT, 4,096 rows", "River HalfSpaceTrees, 1 row"),
    ("ratio_river_hst_one_row", "LiteRT, 1 row", "River HalfSpaceTrees, 1 row"),
)


def main() -> int:
    """Runs everything; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15, help="runs of each contender")
    arguments = parser.parse_args()
    data = data_folder(parser, "RIVALS_PYTHON")
    use_one_thread_an_operation()
    with tempfile.TemporaryDirectory(prefix="ganwatch-scoring-") as name:
        rows = train_champion(Path(name), data)
        return report(run(Path(name), encode(rows[:ROWS]), arguments.repetitions), GOALS)


def run(folder: Path, records: list[bytes], repetitions: int) -> dict[str, Any]:
    """Lets the contenders take turns on the same rows."""
    bundle = champion(folder)
    X = bundle.preprocessor.transform(bundle.decoder().decode(records).frame).X
    rates: dict[str, list[float]] = {}
    with foreign_scorers(folder, X) as foreign:
        contenders = own_contenders(bundle, X) | foreign
        for measure in contenders.values():
            measure()  # warms up: nobody's tracing or first allocation counts
        for _ in range(repetitions):
            for contender, measure in contenders.items():
                rates.setdefault(contender, []).append(measure())
    medians = {contender: statistics.median(runs) for contender, runs in rates.items()}
    ratios = {key: medians[ours] / medians[theirs] for key, ours, theirs in RATIOS}
    print_table(medians, ratios)
    return {key: round(ratio, 2) for key, ratio in ratios.items()} | {
        "litert_rows_per_s": round(medians["LiteRT, 4,096 rows"]),
        "bundle_sha256": bundle.sha256,
    }


def own_contenders(bundle: Bundle, X: NDArray[np.float32]) -> dict[str, Callable[[], float]]:
    """What runs in this process, by name: one measurement in rows per second each."""
    detector = EfficientGAN(X.shape[1], EfficientGANOptions.preset("default"), seed=0)
    graph = tf.function(detector.score, input_signature=[tf.TensorSpec((None, X.shape[1]), tf.float32)])
    by_keras, ours = KerasScorer(X.shape[1]).score, bundle.scorer.score
    return {
        "LiteRT, 64 rows": lambda: rate(ours, X, 64),
        "keras.predict, 64 rows": lambda: rate(by_keras, X[:KERAS_ROWS], 64),
        "LiteRT, 4,096 rows": lambda: rate(ours, X, 4096),
        "tf.function, 4,096 rows": lambda: rate(lambda rows: graph(rows).numpy(), X, 4096),
        "LiteRT, 1 row": lambda: rate(ours, X[:4096], 1),
    }


def rate(score: Score, X: NDArray[np.float32], n_rows: int) -> float:
    """Rows per second of CPU, so many at a time."""
    started = time.process_time()
    for start in range(0, len(X), n_rows):
        score(X[start : start + n_rows])
    return len(X) / (time.process_time() - started)


@contextmanager
def foreign_scorers(folder: Path, X: NDArray[np.float32]) -> Iterator[dict[str, Callable[[], float]]]:
    """The rivals of the other environment; their process learns once and then scores whenever it is asked."""
    np.save(folder / "X.npy", X)
    process = subprocess.Popen(
        [os.environ["RIVALS_PYTHON"], "-m", "tests.benchmarks.rivals.scorers", str(folder / "X.npy")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = (line.split()[1] for line in process.stdout if line.startswith("rate "))

    def measure(scorer: str) -> float:
        print(scorer, file=process.stdin, flush=True)
        return float(next(answers))

    with process:
        yield {
            "PyOD ALAD": lambda: measure("pyod alad"),
            "River HalfSpaceTrees, 1 row": lambda: measure("river hst"),
        }
        process.stdin.close()


def print_table(medians: dict[str, float], ratios: dict[str, float]) -> None:
    """Medians and ratios as Markdown."""
    print("\n| scorer | rows/s | µs a row | ratio |\n|---|---|---|---|")
    for contender, median in medians.items():
        faster = "; ".join(f"{ours}: {ratios[key]:,.2f} ×" for key, ours, theirs in RATIOS if theirs == contender)
        print(f"| {contender} | {median:,.0f} | {1e6 / median:,.2f} | {faster} |")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
