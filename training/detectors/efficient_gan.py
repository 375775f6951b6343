"""EfficientGAN (Zenati et al. 2018, arXiv 1802.06222) for tabular rows.

An encoder E, a generator G and a discriminator D learn together (BiGAN): D tells pairs (x, E(x)) from pairs (G(z), z).

    symbol        here                    meaning
    x             X                       rows, transformed by the preprocessor
    z, E(x)       z                       latent code, standard normal in training
    G(E(x))       x_hat                   reconstruction
    D(x, z), f    discriminator           logit, and the outputs of its last hidden layer
    alpha         options.weight          share of the reconstruction in the score
    p             options.degree          norm of residuals and of feature distances
    L_D           options.loss            second term of the score

    score(x) = alpha * ||(x - G(E(x))) / u||_p / c1 + (1 - alpha) * L_D(x) / c2, higher is more anomalous

The preset `paper` has u = c1 = c2 = 1. The preset `default` is "EfficientGAN + consistency": E and G also learn to
invert each other, u is the root mean square of each column's residual over training rows, c1 and c2 are the means of
the two terms there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.adversarial import AdversarialTraining, Networks
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.networks import dense_encoder, dense_generator, joint_discriminator
from training.detectors.options import DetectorOptions
from training.sampling import DistinctRowSampler, EpochSampler, RowSampler
from training.trainer import (
    STEPS_PER_CALL,
    EarlyStopping,
    LabelledRows,
    Progress,
    TrainingHistory,
    make_pseudo_anomalies,
    measure_auroc,
    train,
)

_MAX_LATENT_DIM = 16
_EVALUATIONS = 50
_CALIBRATION_ROWS = 50_000
# A column that is reconstructed exactly in training gets this unit, so that a first deviation stays finite.
_SMALLEST_UNIT = 1e-3


class ScoreUnits(keras.layers.Layer):  # type: ignore[misc]
    """The constants of the score: what each column's residual and each of the two terms is divided by."""

    def __init__(self, n_features: int) -> None:
        super().__init__(name="score_units", trainable=False)
        self.residual = self.add_weight(shape=(n_features,), initializer="ones", name="residual")
        self.reconstruction = self.add_weight(shape=(), initializer="ones", name="reconstruction")
        self.second = self.add_weight(shape=(), initializer="ones", name="second")
        self.built = True


