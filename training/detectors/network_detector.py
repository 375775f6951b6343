"""What the detectors share: members, the units of their terms, the sum of these. `fitting` trains them.

A detector adds its networks, its training steps and the terms of its score:

    score(x) = mean over members of Σ_k share_k · term_k(x) / c_k, higher is more anomalous

The residual of each column is divided by u, its root mean square; c_k is the mean of a term, times a factor that is the same for
all and 1 unless rounding asks for more. They are measured on rows held out of training (or on training rows; or left at 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.backbones import choose_backbone
from training.detectors.fitting import Task, fit_detector
from training.detectors.options import DetectorOptions
from training.detectors.steps import NetworkGroup, Training
from training.trainer import LabelledRows, Progress, TrainingHistory

_MAX_LATENT_DIM = 16
_CALIBRATION_ROWS = 50_000
# Outside of training so many values of rows go through the networks at once; what layers make of them takes a multiple.
_VALUES_AT_ONCE = 2**23
# A column that is reconstructed exactly in training gets this unit, so that a first deviation stays finite.
_SMALLEST_UNIT = 1e-3
_SMALLEST_EXPLAINED_UNIT = 0.01
# Rounding moves a term by no more than so much of its unit in 99 of 100 rows: a fifth of what golden records may be off on another
# processor. A network that reproduces simple rows to the last digits leaves terms that are differences of almost equal numbers.
_LARGEST_ROUNDING = 2e-5
_ROUNDED_ROWS, _ROUNDED_SHARE = 1_000, 0.99
_LAST_PLACE = np.float32(2**-23)


class TermUnits(keras.layers.Layer):  # type: ignore[misc]
    """The constants of the score of one member: what each column's residual and each term is divided by."""

    def __init__(self, n_features: int, n_terms: int) -> None:
        super().__init__(name="term_units", trainable=False)
        self.residual = self.add_weight(shape=(n_features,), initializer="ones", name="residual")
        self.terms = [self.add_weight(shape=(), initializer="ones", name=f"term_{k}") for k in range(n_terms)]
        self.built = True


@dataclass(frozen=True)
class Member:
    """One set of trained networks with its units; an ensemble has several."""

    networks: Any
    units: TermUnits


@dataclass(frozen=True)
class Terms:
    """What a member says about rows.

    Attributes:
        x_hat: float32 (n, d), the reconstruction.
        residual: float32 (n, d), >= 0, in units of each column.
        parts: float32 (n,) each, the terms of the score before calibration, the one made of `residual` first; None for
            a term of no weight.
    """

    x_hat: tf.Tensor
    residual: tf.Tensor
    parts: tuple[tf.Tensor | None, ...]


