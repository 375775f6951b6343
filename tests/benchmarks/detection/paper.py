"""F1 of EfficientGAN's preset `paper` on KDD99 along its training, by its authors' protocol: it rises, then collapses.

The best checkpoint is found by labels of the test rows: it says what the training passes by, nobody could choose it.
"""

from __future__ import annotations

from tests.benchmarks.detection import kdd99
from tests.benchmarks.detection.bench import Bench, Part, say
from tests.benchmarks.detection.rows import mean_of
from tests.benchmarks.detection.table import print_table
from training.datasets import measure_detection
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.trainer import Progress

SEEDS = 3
# The paper states F1 0.937 ± 0.044.
GOALS = {"kdd99_paper_f1_best": lambda f1: f1 >= 0.937 - 0.044}
_CHECKPOINTS = 20


def run(bench: Bench) -> Part:
    """All seeds; their tables, the mean of the best checkpoints and of the last ones."""
    options = EfficientGANOptions.preset("paper")
    by_seed = {
        seed: bench.measure(
            __file__, kdd99.FILE, {"seed": seed}, lambda seed=seed: {"f1": follow_training(bench, options, seed)}
        )["f1"]
        for seed in bench.seeds(SEEDS)
    }
    checkpoints = list(by_seed[0])
    print_table(
        "KDD99, the authors' protocol, preset `paper`: F1 on the way",
        (f"steps of {options.batch_size} rows", *(f"seed {seed}" for seed in by_seed)),
        [
            *([step, *(found[step] for found in by_seed.values())] for step in checkpoints),
            *([name, *[found["f1"]] * len(by_seed)] for name, found in kdd99.measure_all_baselines(bench).items()),
        ],
    )
    best = [max(found.values()) for found in by_seed.values()]
    last = [found[checkpoints[-1]] for found in by_seed.values()]
    figures = {
        "kdd99_paper_f1_best": mean_of(best),
        "kdd99_paper_f1_best_worst": round(min(best), 4),
        "kdd99_paper_f1_last": mean_of(last),
    }
    return Part(figures, GOALS)


def follow_training(bench: Bench, options: EfficientGANOptions, seed: int) -> dict[str, float]:
    """F1 on the test rows by the number of steps that are done."""
    protocol = kdd99.load_protocol(bench.data, options.scaling)
    detector = EfficientGAN(protocol.X_train.shape[1], options, seed)
    found: dict[str, float] = {}

    def look(progress: Progress) -> None:
        if progress.step * _CHECKPOINTS >= (len(found) + 1) * progress.steps:
            score = detector.score_rows(protocol.X_test)
            f1 = measure_detection(score, protocol.y_test, flagged=kdd99.ANOMALY_SHARE).f1
            found[str(progress.step)] = f1
            say(f"paper, seed {seed}: {progress.step} steps, F1 {f1:.4f}")

    detector.fit(protocol.X_train, on_progress=look)
    return found