class EfficientGAN:
    """The detector. It scores with moving averages of the weights that training changes.

    Attributes:
        n_features: width of X.
        options: how it is built, trained and scored.
    """

    name: ClassVar[str] = "efficient_gan"
    options_type: ClassVar[type[DetectorOptions]] = EfficientGANOptions

    def __init__(self, n_features: int, options: EfficientGANOptions, seed: int) -> None:
        """Builds untrained networks; the same seed and data give the same scores."""
        self.n_features = n_features
        self.options = options
        self._latent_dim = options.latent_dim or choose_latent_dim(n_features)
        self._rng = np.random.default_rng(seed)
        self._networks = self._build_networks()
        self._units = ScoreUnits(n_features)

    @property
    def networks(self) -> tuple[keras.layers.Layer, ...]:
        """All that holds the numbers that `score` and `explain` use; an export has to track each of them."""
        return (self._networks.encoder, self._networks.generator, self._networks.discriminator, self._units)

    def fit(
        self,
        X: NDArray[np.float32],
        *,
        validation: LabelledRows | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> TrainingHistory:
        """Trains anew on rows that are taken as normal.

        With `validation` the weights with the best AUROC there are kept, and `early_stop_num` evaluations without
        improvement end the training. Without it `early_stop_num` works on a tenth of the rows, held out, against
        copies of them in which some columns were exchanged.

        Args:
            X: float32 (n, n_features), transformed, finite.
            validation: labelled rows that are neither trained on nor reported on.
            on_progress: called a few times a second.

        Raises:
            ValueError: X has another shape or is not finite.
            ConfigError: the validation rows lack a class, or the training diverged.
        """
        _check_rows(X, self.n_features)
        if validation is None and self.options.early_stop_num is not None and len(X) > 1:
            X, validation = self._hold_out(X)
        samplers = self._make_samplers(X)
        steps = self._plan_steps(len(X), samplers[0].n_rows)
        trained = self._build_networks()
        for average, weight in zip(self._networks.weights, trained.weights, strict=True):
            average.assign(weight)
        training = AdversarialTraining(
            trained, self._networks, X, samplers=samplers, options=self.options, steps=steps, rng=self._rng
        )
        calibration_rows = X[self._rng.permutation(len(X))[:_CALIBRATION_ROWS]]
        stopping = None if validation is None else self._make_stopping(validation, calibration_rows, steps)
        history = train(training.run_steps, steps, stopping=stopping, on_progress=on_progress)
        self._calibrate(calibration_rows)
        return history

    def score(self, X: tf.Tensor) -> tf.Tensor:
        """X float32 (n, n_features) → float32 (n,), higher is more anomalous; without dropout or randomness."""
        z = self._networks.encoder(X)
        x_hat = self._networks.generator(z)
        weight, units = self.options.weight, self._units
        first = self._norm(self._residual(X, x_hat)) / units.reconstruction
        return weight * first + (1 - weight) * self._second_term(X, z, x_hat) / units.second

    def explain(self, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """X float32 (n, n_features) → reconstruction and residual, both float32 (n, n_features).

        The residual is not negative and is that of the score: for degree 1 its sum over the columns is the first term.
        """
        x_hat = self._networks.generator(self._networks.encoder(X))
        return x_hat, self._residual(X, x_hat) * (self.options.weight / self._units.reconstruction)

    def _residual(self, X: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
        return tf.abs(X - x_hat) / self._units.residual

    def _second_term(self, X: tf.Tensor, z: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
        """L_D, float32 (n,): -log sigmoid(logit), or the distance of D's features for x and for x_hat."""
        discriminator = self._networks.discriminator
        if self.options.loss == "cross_entropy":
            return _cross_entropy(discriminator([X, z])[0][:, 0])
        if self.options.loss == "cross_entropy_reconstruction":
            return _cross_entropy(discriminator([x_hat, z])[0][:, 0])
        return self._norm(tf.abs(discriminator([X, z])[1] - discriminator([x_hat, z])[1]))

    def _norm(self, magnitude: tf.Tensor) -> tf.Tensor:
        """‖·‖_p of non-negative float32 (n, k) over the columns → (n,)."""
        degree = self.options.degree
        if degree == 1:
            return tf.reduce_sum(magnitude, axis=1)
        return tf.pow(tf.reduce_sum(tf.pow(magnitude, float(degree)), axis=1), 1 / degree)

    def _calibrate(self, X: NDArray[np.float32]) -> None:
        """Sets the units of the score from training rows, float32 (n, n_features)."""
        if self.options.score_units == "raw":
            return
        rows, units = tf.constant(X), self._units
        z = self._networks.encoder(rows)
        x_hat = self._networks.generator(z)
        spread = tf.sqrt(tf.reduce_mean(tf.square(rows - x_hat), axis=0))
        units.residual.assign(tf.maximum(spread, _SMALLEST_UNIT))
        units.reconstruction.assign(_mean_or_one(self._norm(self._residual(rows, x_hat))))
        units.second.assign(_mean_or_one(self._second_term(rows, z, x_hat)))

    def _build_networks(self) -> Networks:
        options, rng = self.options, self._rng
        return Networks(
            dense_encoder(self.n_features, self._latent_dim, options.encoder_widths, rng),
            dense_generator(self.n_features, self._latent_dim, options.generator_widths, rng),
            joint_discriminator(self.n_features, self._latent_dim, options.discriminator_width, options.dropout, rng),
        )

    def _make_samplers(self, X: NDArray[np.float32]) -> tuple[RowSampler, RowSampler]:
        """One for the D step and one for the E and G step."""
        batch_size = self.options.batch_size
        if self.options.sampling == "epochs":
            return EpochSampler(len(X), batch_size, self._rng), EpochSampler(len(X), batch_size, self._rng)
        sampler = DistinctRowSampler(X, batch_size, self._rng)
        return sampler, sampler

    def _plan_steps(self, n_rows: int, n_distinct: int) -> int:
        options = self.options
        if options.steps is not None:
            return options.steps
        if options.epochs is not None:
            return options.epochs * max(1, n_rows // options.batch_size)
        return choose_steps(n_distinct, options.batch_size)

    def _hold_out(self, X: NDArray[np.float32]) -> tuple[NDArray[np.float32], LabelledRows]:
        order = self._rng.permutation(len(X))
        held_out = order[: max(1, len(X) // 10)]
        return X[order[len(held_out) :]], make_pseudo_anomalies(X[held_out], self._rng)

    def _make_stopping(
        self, validation: LabelledRows, calibration_rows: NDArray[np.float32], steps: int
    ) -> EarlyStopping:
        def evaluate() -> float:
            self._calibrate(calibration_rows)
            return measure_auroc(self.score, validation)

        every = max(STEPS_PER_CALL, steps // _EVALUATIONS)
        return EarlyStopping(evaluate, self._networks.weights, self.options.early_stop_num, every)


def choose_latent_dim(n_features: int) -> int:
    """Half the width of the data, within 1 … 16: wide enough for its structure, too narrow to copy it."""
    return min(_MAX_LATENT_DIM, max(1, n_features // 2))


def choose_steps(n_distinct: int, batch_size: int) -> int:
    """About thirty passes over the distinct rows, within 2,000 … 8,000 steps."""
    return int(np.clip(30 * n_distinct // batch_size, 2_000, 8_000))


def _mean_or_one(values: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(values)
    return tf.where(mean > 0, mean, 1.0)


def _check_rows(X: NDArray[np.float32], n_features: int) -> None:
    if X.ndim != 2 or X.shape[1] != n_features or not len(X):
        raise ValueError(f"X: expected float32 (n >= 1, {n_features}), got {X.dtype} {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError("X: expected finite values; the preprocessor replaces missing ones")


def _cross_entropy(logit: tf.Tensor) -> tf.Tensor:
    """-log sigmoid(logit), in the form that stays finite in LiteRT, whose softplus overflows beyond 88."""
    return tf.nn.relu(-logit) + tf.math.log1p(tf.exp(-tf.abs(logit)))
