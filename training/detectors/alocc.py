"""ALOCC (Sabokrou et al. 2018, arXiv 1802.09088) for tabular rows.

A denoising encoder and decoder R reproduces rows from noisy ones; a discriminator D tells rows from reproductions. R
repairs what it knows and spoils what it does not, which D sees.

    symbol     here                                meaning
    X, x       X                                   rows, transformed by the preprocessor
    η, σ       options.noise                       standard deviation of the noise on R's input in training
    R          generator(encoder(·)), x_hat        reconstruction
    D          discriminator                       logit
    λ          options.reconstruction_coefficient  0.4 in the paper
    x', β      broken rows, options.broken_weight  0 in the paper

    loss of R = -log D(R(x + η)) + λ mean (x - R(x + η))²                                    (section 3.3)
    loss of D = -log D(x) - log (1 - D(R(x + η))) - β log (1 - D(R(x')))
    score(x)  = weight * distance((x - R(x)) / u) / c1 + (1 - weight) * -log D(R(x)) / c2

The preset `paper` scores with D alone. That D learns from reproductions that become perfect, so that it ends at ½ for
everything, or takes what varies most for the truest. In the preset `default` D also learns to tell what R makes of
broken rows, which have foreign values in some columns, after Zaheer et al. 2020 (arXiv 2004.07657), who mix images in a
second phase. So D ends higher for what R makes of normal rows, which it cannot tell from the rows, than for what it
makes of others; R learns nothing from broken rows. Foreign values of images come from turned ones, after Golan and
El-Yaniv 2018 (arXiv 1805.10917): their parts fit together, and yet are not those of a normal one. R of images has a
long code, as the paper's has none: what a short one makes of most digits is a stroke, which D takes for a 1. Training
keeps the weights that reproduce held-out rows best, which needs no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import keras
import tensorflow as tf
from pydantic import Field

from training.detectors.backbones import Backbone
from training.detectors.network_detector import Member, NetworkDetector, Terms
from training.detectors.networks import SpectralNormalisation, kernels_of, surprise
from training.detectors.options import (
    ADVERSARIAL_IMAGE_DEFAULTS,
    Checkpoint,
    DetectorOptions,
    MixedLossOptions,
    Share,
)
from training.detectors.similarity import Similarity, measure_distance
from training.detectors.steps import Adam, Clock, NetworkGroup, Training, cross_entropy, variables_of

# Share of the columns that are foreign in a broken row.
_LEAST_BROKEN, _MOST_BROKEN = 0.1, 0.5

_PAPER: dict[str, Any] = {
    "sampling": "epochs",
    "epochs": 40,
    "learning_rate": 2e-3,
    "discriminator_learning_rate": 2e-3,
    "final_learning_rate": 1.0,
    "spectral_normalisation": False,
    "dropout": 0.0,
    "real_label": 1.0,
    "warm_up": 0.0,
    "moving_average": 0.0,
    "moving_average_ramp": False,
    "max_restarts": 0,
    "noise": 0.155,
    "reconstruction_coefficient": 0.4,
    "broken_weight": 0.0,
    "weight": 0.0,
    "score_units": "raw",
}


class ALOCCOptions(MixedLossOptions):
    """Everything that shapes an ALOCC; the values given here are those of the preset `default`.

    Both presets depart from the paper in these:
    - `reconstruction_coefficient` weighs the mean of the squares of a row's columns, where the paper's λ weighs their sum: its
      λ of a row of d columns is d λ here.
    - R and D learn by Adam (β1 = 0.5); a Keras write-up of the paper takes RMSprop with clipped gradients.
    - R makes `generator_steps` = 2 steps for each one of D, as that write-up does.
    The preset `default` alone shows D broken rows and scores with the reconstruction, too (see above). Its `weight` was chosen
    by the labels of ADBench's sets (one seed), that for images and their `latent_dim` by those of the digits 3, 4 and 7 in
    MNIST's training split.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}, "paper": _PAPER})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            **ADVERSARIAL_IMAGE_DEFAULTS,
            "similarity": "l2",
            "latent_dim": 128,
            "stretch": 1.0,
            "broken_noise": 0.3,
            "weight": 0.2,
        }
    )

    noise: float = Field(default=0.2, ge=0, le=10, description="σ of the noise on R's input, in training only")
    reconstruction_coefficient: float = Field(default=10.0, ge=0, description="λ, of mean (x - R(x + noise))²")
    stretch: float = Field(
        default=4.0,
        ge=1,
        le=100,
        description="how far foreign values are stretched at most in a broken row, of which R makes smaller ones",
    )
    broken_noise: float = Field(default=1.0, ge=0, le=10, description="σ of the noise on foreign values, at most")
    generator_steps: int = Field(default=2, ge=1, le=8, description="steps of R for each one of D")
    broken_weight: float = Field(
        default=1.0, ge=0, le=100, description="β, of what R makes of broken rows in the loss of D; 0 as published"
    )
    checkpoint: Checkpoint = Field(
        default="reconstruction", description="weights that are kept without labels; see the other detectors"
    )
    similarity: Similarity = Field(default="l1", description="distance of a row and its reconstruction in the score")
    weight: Share = Field(default=0.3, description="share of the reconstruction in the score; the rest is -log D(R(x))")


@dataclass(frozen=True)
class ALOCCNetworks(NetworkGroup):
    """R in two halves, encoder and generator, and D."""

    encoder: keras.Model
    generator: keras.Model
    discriminator: keras.Model

    def reproduce(self, x: tf.Tensor) -> tf.Tensor:
        """R(x), float32 (n, d)."""
        return self.generator(self.encoder(x))


