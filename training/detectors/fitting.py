"""Fits a detector of networks: rows to leave out, new starts after a collapse, the weights to keep, calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.detectors.options import FEW_ROWS, DetectorOptions
from training.detectors.steps import Ensemble, Training
from training.detectors.trimming import trim
from training.samples import SampleTaker
from training.sampling import DistinctRowSampler, EpochSampler, RowSampler
from training.trainer import (
    LOWER_RATE,
    STEPS_PER_CALL,
    CollapseWatch,
    EarlyStopping,
    LabelledRows,
    Progress,
    TrainingCollapse,
    TrainingHistory,
    make_pseudo_anomalies,
    measure_auroc,
    measure_diversity,
    train,
)

if TYPE_CHECKING:
    from training.detectors.network_detector import NetworkDetector

_EVALUATIONS = 50
_EVALUATIONS_TO_JUDGE = 5
# Networks diverge on values like these, which no scaling leaves.
_LARGE = 100.0
# With fewer rows held out, the training rows calibrate.
_LEAST_HELD_OUT = 30


@dataclass(frozen=True)
class Task:
    """What a detector is fitted to.

    Attributes:
        X: float32 (n, d), the rows.
        validation: labelled rows that choose the weights; None without labels.
        on_progress: told where the training stands.
    """

    X: NDArray[np.float32]
    validation: LabelledRows | None
    on_progress: Callable[[Progress], None] | None


@dataclass(frozen=True)
class Rows:
    """What the rows of one attempt are used for.

    Attributes:
        train: float32 (n_train, d).
        calibrate: float32 (m, d), on which the units of the score are measured.
        held_out: float32 (k, d), not trained on; None where nothing needs it.
    """

    train: NDArray[np.float32]
    calibrate: NDArray[np.float32]
    held_out: NDArray[np.float32] | None


def fit_detector(detector: NetworkDetector, task: Task) -> TrainingHistory:
    """Trains anew, without the share of the rows that the option `trim` names.

    Raises:
        TrainingCollapse: the last attempt diverged.
        ConfigError: the validation rows lack a class.
    """
    rows = trim(task.X, detector.options.trim, detector.rng)
    try:
        history = _fit_with_restarts(detector, replace(task, X=rows))
    except TrainingCollapse as collapse:
        largest = float(np.abs(rows).max())
        if collapse.remedy != LOWER_RATE or largest < _LARGE:
            raise
        remedy = f'values reach {largest:.3g}: scaling = "log_zscore" brings them down, which "none" does not'
        raise TrainingCollapse(collapse.step, collapse.reason, remedy) from collapse
    return replace(history, trimmed=len(task.X) - len(rows))


def _fit_with_restarts(detector: NetworkDetector, task: Task) -> TrainingHistory:
    restarts: list[TrainingCollapse] = []
    for _ in range(detector.options.max_restarts):
        try:
            history = _fit_once(detector, task, ends_at_collapse=True)
        except TrainingCollapse as collapse:
            restarts.append(collapse)
            continue
        if history.collapse is None:
            return replace(history, restarts=tuple(restarts))
        restarts.append(history.collapse)
    return replace(_fit_once(detector, task, ends_at_collapse=False), restarts=tuple(restarts))


def _fit_once(detector: NetworkDetector, task: Task, *, ends_at_collapse: bool) -> TrainingHistory:
    """One training from new weights."""
    train_rows, held_out = _hold_out(detector, task)
    n_members = detector.options.members or choose_members(len(train_rows))
    if len(detector.members) != n_members:
        detector.members = detector.build_members(n_members)
    detector.prepare(train_rows)
    trainings = _make_trainings(detector, train_rows)
    rows = Rows(train_rows, _choose_calibration_rows(detector, train_rows, held_out), held_out)
    stopping = _make_stopping(detector, task.validation, rows, trainings[0])
    spread = rows.train.std(axis=0, dtype=np.float64)
    watch = CollapseWatch(
        lambda: min(measure_diversity(spread, np.asarray(one.generate())) for one in trainings),
        trainings[0].steps,
        ends_training=ends_at_collapse,
    )
    history = train(
        Ensemble(trainings).run_steps,
        trainings[0].steps,
        stopping=stopping,
        watch=watch,
        samples=_make_sample_taker(detector.options, trainings[0]),
        on_progress=task.on_progress,
    )
    detector.calibrate(rows.calibrate)
    _refuse_what_cannot_score(detector, history.best_step)
    collapse = watch.collapse
    if collapse is None and _measures_auroc(detector.options, task.validation):
        collapse = _judge_evaluations(history, are_labelled=task.validation is not None)
    return replace(history, collapse=collapse)


def _refuse_what_cannot_score(detector: NetworkDetector, step: int) -> None:
    """The losses show what a step did only at the next one: of the last steps the weights themselves have to tell."""
    if not all(np.isfinite(weight).all() for network in detector.networks for weight in network.weights):
        raise TrainingCollapse(step, "weights or units of the score are not finite", LOWER_RATE)


def _hold_out(detector: NetworkDetector, task: Task) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Training rows, and a tenth of X where something needs it."""
    options, X = detector.options, task.X
    is_needed = options.score_units == "held_out" or (task.validation is None and _chooses_weights(options))
    if len(X) < 2 or not is_needed:
        return X, None
    order = detector.rng.permutation(len(X))
    n_held_out = max(1, len(X) // 10)
    return X[order[n_held_out:]], X[order[:n_held_out]]


def _make_sample_taker(options: DetectorOptions, training: Training) -> SampleTaker | None:
    """Of images, which one looks at; a table of numbers would show nobody anything."""
    if options.image_shape is None:
        return None
    return SampleTaker(lambda: np.asarray(training.generate()), training.steps)


def _chooses_weights(options: DetectorOptions) -> bool:
    """Whether other weights than the last ones may be kept."""
    return options.early_stop_num is not None or options.checkpoint != "last"


def _make_trainings(detector: NetworkDetector, X: NDArray[np.float32]) -> list[Training]:
    """The training of each member, from new weights."""
    options, rng = detector.options, detector.rng
    samplers = _make_samplers(options, X, rng, len(detector.members))
    steps = _plan_steps(detector, len(X), samplers[0][0].n_rows)
    trainings = []
    for member, own in zip(detector.members, samplers, strict=True):
        networks = detector.build_networks()
        member.networks.assign(networks)
        trainings.append(
            detector.make_training(networks, member.networks, X, samplers=own, options=options, steps=steps, rng=rng)
        )
    return trainings


def _make_samplers(
    options: DetectorOptions, X: NDArray[np.float32], rng: np.random.Generator, n_members: int
) -> list[tuple[RowSampler, RowSampler]]:
    """Of each member, one for each half of a step. Only passes over the rows have a place that is not to be shared."""
    if options.sampling == "epochs":
        n_rows, size = len(X), options.batch_size
        return [(EpochSampler(n_rows, size, rng), EpochSampler(n_rows, size, rng)) for _ in range(n_members)]
    sampler = DistinctRowSampler(X, options.batch_size, rng)
    return [(sampler, sampler)] * n_members


def _plan_steps(detector: NetworkDetector, n_rows: int, n_distinct: int) -> int:
    options: DetectorOptions = detector.options
    if options.steps is not None:
        return options.steps
    if options.epochs is not None:
        n_batches = options.epochs * max(1, n_rows // options.batch_size)
        return max(1, round(n_batches / detector.batches_a_step))
    return choose_steps(n_distinct, options.batch_size)


def choose_members(n_rows: int) -> int:
    """Three networks where rows are few: one network's score depends on its seed there."""
    return 3 if n_rows < FEW_ROWS else 1


def choose_steps(n_distinct: int, batch_size: int) -> int:
    """Thirty for each batch that the distinct rows make, within 2,000 … 8,000 steps.

    That is thirty passes over the distinct rows, or sixty where one network takes both batches of a step.
    """
    return int(np.clip(30 * n_distinct // batch_size, 2_000, 8_000))


def _choose_calibration_rows(
    detector: NetworkDetector, train_rows: NDArray[np.float32], held_out: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    source = train_rows
    if detector.options.score_units == "held_out" and held_out is not None and len(held_out) >= _LEAST_HELD_OUT:
        source = held_out
    return source[detector.rng.permutation(len(source))[: detector.most_scored_rows]]


def _make_stopping(
    detector: NetworkDetector, validation: LabelledRows | None, rows: Rows, training: Training
) -> EarlyStopping | None:
    evaluate = _make_evaluation(detector, validation, rows)
    if evaluate is None:
        return None
    weights = [weight for member in detector.members for weight in member.networks.weights]
    every = max(STEPS_PER_CALL, (training.steps - training.first_evaluation) // _EVALUATIONS)
    return EarlyStopping(
        evaluate, weights, detector.options.early_stop_num, every, training.steps, training.first_evaluation
    )


def _measures_auroc(options: DetectorOptions, validation: LabelledRows | None) -> bool:
    """Whether evaluations are AUROCs; else they are reconstruction errors."""
    return validation is not None or options.checkpoint != "reconstruction"


def _make_evaluation(
    detector: NetworkDetector, validation: LabelledRows | None, rows: Rows
) -> Callable[[], float] | None:
    """Quality of the weights of the moment; None when the last ones are kept.

    It is measured by labels, by copies of held-out rows with exchanged values, or by how well those are reproduced.
    """
    if validation is not None:
        labelled = _thin(validation, detector.most_scored_rows, detector.rng)
    else:
        if rows.held_out is None or not _chooses_weights(detector.options):
            return None
        held_out = rows.held_out[: detector.most_scored_rows]
        if detector.options.checkpoint == "reconstruction":
            return lambda: -detector.measure_reconstruction_error(held_out)
        labelled = make_pseudo_anomalies(held_out, detector.backbone.mask_cells, detector.rng)
        if not labelled.y.any():  # all rows are equal: no exchange makes another one
            return None

    def evaluate() -> float:
        detector.calibrate(rows.calibrate)
        return measure_auroc(detector.score_rows, labelled)

    return evaluate


def _thin(rows: LabelledRows, most: int, rng: np.random.Generator) -> LabelledRows:
    """At most `most` rows, of each class at most half of them: AUROC does not depend on the classes' shares."""
    if len(rows.y) <= most:
        return rows
    kept = np.concatenate([rng.permutation(np.flatnonzero(rows.y == label))[: most // 2] for label in (0, 1)])
    return LabelledRows(rows.X[kept], rows.y[kept])


def _judge_evaluations(history: TrainingHistory, *, are_labelled: bool) -> TrainingCollapse | None:
    """A score that never told broken rows from whole ones has collapsed."""
    qualities = [evaluation.quality for evaluation in history.evaluations]
    if len(qualities) < _EVALUATIONS_TO_JUDGE or max(qualities) > 0.5:
        return None
    remedy = "see whether the labels are right" if are_labelled else 'checkpoint = "last" does without'
    return TrainingCollapse(history.evaluations[-1].step, f"validation AUROC is {max(qualities):.2f} at best", remedy)
