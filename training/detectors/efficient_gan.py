"""EfficientGAN (Zenati et al. 2018, arXiv 1802.06222) for tabular rows.

An encoder E, a generator G and a discriminator D learn together (BiGAN): D tells pairs (x, E(x)) from pairs (G(z), z).

    symbol        here                       meaning
    x, X          x, X                       one row, a matrix of rows, transformed by the preprocessor
    z, E(x)       z                          latent code, standard normal in training
    G(E(x))       x_hat                      reconstruction
    D(x, z), f    discriminator              logit and features of its last hidden layer
    alpha         options.weight             share of the reconstruction in the score
    p             options.degree             norm of residuals and of feature differences
    L_D           options.loss               second term of the score

score(x) = alpha * ||x - G(E(x))||_p / c_1 + (1 - alpha) * L_D(x) / c_2; higher is more anomalous. The preset `paper`
has c_1 = c_2 = 1. The preset `default` is "EfficientGAN + consistency": G and E also learn to invert each other, and
each residual and each term is measured in units of its mean over the training rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import Field, model_validator

from monitor.errors import ConfigError
from training.detectors.adversarial import AdversarialTraining, Networks
from training.detectors.networks import dense_encoder, dense_generator, joint_discriminator
from training.detectors.options import DetectorOptions
from training.sampling import DistinctRowSampler, EpochSampler
from training.trainer import (
    EarlyStopping,
    LabelledRows,
    Progress,
    TrainingHistory,
    make_pseudo_anomalies,
    measure_auroc,
    train,
)

Preset = Literal["default", "paper"]
Width = Annotated[int, Field(ge=1, le=65536)]


class EfficientGANOptions(DetectorOptions):
    """Everything that shapes an EfficientGAN; the values given here are those of the preset `default`."""

    # Networks
    latent_dim: Width | None = Field(None, description="length of z; chosen from the width of the data by default")
    encoder_widths: tuple[Width, ...] = Field((128, 64), description="hidden layers of E")
    generator_widths: tuple[Width, ...] = Field((64, 128), description="hidden layers of G")
    discriminator_width: Width = Field(128, description="of all three hidden layers of D")
    dropout: float = Field(0.2, ge=0, lt=1, description="in D, in training only")
    spectral_normalisation: bool = Field(True, description="keeps D 1-Lipschitz")

    # Training
    steps: int | None = Field(None, ge=1, description="training steps; chosen from the number of rows by default")
    epochs: int | None = Field(None, ge=1, description="the same in passes over the rows")
    batch_size: int = Field(256, ge=1, description="rows a step")
    sampling: Literal["distinct", "epochs"] = Field("distinct", description="see training.sampling")
    learning_rate: float = Field(2e-4, gt=0, le=1, description="of E and G")
    discriminator_learning_rate: float = Field(4e-4, gt=0, le=1, description="of D")
    final_learning_rate: float = Field(0.1, gt=0, le=1, description="share of the rates left at the end of the cosine")
    real_label: float = Field(0.9, gt=0, le=1, description="what D is told about (x, E(x))")
    consistency_x: float = Field(10.0, ge=0, description="coefficient of mean |x - G(E(x))|")
    consistency_z: float = Field(1.0, ge=0, description="coefficient of mean |z - E(G(z))|")
    warm_up: float = Field(0.1, ge=0, le=1, description="share of the steps until the adversarial term has full weight")
    moving_average: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights that score")
    moving_average_ramp: bool = Field(True, description="shorter averages in the beginning")
    early_stop_num: int | None = Field(None, ge=1, description="evaluations without improvement before the end")

    # Score
    loss: Literal["cross_entropy", "cross_entropy_reconstruction", "feature_matching"] = Field(
        "feature_matching", description="second term: -log D(x, E(x)), -log D(G(E(x)), E(x)), or feature distance"
    )
    weight: float = Field(0.9, ge=0, le=1, description="share of the reconstruction in the score")
    degree: int = Field(1, ge=1, le=8, description="norm of residuals and feature distances")
    score_units: Literal["training_means", "raw"] = Field("training_means", description="what the terms are divided by")
    residual_floor: float = 1e-6

    @model_validator(mode="after")
    def _length_is_given_once(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; give one of them")
        return self

    @classmethod
    def preset(cls, name: str, **changes: object) -> Self:
        """The options of a preset, with some changed."""
        if name == "default":
            return cls(**changes)
        if name != "paper":
            raise ConfigError("detector options", f"preset: expected 'default' or 'paper', got {name!r}")
        paper = dict(
            scaling="none", latent_dim=32, encoder_widths=(64,), spectral_normalisation=False, epochs=100, batch_size=50,
            sampling="epochs", learning_rate=1e-5, discriminator_learning_rate=1e-5, final_learning_rate=1.0, real_label=1.0,
            consistency_x=0.0, consistency_z=0.0, warm_up=0.0, moving_average=0.9999, moving_average_ramp=False,
            score_units="raw", loss="cross_entropy_reconstruction",
        )
        return cls(**{**paper, **changes})


class ScoreUnits(keras.layers.Layer):
    """The constants of the score: the unit of each column's residual and of the two terms. All 1 until they are set."""

    def __init__(self, n_features: int) -> None:
        super().__init__(name="score_units", trainable=False)
        self.residual = self.add_weight(shape=(n_features,), initializer="ones", name="residual")
        self.reconstruction = self.add_weight(shape=(), initializer="ones", name="reconstruction")
        self.second = self.add_weight(shape=(), initializer="ones", name="second")
        self.built = True


