"""The training steps of EfficientGAN: D against E and G, with the consistency terms and masking as options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.networks import SpectralNormalisation, kernels_of
from training.detectors.steps import DIVERSITY_ROWS, Adam, Clock, NetworkGroup, Training, cross_entropy, variables_of


@dataclass(frozen=True)
class Networks(NetworkGroup):
    """Encoder E, generator G and discriminator D."""

    encoder: keras.Model
    generator: keras.Model
    discriminator: keras.Model


class AdversarialTraining(Training):
    """Trains E, G and D."""

    losses: ClassVar[tuple[str, ...]] = ("discriminator", "adversarial", "reconstruction", "latent")
    options: EfficientGANOptions
    averages: Networks

    def __init__(
        self, networks: Networks, *arguments: Any, mask_cells: NDArray[np.intp] | None = None, **named: Any
    ) -> None:
        """See `Training`; columns of the same number in `mask_cells`, int (d,), are hidden together."""
        super().__init__(networks, *arguments, **named)
        self._mask_cells = np.arange(self._rows.shape[1]) if mask_cells is None else mask_cells
        self._networks = networks
        self._discriminator_adam = Adam(variables_of(networks.discriminator))
        self._coder_adam = Adam(variables_of(networks.encoder, networks.generator))
        kernels = kernels_of(networks.discriminator) if self.options.spectral_normalisation else []
        self._normalisation = SpectralNormalisation(kernels, named["rng"])
        self._latent_dim = networks.generator.input_shape[1]

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """One D step, then one E and G step on other rows and other noise."""
        discriminator_loss = self._step_discriminator(self._take(rows[0]), clock)
        return (discriminator_loss, *self._step_coders(self._take(rows[1]), clock))

    def generate(self) -> tf.Tensor:
        """G(z) for noise that is always the same."""
        z = tf.random.stateless_normal([DIVERSITY_ROWS, self._latent_dim], [self._noise_seed, -1])
        return self.averages.generator(z)

    def _step_discriminator(self, x: tf.Tensor, clock: Clock) -> tf.Tensor:
        """D learns 1 (or `real_label`) for (x, E(x)) and 0 for (G(z), z)."""
        z = self._noise([x.shape[0], self._latent_dim], clock.step, 0)
        encoded, generated = self._encode(x, clock, 0), self._networks.generator(z)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._discriminator_adam.variables)
            real, fake = self._discriminate(x, encoded, generated, z)
            loss = cross_entropy(real, self.options.real_label) + cross_entropy(fake, 0.0)
        gradients = tape.gradient(loss, self._discriminator_adam.variables)
        self._discriminator_adam.apply(gradients, clock.decay * self.options.discriminator_learning_rate, clock.step)
        self._normalisation.project()
        return loss

    def _step_coders(self, x: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """E and G learn D's labels swapped, and to invert each other (the consistency terms)."""
        z = self._noise([x.shape[0], self._latent_dim], clock.step, 1)
        networks, options = self._networks, self.options
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._coder_adam.variables)
            encoded, generated = self._encode(x, clock, 1), networks.generator(z)
            real, fake = self._discriminate(x, encoded, generated, z)
            fooling = cross_entropy(real, 0.0) + cross_entropy(fake, 1.0)
            reconstruction = latent = tf.constant(0.0)
            if options.consistency_x:
                reconstruction = tf.reduce_mean(tf.abs(x - networks.generator(encoded)))
            if options.consistency_z:
                latent = tf.reduce_mean(tf.abs(z - encode_masked(networks.encoder, generated, None)))
            loss = clock.adversarial * fooling + options.consistency_x * reconstruction + options.consistency_z * latent
        gradients = tape.gradient(loss, self._coder_adam.variables)
        self._coder_adam.apply(gradients, clock.decay * options.learning_rate, clock.step)
        return fooling, reconstruction, latent

    def _encode(self, x: tf.Tensor, clock: Clock, use: int) -> tf.Tensor:
        """E(x); with masking E sees each row with a random share of its columns hidden."""
        if not self.options.mask_rate:
            return self._networks.encoder(x)
        seed = tf.stack([self._noise_seed + 1, 2 * clock.step + use])
        uniform = tf.random.stateless_uniform([x.shape[0], self._mask_cells.max() + 2], seed)
        hidden = tf.cast(uniform[:, 1:] < self.options.mask_rate * uniform[:, :1], tf.float32)
        return encode_masked(self._networks.encoder, x, tf.gather(hidden, self._mask_cells, axis=1))

    def _discriminate(
        self, x: tf.Tensor, encoded: tf.Tensor, generated: tf.Tensor, z: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits, float32 (n, 1) each, of (x, E(x)) and of (G(z), z), from one pass of D in training mode."""
        pairs = [tf.concat([x, generated], 0), tf.concat([encoded, z], 0)]
        logits, _ = self._networks.discriminator(pairs, training=True)
        real, fake = tf.split(logits, 2)
        return real, fake


def encode_masked(encoder: keras.Model, x: tf.Tensor, hidden: tf.Tensor | None) -> tf.Tensor:
    """E(x·(1 - m), m) of x float32 (n, d) and a mask float32 (n, d) or (1, d), 1 = hidden; None hides nothing.

    An encoder that takes d columns was built without masking and sees x alone.
    """
    if encoder.input_shape[1] == x.shape[1]:
        return encoder(x)
    if hidden is None:
        return encoder(tf.concat([x, tf.zeros_like(x)], 1))
    return encoder(tf.concat([x * (1 - hidden), tf.zeros_like(x) + hidden], 1))
