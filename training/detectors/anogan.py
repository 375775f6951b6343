"""AnoGAN (Schlegl et al. 2017, arXiv 1703.05921) and f-AnoGAN (Schlegl et al. 2019, Medical Image Analysis 54).

A generator G and a discriminator D learn as in a GAN. A row is as anomalous as it is far from the nearest row that G
can make. AnoGAN looks for that row by gradient descent on its code; f-AnoGAN trains an encoder to guess the code.

    symbol     here                      meaning
    x          X                         rows, transformed by the preprocessor
    z          z                         latent code, standard normal in training
    G(z)       generator, x_hat          the row that G makes of it
    D, f       discriminator             logit, and the outputs of its last hidden layer
    E          encoder                   f-AnoGAN's, trained afterwards with G and D frozen ("izi_f")
    λ          1 - options.weight        share of the feature distance; 0.1 in the paper
    κ          options.feature_coefficient

    search   z(x) = argmin_z (1 - λ) |x - G(z)|₁ + λ |f(x) - f(G(z))|₁, some hundred steps of Adam from z = 0,
             with |·| rounded at its corner
    encoder  z(x) = E(x), trained on mean (x - G(E(x)))² + κ mean (f(x) - f(G(E(x))))²
    score(x) = weight * distance((x - G(z(x))) / u) / c1 + (1 - weight) * |f(x) - f(G(z(x)))|₁ / c2

The preset `paper` searches, the preset `default` encodes: a search costs as much as some hundred passes. A search is
exported for a fixed number of rows; the scorer fills the last call up with rows of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import Field

from training.detectors.anogan_training import AnoGANNetworks, AnoGANTraining
from training.detectors.latent_search import search_latent
from training.detectors.network_detector import Member, NetworkDetector, Terms
from training.detectors.networks import Rounded, fused_activation
from training.detectors.options import ADVERSARIAL_IMAGE_DEFAULTS, AdversarialOptions, DetectorOptions, Rate, Share
from training.detectors.similarity import Similarity, measure_distance, measure_smoothly

# A search is so slow that it calibrates on fewer rows than the other detectors.
_MOST_SEARCHED_ROWS = 1000
_SEARCHED_AT_ONCE = 64

_PAPER: dict[str, Any] = {
    "sampling": "epochs",
    "epochs": 20,
    "batch_size": 64,
    "learning_rate": 2e-4,
    "discriminator_learning_rate": 2e-4,
    "final_learning_rate": 1.0,
    "spectral_normalisation": False,
    "dropout": 0.2,
    "real_label": 1.0,
    "moving_average": 0.0,
    "moving_average_ramp": False,
    "score_units": "raw",
    "search": "latent",
    "search_steps": 500,
    "search_rate": 0.02,
    "similarity": "l1",
}


class AnoGANOptions(AdversarialOptions):
    """Everything that shapes an AnoGAN; the values given here are those of the preset `default`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}, "paper": _PAPER})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {**ADVERSARIAL_IMAGE_DEFAULTS, "latent_dim": 32, "steps": 3000, "dropout": 0.0, "similarity": "l2"}
    )

    search: Literal["encoder", "latent"] = Field(
        default="encoder", description="how a row's code is found: by a trained encoder or by gradient descent"
    )
    encoder_share: float = Field(default=0.4, gt=0, lt=1, description="share of the steps that train the encoder")
    feature_coefficient: float = Field(default=1.0, ge=0, description="κ, of the features' error in the encoder's loss")
    search_steps: int = Field(default=100, ge=1, le=2000, description="gradient steps of a search")
    search_rate: Rate = Field(default=0.1, description="Adam's learning rate in a search; falls to nothing")
    similarity: Similarity = Field(default="l1", description="distance of a row and its reconstruction")
    weight: Share = Field(default=0.9, description="share of the reconstruction in score and search, 1 - λ")


class AnoGAN(NetworkDetector):
    """The detector."""

    name: ClassVar[str] = "anogan"
    options_type: ClassVar[type[DetectorOptions]] = AnoGANOptions
    options: AnoGANOptions

    def __init__(
        self, n_features: int, options: AnoGANOptions, seed: int, cells: NDArray[np.intp] | None = None
    ) -> None:
        """See `NetworkDetector`."""
        super().__init__(n_features, options, seed, cells)
        if options.search == "latent":
            self.serving_rows = _SEARCHED_AT_ONCE
            self.most_scored_rows = _MOST_SEARCHED_ROWS

    def build_members(self, n_members: int) -> tuple[Member, ...]:
        """Untrained ones, each with its compiled search: run eagerly, it would start thousands of single operations."""
        members = super().build_members(n_members)
        rows = tf.TensorSpec([None, self.n_features], tf.float32)
        self._compiled_search = [
            tf.function(partial(self._search, member.networks), input_signature=[rows]) for member in members
        ]
        return members

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the reconstruction and of the feature distance."""
        return (self.options.weight, 1 - self.options.weight)

    @property
    def batches_a_step(self) -> float:
        """One in a step of D and G, both in a step of E: on average over the two phases."""
        return 1.0 if self.options.search == "latent" else 1.0 + self.options.encoder_share

    def build_networks(self) -> AnoGANNetworks:
        """G and D, and E unless codes are searched for."""
        backbone, rng = self.backbone, self.rng
        searched = self.options.search == "latent"
        activation = Rounded if searched else fused_activation
        return AnoGANNetworks(
            backbone.generator(self.latent_dim, rng, activation),
            backbone.discriminator(rng, activation),
            None if searched else backbone.encoder(self.latent_dim, rng),
        )

    def make_training(
        self, networks: AnoGANNetworks, averages: AnoGANNetworks, X: NDArray[np.float32], **arguments: Any
    ) -> AnoGANTraining:
        """The training of one member."""
        return AnoGANTraining(networks, averages, X, **arguments)

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """The nearest row that G makes, its distance and that of its features, each where it has weight."""
        networks: AnoGANNetworks = member.networks
        x_hat = networks.generator(self._find_code(member, X))
        first = second = None
        if self.options.weight > 0:
            first = measure_distance(self.options.similarity, X, x_hat, member.units.residual)
        if self.options.weight < 1:
            second = _feature_distance(networks.discriminator(X)[1], networks.discriminator(x_hat)[1])
        return Terms(x_hat, self.residual(member, X, x_hat), (first, second))

    def _find_code(self, member: Member, X: tf.Tensor) -> tf.Tensor:
        """Z of each row, float32 (n, latent_dim)."""
        if member.networks.encoder is not None:
            return member.networks.encoder(X)
        if tf.executing_eagerly():
            return self._compiled_search[self.members.index(member)](X)
        return self._search(member.networks, X)

    def _search(self, networks: AnoGANNetworks, X: tf.Tensor) -> tf.Tensor:
        options = self.options
        features = networks.discriminator(X)[1] if options.weight < 1 else None

        def measure_loss(z: tf.Tensor) -> tf.Tensor:
            x_hat = networks.generator(z)
            loss = options.weight * measure_smoothly(options.similarity, X, x_hat)
            if features is None:
                return loss
            return loss + (1 - options.weight) * measure_smoothly("l1", features, networks.discriminator(x_hat)[1])

        start = tf.zeros([X.shape[0] or tf.shape(X)[0], self.latent_dim])
        return search_latent(measure_loss, start, steps=options.search_steps, learning_rate=options.search_rate)


def _feature_distance(features: tf.Tensor, features_hat: tf.Tensor) -> tf.Tensor:
    """|f(x) - f(x_hat)|₁ of float32 (n, width) → (n,)."""
    return tf.reduce_sum(tf.abs(features - features_hat), axis=1)