class ALOCCTraining(Training):
    """R against D."""

    losses: ClassVar[tuple[str, ...]] = ("discriminator", "adversarial", "reconstruction")
    options: ALOCCOptions
    averages: ALOCCNetworks

    def __init__(self, networks: ALOCCNetworks, *arguments: Any, backbone: Backbone, **named: Any) -> None:
        """See `Training`; the backbone says which columns are broken together, and how."""
        super().__init__(networks, *arguments, **named)
        self._backbone = backbone
        self._networks = networks
        self._discriminator_adam = Adam(variables_of(networks.discriminator))
        self._coder_adam = Adam(variables_of(networks.encoder, networks.generator))
        kernels = kernels_of(networks.discriminator) if self.options.spectral_normalisation else []
        self._normalisation = SpectralNormalisation(kernels, named["rng"])

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """One step of D, then `generator_steps` of R on other rows."""
        discriminator_loss = self._step_discriminator(self._take(rows[0]), clock)
        x = self._take(rows[1])
        for turn in range(self.options.generator_steps):
            losses = self._step_coders(x, clock, turn)
        return (discriminator_loss, *losses)

    def generate(self) -> tf.Tensor:
        """Reconstructions of some training rows."""
        return self.averages.reproduce(self._some_rows())

    def _step_discriminator(self, x: tf.Tensor, clock: Clock) -> tf.Tensor:
        """D learns 1 (or `real_label`) for x, 0 for R(x + noise) and 0 for what the averaged R makes of broken rows."""
        options, networks = self.options, self._networks
        rows, weights = [x, networks.reproduce(x + options.noise * self._noise(x.shape, clock.step, 0))], [1.0]
        if options.broken_weight > 0:
            rows.append(self.averages.reproduce(self._break(x, clock.step)))
            weights.append(options.broken_weight)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._discriminator_adam.variables)
            logits, _ = networks.discriminator(tf.concat(rows, 0), training=True)
            real, *fakes = tf.split(logits, len(rows))
            terms = [weight * cross_entropy(fake, 0.0) for weight, fake in zip(weights, fakes, strict=True)]
            loss = cross_entropy(real, options.real_label) + tf.add_n(terms)
        gradients = tape.gradient(loss, self._discriminator_adam.variables)
        self._discriminator_adam.apply(gradients, clock.decay * options.discriminator_learning_rate, clock.step)
        self._normalisation.project()
        return loss

    def _step_coders(self, x: tf.Tensor, clock: Clock, turn: int) -> tuple[tf.Tensor, tf.Tensor]:
        """R learns to restore x and to be taken for x."""
        options, networks = self.options, self._networks
        update = clock.step * options.generator_steps + turn
        noisy = x + options.noise * self._noise(x.shape, update, 1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._coder_adam.variables)
            x_hat = networks.reproduce(noisy)
            fooling = cross_entropy(networks.discriminator(x_hat, training=True)[0], 1.0)
            reconstruction = tf.reduce_mean(tf.square(x - x_hat))
            loss = clock.adversarial * fooling + options.reconstruction_coefficient * reconstruction
        gradients = tape.gradient(loss, self._coder_adam.variables)
        self._coder_adam.apply(gradients, clock.decay * options.learning_rate, update)
        return fooling, reconstruction

    def _break(self, x: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Rows with some columns, one at least, of the next row (the batch is in random order), turned, stretched and noisy."""
        cells = self._backbone.mask_cells
        n_cells = cells.max() + 1
        uniform = tf.random.stateless_uniform([x.shape[0], n_cells + 3], tf.stack([self._noise_seed + 1, step]))
        noise = tf.random.stateless_normal(x.shape, tf.stack([self._noise_seed + 2, step]))
        stretch = 1 + (self.options.stretch - 1) * uniform[:, 2:3]
        foreign = (
            stretch * self._backbone.turn(tf.roll(x, 1, axis=0)) + self.options.broken_noise * uniform[:, 1:2] * noise
        )
        share = _LEAST_BROKEN + (_MOST_BROKEN - _LEAST_BROKEN) * uniform[:, :1]
        chances = uniform[:, 3:]
        is_broken = (chances < share) | (chances == tf.reduce_min(chances, axis=1, keepdims=True))
        return tf.where(tf.gather(is_broken, cells, axis=1), foreign, x)


class ALOCC(NetworkDetector):
    """The detector."""

    name: ClassVar[str] = "alocc"
    options_type: ClassVar[type[DetectorOptions]] = ALOCCOptions
    options: ALOCCOptions

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the reconstruction and of -log D(R(x))."""
        return (self.options.weight, 1 - self.options.weight)

    def build_networks(self) -> ALOCCNetworks:
        """R and D."""
        backbone, rng = self.backbone, self.rng
        return ALOCCNetworks(
            backbone.encoder(self.latent_dim, rng),
            backbone.generator(self.latent_dim, rng),
            backbone.discriminator(rng),
        )

    def make_training(
        self, networks: ALOCCNetworks, averages: ALOCCNetworks, X: Any, **arguments: Any
    ) -> ALOCCTraining:
        """The training of one member."""
        return ALOCCTraining(networks, averages, X, backbone=self.backbone, **arguments)

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """The reconstruction, its norm and what D thinks of it, each where it has weight."""
        networks: ALOCCNetworks = member.networks
        x_hat = networks.reproduce(X)
        first = None
        if self.options.weight > 0:
            first = measure_distance(self.options.similarity, X, x_hat, member.units.residual)
        second = surprise(networks.discriminator(x_hat)[0][:, 0]) if self.options.weight < 1 else None
        return Terms(x_hat, self.residual(member, X, x_hat), (first, second))
