"""GANomaly (Akçay et al. 2018, arXiv 1805.06725) for tabular rows.

A first encoder and a decoder reproduce rows, a second encoder codes the reproduction again, a discriminator tells rows
from reproductions. An anomaly's two codes differ.

    symbol     here                      meaning
    x          X                         rows, transformed by the preprocessor
    z, E1(x)   encoder                   latent code
    x̂, G(z)    generator, x_hat          reconstruction
    ẑ, E2(x̂)   second_encoder            code of the reconstruction
    D, f       discriminator             logit, and the outputs of its last hidden layer
    w          options.*_coefficient     adversarial, content and encoder loss: 1, 50, 1 in the paper

    loss of E1, G, E2 = w_adv mean (f(x) - f(x̂))² + w_con mean |x - x̂| + w_enc mean (z - ẑ)²      (section 3.2)
    A(x)              = mean |z - ẑ| (equation 5) or mean (z - ẑ)² (the authors' code)           (section 3.3)
    score(x)          = weight * distance((x - x̂) / u) / c1 + (1 - weight) * A(x) / c2

The preset `paper` scores with A alone. Squared distances of codes outweigh the norm of the residual far out, so w is 0.7 for
images, chosen on four digits of MNIST's training split (3, 4, 5, 7), where it gains most against their lookalikes.
With `encoder="generator"` the score codes twice with E1, while training stays that of the paper: E1 trained to agree with
itself tells less (mean AUROC of A on seven sets of ADBench 0.835 against 0.857, one seed). Nothing here is normalised over a
batch, so that a row's score is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import keras
import tensorflow as tf
from pydantic import Field

from training.detectors.network_detector import Member, NetworkDetector, Terms
from training.detectors.networks import SpectralNormalisation, kernels_of
from training.detectors.options import ADVERSARIAL_IMAGE_DEFAULTS, DetectorOptions, MixedLossOptions, Rate, Share
from training.detectors.similarity import Similarity, measure_distance
from training.detectors.steps import Adam, Clock, NetworkGroup, Training, cross_entropy, variables_of

_PAPER: dict[str, Any] = {
    "batch_size": 64,
    "sampling": "epochs",
    "epochs": 15,
    "learning_rate": 2e-4,
    "discriminator_learning_rate": 2e-4,
    "final_learning_rate": 1.0,
    "spectral_normalisation": False,
    "dropout": 0.0,
    "real_label": 1.0,
    "warm_up": 0.0,
    "moving_average": 0.0,
    "moving_average_ramp": False,
    "content_coefficient": 50.0,
    "distance": "l1",
    "weight": 0.0,
    "score_units": "raw",
}


class GANomalyOptions(MixedLossOptions):
    """Everything that shapes a GANomaly; the values given here are those of the preset `default`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}, "paper": _PAPER})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {**ADVERSARIAL_IMAGE_DEFAULTS, "similarity": "l2", "weight": 0.7}
    )

    discriminator_learning_rate: Rate = Field(default=2e-4, description="of D")
    adversarial_coefficient: float = Field(default=1.0, ge=0, description="of mean (f(x) - f(x_hat))²")
    content_coefficient: float = Field(default=50.0, ge=0, description="of mean |x - x_hat|")
    encoder_coefficient: float = Field(default=1.0, ge=0, description="of mean (z - z_hat)²")
    encoder: Literal["second", "generator"] = Field(
        default="second", description="which encoder codes the reconstruction in the score: E2, or E1 once more"
    )
    distance: Literal["l1", "l2"] = Field(
        default="l2", description="of the codes: mean |z - z_hat| or mean (z - z_hat)²"
    )
    similarity: Similarity = Field(default="l1", description="distance of a row and its reconstruction in the score")
    weight: Share = Field(default=0.5, description="share of the reconstruction in the score; the rest is the codes'")


@dataclass(frozen=True)
class GANomalyNetworks(NetworkGroup):
    """E1, G, E2 and D."""

    encoder: keras.Model
    generator: keras.Model
    second_encoder: keras.Model
    discriminator: keras.Model


