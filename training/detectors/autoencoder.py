"""The autoencoder for tabular rows: what it cannot reproduce is anomalous.

Its form here is that of the field (Hinton & Salakhutdinov 2006, Science 313): d-128-64-latent and its mirror, Adam.

    symbol    here                    meaning
    x         X                       rows, transformed by the preprocessor
    E(x)      z                       latent code
    G(E(x))   x_hat                   reconstruction
    -         options.similarity      distance of x and x_hat: l1, l2, cosine, kl_histogram
    u         TermUnits.residual      unit of each column's residual; l1 and l2 alone divide by it

    score(x) = distance((x - G(E(x))) / u) / c, higher is more anomalous

The weights that reproduce held-out rows best are kept.
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
from training.detectors.options import IMAGE_DEFAULTS, Checkpoint, DetectorOptions, Rate
from training.detectors.similarity import Similarity, measure_distance
from training.detectors.steps import Adam, Clock, NetworkGroup, Training


class AutoencoderOptions(DetectorOptions):
    """Everything that shapes an autoencoder; the values given here are those of the preset `default`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {**IMAGE_DEFAULTS, "training_loss": "l2", "similarity": "l2"}
    )

    learning_rate: Rate = Field(default=1e-3, description="of E and G")
    training_loss: Literal["l1", "l2"] = Field(default="l1", description="what training minimises")
    checkpoint: Checkpoint = Field(
        default="reconstruction", description="weights that are kept without labels; see the other detectors"
    )
    similarity: Similarity = Field(default="l1", description="distance of a row and its reconstruction in the score")


@dataclass(frozen=True)
class Coders(NetworkGroup):
    """Encoder E and generator (decoder) G."""

    encoder: keras.Model
    generator: keras.Model


class AutoencoderTraining(Training):
    """E and G learn to reproduce the rows."""

    losses: ClassVar[tuple[str, ...]] = ("reconstruction",)
    options: AutoencoderOptions
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
            loss = reconstruction_loss(
                self.options.training_loss, x, self._networks.generator(self._networks.encoder(x))
            )
        gradients = tape.gradient(loss, self._adam.variables)
        self._adam.apply(gradients, clock.decay * self.options.learning_rate, clock.step)
        return (loss,)

    def generate(self) -> tf.Tensor:
        """Reconstructions of some training rows."""
        return self.averages.generator(self.averages.encoder(self._some_rows()))


class Autoencoder(NetworkDetector):
    """The detector."""

    name: ClassVar[str] = "autoencoder"
    options_type: ClassVar[type[DetectorOptions]] = AutoencoderOptions
    n_terms: ClassVar[int] = 1
    options: AutoencoderOptions

    @property
    def shares(self) -> tuple[float, ...]:
        """The distance is all of the score."""
        return (1.0,)

    @property
    def batches_a_step(self) -> float:
        """E and G, the only ones that learn, take both."""
        return 2.0

    def build_networks(self) -> Coders:
        """E and G."""
        encoder = self.backbone.encoder(self.latent_dim, self.rng)
        return Coders(encoder, self.backbone.generator(self.latent_dim, self.rng))

    def make_training(self, networks: Coders, averages: Coders, X: Any, **arguments: Any) -> AutoencoderTraining:
        """The training of one member."""
        return AutoencoderTraining(networks, averages, X, **arguments)

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """The reconstruction and its distance."""
        x_hat = member.networks.generator(member.networks.encoder(X))
        distance = measure_distance(self.options.similarity, X, x_hat, member.units.residual)
        return Terms(x_hat, self.residual(member, X, x_hat), (distance,))


def reconstruction_loss(kind: Literal["l1", "l2"], x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """Mean absolute or mean square error, float32 ()."""
    if kind == "l1":
        return tf.reduce_mean(tf.abs(x - x_hat))
    return tf.reduce_mean(tf.square(x - x_hat))
