"""The training loop that all detectors share: calls, progress, early stopping, collapse. It knows no network, no loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from monitor.errors import ConfigError
from training.samples import Sample, SampleTaker

# A graph call runs this many steps: long enough that its overhead vanishes, short enough for a lively progress bar.
STEPS_PER_CALL = 50
# A generator whose rows vary this little beside those of the data has collapsed, if it stays so for that many calls.
LEAST_DIVERSITY = 0.05
_CALLS_IN_COLLAPSE = 5
# Before this share of the steps nothing is called a collapse.
_COLLAPSE_FROM = 0.25
# What helps against divergence.
LOWER_RATE = "lower learning_rate"


def use_one_thread_an_operation() -> None:
    """Tells TensorFlow to run operations beside each other, not to split one over threads; to be called at start.

    The matrices of these networks are so small that splitting them costs more than it gains: without it training is a
    fifth to a third slower on two cores. It also makes results independent of the number of cores.

    Raises:
        RuntimeError: TensorFlow has run an operation already.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)


@dataclass(frozen=True)
class LabelledRows:
    """Rows with known outcome, kept out of training.

    Attributes:
        X: float32 (n, d), transformed.
        y: int (n,), 1 = anomaly.
    """

    X: NDArray[np.float32]
    y: NDArray[np.int_]


@dataclass(frozen=True)
class Progress:
    """Where the training stands.

    Attributes:
        step: steps made so far.
        steps: steps planned.
        losses: mean of each named loss over the last graph call.
    """

    step: int
    steps: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """How good the weights were after `step` steps.

    Attributes:
        step: steps made.
        quality: higher is better: AUROC on validation rows, or minus the reconstruction error of rows held out.
    """

    step: int
    quality: float


class TrainingCollapse(ConfigError):  # noqa: N818 - the name says what happened; "Error" would add nothing
    """A training that cannot end well; another seed may.

    Attributes:
        step: after how many steps it was seen.
        reason: what was seen, in words.
        remedy: what may help.
    """

    def __init__(self, step: int, reason: str, remedy: str) -> None:
        """Keeps its parts."""
        super().__init__("training", f"{reason} after {step} steps; {remedy}")
        self.step, self.reason, self.remedy = step, reason, remedy


@dataclass(frozen=True)
class TrainingHistory:
    """What happened.

    Attributes:
        progress: one entry a graph call.
        evaluations: those of early stopping; empty without it.
        best_step: the step whose weights were kept.
        stopped_early: patience ran out before the planned steps.
        restarts: the collapses that made the training start anew, in order.
        collapse: that of the last attempt, which was kept for want of a better one; None is the rule.
        trimmed: training rows that were left out.
        samples: rows that were generated on the way; empty where rows are no images.
    """

    progress: tuple[Progress, ...]
    evaluations: tuple[Evaluation, ...]
    best_step: int
    stopped_early: bool
    restarts: tuple[TrainingCollapse, ...] = ()
    collapse: TrainingCollapse | None = None
    trimmed: int = 0
    samples: tuple[Sample, ...] = ()

    @property
    def best_quality(self) -> float | None:
        """Quality of the weights that were kept, where they were evaluated."""
        return next((one.quality for one in self.evaluations if one.step == self.best_step), None)


@dataclass
class EarlyStopping:
    """Keeps the weights that validate best and gives up after `patience` evaluations without improvement.

    Attributes:
        evaluate: quality of the weights of the moment on rows kept out of training, higher is better.
        weights: all that `evaluate` depends on.
        patience: evaluations without improvement before the end; None never ends early.
        every: steps between two evaluations.
        steps: planned; after the last one it is evaluated, too.
        first: steps before the first one.
    """

    evaluate: Callable[[], float]
    weights: Sequence[tf.Variable]
    patience: int | None
    every: int
    steps: int
    first: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    _best: tuple[Evaluation, list[NDArray[np.float32]]] | None = None

    def __post_init__(self) -> None:
        self._next = self.first

    def is_over(self, step: int) -> bool:
        """Evaluates when it is time; true when patience has run out."""
        if step < self._next:
            return False
        self._next = min(step + self.every, self.steps)
        evaluation = Evaluation(step, self.evaluate())
        self.evaluations.append(evaluation)
        if self._best is None or evaluation.quality > self._best[0].quality:
            self._best = evaluation, [weight.numpy() for weight in self.weights]
        since_best = len(self.evaluations) - 1 - self.evaluations.index(self._best[0])
        return self.patience is not None and since_best >= self.patience

    def restore_best(self) -> int:
        """Puts the best weights back and says from which step they are."""
        if self._best is None:
            raise RuntimeError("restore_best() before the first evaluation")
        evaluation, values = self._best
        for weight, value in zip(self.weights, values, strict=True):
            weight.assign(value)
        return evaluation.step