class NetworkDetector(ABC):
    """A detector made of neural networks. It scores with moving averages of the weights that training changes.

    Attributes:
        n_features: width of X.
        options: how it is built, trained and scored.
        latent_dim: length of the code z.
        backbone: makes the networks.
        serving_rows: rows that one call of the exported detector takes; None for any number.
        most_scored_rows: rows that are scored for calibration and evaluation at most.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[DetectorOptions]]
    n_terms: ClassVar[int] = 2

    def __init__(self, n_features: int, options: Any, seed: int, cells: NDArray[np.intp] | None = None) -> None:
        """Builds untrained networks; the same seed and data give the same scores.

        Args:
            n_features: width of X.
            options: how it is built, trained and scored.
            seed: of everything random.
            cells: intp (n_features,), from 0; columns of the same number make one value, as the levels of a category do. None:
                each column is a value of its own.
        """
        self.n_features = n_features
        self.options = options
        self.latent_dim: int = options.latent_dim or choose_latent_dim(n_features)
        self.backbone = choose_backbone(n_features, options, cells)
        self.serving_rows: int | None = None
        self.most_scored_rows = _CALIBRATION_ROWS
        self.rng = np.random.default_rng(seed)
        self.members = self.build_members(options.members or 1)

    @property
    def networks(self) -> tuple[keras.layers.Layer, ...]:
        """All that holds the numbers that `score` and `explain` use; an export has to track each of them."""
        return tuple(layer for member in self.members for layer in (*member.networks.models, member.units))

    @property
    @abstractmethod
    def shares(self) -> tuple[float, ...]:
        """Weight of each term in the score."""

    @property
    def explained_share(self) -> float:
        """Weight of the reconstruction in an explanation: where it has none in the score, it still says all that is known."""
        return self.shares[0] or 1.0

    def build_members(self, n_members: int) -> tuple[Member, ...]:
        """Untrained ones, with units of 1."""
        return tuple(Member(self.build_networks(), TermUnits(self.n_features, self.n_terms)) for _ in range(n_members))

    @property
    def batches_a_step(self) -> float:
        """From how many of the two batches of a step one and the same network learns: epochs are counted in these."""
        return 1.0

    @abstractmethod
    def build_networks(self) -> NetworkGroup:
        """Untrained networks of one member, drawn from `rng`."""

    @abstractmethod
    def make_training(self, networks: Any, averages: Any, X: NDArray[np.float32], **arguments: Any) -> Training:
        """The training of one member."""

    @abstractmethod
    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """X float32 (n, n_features) → what one member says; without dropout or randomness."""

    def score(self, X: tf.Tensor) -> tf.Tensor:
        """X float32 (n, n_features) → float32 (n,), higher is more anomalous; without dropout or randomness."""
        self._check_width(X)
        return _mean([self._score_member(member, X) for member in self.members])

    def explain(self, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """X float32 (n, n_features) → reconstruction and residual, both float32 (n, n_features).

        The residual is not negative. It is that of the score, but where a column hardly ever differs in training its unit
        is `_SMALLEST_EXPLAINED_UNIT`: dozens of levels that never occur would otherwise drown the number that is odd.
        """
        self._check_width(X)
        terms = [self.measure_terms(member, X) for member in self.members]
        residuals = []
        for one, member in zip(terms, self.members, strict=True):
            unit = member.units.residual
            coarser = unit / tf.maximum(unit, _SMALLEST_EXPLAINED_UNIT)
            residuals.append(one.residual * coarser * (self.explained_share / member.units.terms[0]))
        return _mean([one.x_hat for one in terms]), _mean(residuals)

    def fit(
        self,
        X: NDArray[np.float32],
        *,
        validation: LabelledRows | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> TrainingHistory:
        """Trains anew on rows that are taken as normal.

        With `validation` the weights with the best AUROC there are kept, and `early_stop_num` evaluations without
        improvement end the training. Without it the option `checkpoint` says what is kept, and `early_stop_num` works
        on a tenth of the rows, held out. A training that collapses starts anew with other random numbers.

        Args:
            X: float32 (n, n_features), transformed, finite.
            validation: labelled rows that are neither trained on nor reported on.
            on_progress: called a few times a second.

        Raises:
            ValueError: X has another shape or is not finite.
            ConfigError: the validation rows lack a class, or the last attempt diverged.
        """
        _check_rows(X, self.n_features)
        return fit_detector(self, Task(X, validation, on_progress))

    def residual(self, member: Member, X: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
        """|x - x_hat| in units of each column, float32 (n, n_features)."""
        return tf.abs(X - x_hat) / member.units.residual

    def _check_width(self, X: tf.Tensor) -> None:
        if X.shape[1] != self.n_features:
            raise ValueError(f"X: expected shape (n, {self.n_features}), got {tuple(X.shape)}")

    def _score_member(self, member: Member, X: tf.Tensor) -> tf.Tensor:
        parts = self.measure_terms(member, X).parts
        weighted = zip(self.shares, parts, member.units.terms, strict=True)
        return tf.add_n([share * (part / unit) for share, part, unit in weighted if part is not None])

    def score_rows(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of any number of rows, float32 (n,), in bounded memory."""
        return np.concatenate([np.asarray(self.score(part)) for part in self._parts(X)])

    def measure_reconstruction_error(self, X: NDArray[np.float32]) -> float:
        """Mean |x - x_hat| over rows, columns and members."""

        def measure(rows: tf.Tensor) -> tf.Tensor:
            terms = [self.measure_terms(member, rows) for member in self.members]
            return _mean([tf.reduce_mean(tf.abs(rows - one.x_hat)) for one in terms])

        return float(self._mean_over_parts(measure, X))

    def prepare(self, X: NDArray[np.float32]) -> None:  # noqa: B027
        """Learns from the training rows float32 (n, n_features) what takes no steps; called once before these."""

    def calibrate(self, X: NDArray[np.float32]) -> None:
        """Sets the units of the score from rows float32 (n, n_features)."""
        if self.options.score_units == "raw":
            return
        factor = max(self._calibrate_member(member, X) for member in self.members)
        for unit in (unit for member in self.members for unit in member.units.terms):
            unit.assign(unit * factor)

    def _calibrate_member(self, member: Member, X: NDArray[np.float32]) -> float:
        """Sets the units of the columns, then those of the terms, which are measured in these.

        Returns:
            How many times as large those of the terms have to be for rounding to be small in them; at least 1.
        """

        def measure_squares(rows: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tf.square(rows - self.measure_terms(member, rows).x_hat), axis=0)

        def measure_parts(rows: tf.Tensor) -> tf.Tensor:
            parts = self.measure_terms(member, rows).parts
            return tf.stack([tf.constant(0.0) if part is None else tf.reduce_mean(part) for part in parts])

        squares = self._mean_over_parts(measure_squares, X)
        member.units.residual.assign(tf.maximum(tf.sqrt(self.backbone.pool(squares)), _SMALLEST_UNIT))
        means = self._mean_over_parts(measure_parts, X).numpy()
        units = np.where(means == 0, np.float32(1.0), means)
        for unit, value in zip(member.units.terms, units, strict=True):
            unit.assign(value)
        rounding = self._measure_rounding(member, next(self._parts(X[:_ROUNDED_ROWS])))
        return float(np.nanmax(rounding / units / _LARGEST_ROUNDING, initial=1.0))

    def _measure_rounding(self, member: Member, X: tf.Tensor) -> NDArray[np.float32]:
        """How far each term moves, float32 (n_terms,), when the values of X do by one unit in the last place."""
        here, beside = (self.measure_terms(member, rows).parts for rows in (X, X * (1 + _LAST_PLACE)))
        moves = [
            0.0 if one is None else np.quantile(np.abs(one - other), _ROUNDED_SHARE)
            for one, other in zip(here, beside, strict=True)
        ]
        return np.array(moves, dtype=np.float32)

    def _mean_over_parts(self, measure: Callable[[tf.Tensor], tf.Tensor], X: NDArray[np.float32]) -> tf.Tensor:
        """Mean over all rows of what `measure` gives as the mean over some."""
        return tf.add_n([measure(part) * (len(part) / len(X)) for part in self._parts(X)])

    def _parts(self, X: NDArray[np.float32]) -> Iterator[tf.Tensor]:
        """X in parts of bounded size."""
        n_rows = max(1, _VALUES_AT_ONCE // self.n_features)
        return (tf.constant(X[first : first + n_rows]) for first in range(0, len(X), n_rows))


def choose_latent_dim(n_features: int) -> int:
    """Half the width of the data, within 1 … 16: wide enough for its structure, too narrow to copy it."""
    return min(_MAX_LATENT_DIM, max(1, n_features // 2))


def _mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    return values[0] if len(values) == 1 else tf.add_n(list(values)) / len(values)


def _check_rows(X: NDArray[np.float32], n_features: int) -> None:
    if X.ndim != 2 or X.shape[1] != n_features or not len(X):
        raise ValueError(f"X: expected float32 (n >= 1, {n_features}), got {X.dtype} {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError("X: expected finite values; the preprocessor replaces missing ones")
