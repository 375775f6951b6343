"""The variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114) for tabular rows.

    symbol      here                    meaning
    x           X                       rows, transformed by the preprocessor
    μ(x), σ(x)  encoder                 mean and spread of q(z | x); the encoder gives μ and log σ²
    G(μ(x))     x_hat                   reconstruction
    β           options.kl_weight       coefficient of KL(q(z | x) ‖ N(0, I)); 1 is the paper's bound
    alpha       options.weight          share of the reconstruction in the score
    u           TermUnits.residual      unit of each column's residual; l1 and l2 alone divide by it

    loss     = ½ Σ (x - G(μ + σε))² + β KL, ε ~ N(0, I)
    score(x) = alpha * distance((x - G(μ(x))) / u) / c1 + (1 - alpha) * KL(q(z | x) ‖ N(0, I)) / c2

The score takes the mean and draws nothing, so that a row has one score.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import tensorflow as tf
from pydantic import Field

from training.detectors.autoencoder import Coders
from training.detectors.network_detector import Member, NetworkDetector, Terms
from training.detectors.options import IMAGE_DEFAULTS, Checkpoint, DetectorOptions, Rate, Share
from training.detectors.similarity import Similarity, measure_distance
from training.detectors.steps import Adam, Clock, Training

_LARGEST_LOG_VARIANCE = 10.0

# The bound itself as loss; reconstruction probability without sampling, that is the squared error, as score.
_PAPER: dict[str, Any] = {"kl_weight": 1.0, "similarity": "l2", "weight": 1.0, "score_units": "raw"}


class VAEOptions(DetectorOptions):
    """Everything that shapes a VAE; the values given here are those of the preset `default`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}, "paper": _PAPER})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({**IMAGE_DEFAULTS, "similarity": "l2"})

    learning_rate: Rate = Field(default=1e-3, description="of E and G")
    kl_weight: float = Field(default=0.1, ge=0, le=100, description="β, coefficient of the divergence in the loss")
    checkpoint: Checkpoint = Field(
        default="reconstruction", description="weights that are kept without labels; see the other detectors"
    )
    similarity: Similarity = Field(default="l1", description="distance of a row and its reconstruction in the score")
    weight: Share = Field(
        default=0.9, description="share of the reconstruction in the score; the rest is the divergence"
    )


class VAETraining(Training):
    """E and G learn the bound."""

    losses: ClassVar[tuple[str, ...]] = ("reconstruction", "divergence")
    options: VAEOptions
    averages: Coders

    def __init__(self, networks: Coders, *arguments: Any, **named: Any) -> None:
        """See `Training`."""
        super().__init__(networks, *arguments, **named)
        self._networks = networks
        self._adam = Adam(networks.weights)

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """One step on all the rows drawn."""
        x = self._take(tf.reshape(rows, [-1]))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._adam.variables)
            mean, log_variance = split_code(self._networks.encoder(x))
            z = mean + tf.exp(0.5 * log_variance) * self._noise(mean.shape, clock.step, 0)
            squares = tf.reduce_sum(tf.square(x - self._networks.generator(z)), axis=1)
            reconstruction = 0.5 * tf.reduce_mean(squares)
            divergence = tf.reduce_mean(measure_divergence(mean, log_variance))
            loss = reconstruction + self.options.kl_weight * divergence
        gradients = tape.gradient(loss, self._adam.variables)
        self._adam.apply(gradients, clock.decay * self.options.learning_rate, clock.step)
        return reconstruction, divergence

    def generate(self) -> tf.Tensor:
        """Reconstructions of some training rows."""
        mean, _ = split_code(self.averages.encoder(self._some_rows()))
        return self.averages.generator(mean)


class VAE(NetworkDetector):
    """The detector."""

    name: ClassVar[str] = "vae"
    options_type: ClassVar[type[DetectorOptions]] = VAEOptions
    options: VAEOptions

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the reconstruction and of the divergence."""
        return (self.options.weight, 1 - self.options.weight)

    @property
    def batches_a_step(self) -> float:
        """E and G, the only ones that learn, take both."""
        return 2.0

    def build_networks(self) -> Coders:
        """E, whose output is μ and log σ² side by side, and G."""
        encoder = self.backbone.encoder(2 * self.latent_dim, self.rng)
        return Coders(encoder, self.backbone.generator(self.latent_dim, self.rng))

    def make_training(self, networks: Coders, averages: Coders, X: Any, **arguments: Any) -> VAETraining:
        """The training of one member."""
        return VAETraining(networks, averages, X, **arguments)

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """The reconstruction from the mean, its distance and the divergence."""
        mean, log_variance = split_code(member.networks.encoder(X))
        x_hat = member.networks.generator(mean)
        distance = measure_distance(self.options.similarity, X, x_hat, member.units.residual)
        divergence = measure_divergence(mean, log_variance) if self.options.weight < 1 else None
        return Terms(x_hat, self.residual(member, X, x_hat), (distance, divergence))


def split_code(code: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Float32 (n, 2 k) → μ and log σ², float32 (n, k) each; the latter within ±10, so that σ² stays finite."""
    latent_dim = code.shape[1] // 2
    log_variance = tf.clip_by_value(code[:, latent_dim:], -_LARGEST_LOG_VARIANCE, _LARGEST_LOG_VARIANCE)
    return code[:, :latent_dim], log_variance


def measure_divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) of float32 (n, k) → (n,), >= 0."""
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - 1 - log_variance, axis=1)