@dataclass
class CollapseWatch:
    """Notices a generator that makes the same row whatever it is given.

    Attributes:
        measure_diversity: spread of generated rows as a share of that of the training rows.
        steps: planned; the first quarter is not judged.
        ends_training: whether a collapse ends the training or is only noted.
        collapse: what was noticed first.
    """

    measure_diversity: Callable[[], float]
    steps: int
    ends_training: bool = True
    collapse: TrainingCollapse | None = None
    _calls: int = 0

    def look(self, step: int) -> None:
        """Measures after a graph call.

        Raises:
            TrainingCollapse: the diversity has been too small for some calls on end.
        """
        if step < _COLLAPSE_FROM * self.steps or self.collapse is not None:
            return
        diversity = self.measure_diversity()
        self._calls = self._calls + 1 if diversity < LEAST_DIVERSITY else 0
        if self._calls >= _CALLS_IN_COLLAPSE:
            self.collapse = TrainingCollapse(
                step, f"generated rows vary {diversity:.1%} as much as the data", "try another seed or detector"
            )
            if self.ends_training:
                raise self.collapse


def measure_diversity(spread: NDArray[np.float64], generated: NDArray[np.float32]) -> float:
    """Spread of generated rows as a share of that of the data, in [0, 1]; 1 where the data do not vary.

    A column counts by its variance: hundreds of rare levels, of which few rows ever show one, say little of a generator.

    Args:
        spread: float64 (d,), standard deviation of each column over the training rows.
        generated: float32 (m, d).
    """
    varies = spread > 0
    if not varies.any():
        return 1.0
    shares = generated.std(axis=0, dtype=np.float64)[varies] / spread[varies]
    return float(np.average(np.minimum(1.0, shares), weights=spread[varies] ** 2))


def train(
    run_steps: Callable[[int, int], Mapping[str, float]],
    steps: int,
    *,
    stopping: EarlyStopping | None = None,
    watch: CollapseWatch | None = None,
    samples: SampleTaker | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainingHistory:
    """Runs `steps` training steps, many a graph call.

    Args:
        run_steps: makes the steps `first … first + count - 1` and returns the mean of each named loss.
        steps: how many to make.
        stopping: early stopping, if wanted; the best weights are back in place at the end.
        watch: looks for a collapse of the generator.
        samples: takes generated rows on the way.
        on_progress: called after each graph call.

    Raises:
        TrainingCollapse: a loss became infinite or NaN, or the generator has collapsed.
    """
    history: list[Progress] = []
    stopped_early = False
    for first in range(0, steps, STEPS_PER_CALL):
        count = min(STEPS_PER_CALL, steps - first)
        losses = dict(run_steps(first, count))
        _refuse_divergence(losses, first + count)
        history.append(Progress(first + count, steps, losses))
        if on_progress is not None:
            on_progress(history[-1])
        if watch is not None:
            watch.look(first + count)
        if samples is not None:
            samples.look(first + count)
        if stopping is not None and stopping.is_over(first + count):
            stopped_early = first + count < steps
            break
    best_step = stopping.restore_best() if stopping is not None else steps
    evaluations = tuple(stopping.evaluations) if stopping is not None else ()
    taken = tuple(samples.taken) if samples is not None else ()
    return TrainingHistory(tuple(history), evaluations, best_step, stopped_early, samples=taken)


def _refuse_divergence(losses: Mapping[str, float], step: int) -> None:
    diverged = [name for name, loss in losses.items() if not np.isfinite(loss)]
    if diverged:
        raise TrainingCollapse(step, f"loss {diverged[0]!r} is {losses[diverged[0]]}", LOWER_RATE)


def make_pseudo_anomalies(X: NDArray[np.float32], cells: NDArray[np.intp], rng: np.random.Generator) -> LabelledRows:
    """Validation rows without labels: the rows as they are (0) and copies with foreign values in some cells (1).

    Each copy takes 10-30 % of its cells, at least one, from another row: every value remains plausible by itself and
    only the relations between them break.

    Args:
        X: float32 (n, d), rows kept out of training.
        cells: intp (d,), from 0; columns of the same number make one value, as the levels of a category do.
        rng: source of the choice.
    """
    n_rows, n_cells = len(X), int(cells.max()) + 1
    donors = X[rng.permutation(n_rows)]
    ranks = rng.permuted(np.tile(np.arange(n_cells), (n_rows, 1)), axis=1)
    taken = np.maximum(1, np.round(rng.uniform(0.1, 0.3, (n_rows, 1)) * n_cells))
    broken = np.where((ranks < taken)[:, cells], donors, X)
    is_broken = (broken != X).any(axis=1)
    return LabelledRows(
        np.concatenate([X, broken[is_broken]]),
        np.concatenate([np.zeros(n_rows, int), np.ones(int(is_broken.sum()), int)]),
    )


def measure_auroc(score: Callable[[NDArray[np.float32]], NDArray[np.float32]], rows: LabelledRows) -> float:
    """AUROC of the scores of labelled rows, in [0, 1]; scores that are no numbers rank highest.

    Raises:
        ConfigError: the rows are all normal or all anomalous.
    """
    n_anomalies = int(np.sum(rows.y))
    if n_anomalies in (0, len(rows.y)):
        raise ConfigError(
            "validation",
            f"needs normal rows and anomalies, got {n_anomalies} anomalies in {len(rows.y)} rows; "
            "--anomaly names the labels that mean anomaly",
        )
    highest = float(np.finfo(np.float32).max)
    scores = np.nan_to_num(score(rows.X), nan=highest, posinf=highest)
    return float(roc_auc_score(rows.y, scores))