class GANomalyTraining(Training):
    """E1, G and E2 against D."""

    losses: ClassVar[tuple[str, ...]] = ("discriminator", "adversarial", "reconstruction", "latent")
    options: GANomalyOptions
    averages: GANomalyNetworks

    def __init__(self, networks: GANomalyNetworks, *arguments: Any, **named: Any) -> None:
        """See `Training`."""
        super().__init__(networks, *arguments, **named)
        self._networks = networks
        self._discriminator_adam = Adam(variables_of(networks.discriminator))
        self._coder_adam = Adam(variables_of(networks.encoder, networks.generator, networks.second_encoder))
        kernels = kernels_of(networks.discriminator) if self.options.spectral_normalisation else []
        self._normalisation = SpectralNormalisation(kernels, named["rng"])

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """One step of E1, G and E2, then one of D on other rows."""
        losses = self._step_coders(self._take(rows[0]), clock)
        return (self._step_discriminator(self._take(rows[1]), clock), *losses)

    def generate(self) -> tf.Tensor:
        """Reconstructions of some training rows."""
        return self.averages.generator(self.averages.encoder(self._some_rows()))

    def _step_coders(self, x: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        networks, options = self._networks, self.options
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._coder_adam.variables)
            z = networks.encoder(x)
            x_hat = networks.generator(z)
            z_hat = networks.second_encoder(x_hat)
            adversarial = tf.reduce_mean(tf.square(networks.discriminator(x)[1] - networks.discriminator(x_hat)[1]))
            reconstruction = tf.reduce_mean(tf.abs(x - x_hat))
            latent = tf.reduce_mean(tf.square(z - z_hat))
            loss = (
                clock.adversarial * options.adversarial_coefficient * adversarial
                + options.content_coefficient * reconstruction
                + options.encoder_coefficient * latent
            )
        gradients = tape.gradient(loss, self._coder_adam.variables)
        self._coder_adam.apply(gradients, clock.decay * options.learning_rate, clock.step)
        return adversarial, reconstruction, latent

    def _step_discriminator(self, x: tf.Tensor, clock: Clock) -> tf.Tensor:
        """D learns 1 (or `real_label`) for x and 0 for x_hat."""
        networks, options = self._networks, self.options
        x_hat = networks.generator(networks.encoder(x))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._discriminator_adam.variables)
            logits, _ = networks.discriminator(tf.concat([x, x_hat], 0), training=True)
            real, fake = tf.split(logits, 2)
            loss = cross_entropy(real, options.real_label) + cross_entropy(fake, 0.0)
        gradients = tape.gradient(loss, self._discriminator_adam.variables)
        self._discriminator_adam.apply(gradients, clock.decay * options.discriminator_learning_rate, clock.step)
        self._normalisation.project()
        return loss


class GANomaly(NetworkDetector):
    """The detector."""

    name: ClassVar[str] = "ganomaly"
    options_type: ClassVar[type[DetectorOptions]] = GANomalyOptions
    options: GANomalyOptions

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the reconstruction and of the distance of the codes."""
        return (self.options.weight, 1 - self.options.weight)

    def build_networks(self) -> GANomalyNetworks:
        """E1, G, E2 and D."""
        backbone, rng = self.backbone, self.rng
        return GANomalyNetworks(
            backbone.encoder(self.latent_dim, rng),
            backbone.generator(self.latent_dim, rng),
            backbone.encoder(self.latent_dim, rng),
            backbone.discriminator(rng),
        )

    def make_training(
        self, networks: GANomalyNetworks, averages: GANomalyNetworks, X: Any, **arguments: Any
    ) -> GANomalyTraining:
        """The training of one member."""
        return GANomalyTraining(networks, averages, X, **arguments)

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """The reconstruction, its norm and the distance of the codes, each where it has weight."""
        networks: GANomalyNetworks = member.networks
        z = networks.encoder(X)
        x_hat = networks.generator(z)
        first = None
        if self.options.weight > 0:
            first = measure_distance(self.options.similarity, X, x_hat, member.units.residual)
        second = self._compare_codes(networks, z, x_hat) if self.options.weight < 1 else None
        return Terms(x_hat, self.residual(member, X, x_hat), (first, second))

    def _compare_codes(self, networks: GANomalyNetworks, z: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
        """A(x), float32 (n,)."""
        second = networks.second_encoder if self.options.encoder == "second" else networks.encoder
        difference = z - second(x_hat)
        magnitude = tf.abs(difference) if self.options.distance == "l1" else tf.square(difference)
        return tf.reduce_mean(magnitude, axis=1)