class EfficientGAN:
    name: ClassVar[str] = "efficient_gan"
    options_type = EfficientGANOptions

    def __init__(self, n_features: int, options: EfficientGANOptions, seed: int) -> None:
        self.n_features = n_features
        self.options = options
        self._rng = np.random.default_rng(seed)
        self._averages = self._build_networks(self._rng)
        self._units = ScoreUnits(n_features)

    @property
    def networks(self) -> tuple[keras.layers.Layer, ...]:
        return (self._averages.encoder, self._averages.generator, self._averages.discriminator, self._units)

    def fit(self, X, *, validation=None, on_progress=None) -> TrainingHistory:
        options = self.options
        if validation is None and options.early_stop_num is not None:
            order = self._rng.permutation(len(X))
            held = max(1, len(X)//10)
            validation = make_pseudo_anomalies(X[order[:held]], self._rng); X = X[order[held:]]
        networks = self._build_networks(self._rng)
        for a, w in zip(self._averages.weights, networks.weights): a.assign(w)
        if options.sampling == "distinct":
            sampler = DistinctRowSampler(X, options.batch_size, self._rng)
            samplers = sampler, sampler
        else:
            samplers = tuple(EpochSampler(len(X), options.batch_size, self._rng) for _ in range(2))
        steps = options.steps or 6000
        if options.epochs: steps = options.epochs * max(1, len(X) // options.batch_size)
        training = AdversarialTraining(networks, self._averages, X, samplers, options, steps, self._rng)
        stopping = None
        if validation is not None and options.early_stop_num is not None:
            def evaluate():
                self.calibrate(X)
                return measure_auroc(self.score, validation)
            stopping = EarlyStopping(evaluate, self._averages.weights, options.early_stop_num, max(1, steps//50))
        history = train(training.run_steps, steps, stopping=stopping, on_progress=on_progress)
        self.calibrate(X)
        return history

    def score(self, X: tf.Tensor) -> tf.Tensor:
        z, x_hat = self._reconstruct(X)
        first, second = self._terms(X, z, x_hat)
        w = self.options.weight
        return w * first / self._units.reconstruction + (1 - w) * second / self._units.second

    def explain(self, X):
        _, x_hat = self._reconstruct(X)
        return x_hat, self.options.weight / self._units.reconstruction * tf.abs(X - x_hat) / self._units.residual

    def _reconstruct(self, X):
        z = self._averages.encoder(X)
        return z, self._averages.generator(z)

    def _terms(self, X, z, x_hat):
        p = self.options.degree
        first = _norm(tf.abs(X - x_hat) / self._units.residual, p)
        D = self._averages.discriminator
        if self.options.loss == "cross_entropy":
            second = tf.nn.softplus(-D([X, z])[0])[:, 0]
        elif self.options.loss == "cross_entropy_reconstruction":
            second = tf.nn.softplus(-D([x_hat, z])[0])[:, 0]
        else:
            second = _norm(tf.abs(D([X, z])[1] - D([x_hat, z])[1]), p)
        return first, second

    def calibrate(self, X):
        if self.options.score_units == "raw": return
        u = self._units
        X = tf.constant(X)
        u.residual.assign(tf.ones(self.n_features))
        u.residual.assign(tf.maximum(tf.reduce_mean(tf.abs(X - self._reconstruct(X)[1]), 0), self.options.residual_floor))
        z, x_hat = self._reconstruct(X)
        a, b = self._terms(X, z, x_hat)
        u.reconstruction.assign(tf.reduce_mean(a)); u.second.assign(tf.reduce_mean(b))

    def _build_networks(self, rng):
        o = self.options; L = o.latent_dim or 32
        return Networks(dense_encoder(self.n_features, L, o.encoder_widths, rng), dense_generator(self.n_features, L, o.generator_widths, rng),
            joint_discriminator(self.n_features, L, o.discriminator_width, o.dropout, rng))


def _norm(v, p):
    return tf.reduce_sum(v, 1) if p == 1 else tf.reduce_sum(v ** p, 1) ** (1 / p)
