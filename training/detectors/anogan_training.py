"""The training steps of AnoGAN: first G against D, then E with both frozen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import tensorflow as tf

from training.detectors.networks import SpectralNormalisation, kernels_of
from training.detectors.steps import (
    DIVERSITY_ROWS,
    Adam,
    Clock,
    NetworkGroup,
    Training,
    cross_entropy,
    move_averages,
    variables_of,
)

if TYPE_CHECKING:
    from training.detectors.anogan import AnoGANOptions


@dataclass(frozen=True)
class AnoGANNetworks(NetworkGroup):
    """Generator G, discriminator D and, unless codes are searched for, encoder E."""

    generator: keras.Model
    discriminator: keras.Model
    encoder: keras.Model | None


class AnoGANTraining(Training):
    """Trains G and D, then E on the averages of G and D."""

    losses: ClassVar[tuple[str, ...]] = ("discriminator", "adversarial", "encoder")
    options: AnoGANOptions
    averages: AnoGANNetworks

    def __init__(self, networks: AnoGANNetworks, *arguments: Any, **named: Any) -> None:
        """See `Training`."""
        super().__init__(networks, *arguments, **named)
        self._networks = networks
        self._discriminator_adam = Adam(variables_of(networks.discriminator))
        self._generator_adam = Adam(variables_of(networks.generator))
        self._encoder_adam = Adam(variables_of(networks.encoder) if networks.encoder is not None else [])
        kernels = kernels_of(networks.discriminator) if self.options.spectral_normalisation else []
        self._normalisation = SpectralNormalisation(kernels, named["rng"])
        self._latent_dim = networks.generator.input_shape[1]
        self._adversarial_steps = self.steps
        if networks.encoder is not None:
            self._adversarial_steps = max(1, round((1 - self.options.encoder_share) * self.steps))
            self.first_evaluation = self._adversarial_steps

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """A step of D and one of G, or later one of E."""
        encoder = self._networks.encoder
        if encoder is None:
            return self._step_adversaries(rows, clock)
        losses: tuple[tf.Tensor, ...] = tf.cond(
            clock.step < self._adversarial_steps,
            lambda: self._step_adversaries(rows, clock),
            lambda: self._step_encoder(encoder, rows, clock),
        )
        return losses

    def generate(self) -> tf.Tensor:
        """G(z) for noise that is always the same."""
        z = tf.random.stateless_normal([DIVERSITY_ROWS, self._latent_dim], [self._noise_seed, -1])
        return self.averages.generator(z)

    def average(self, clock: Clock) -> None:
        """The averages of G and D stand still while E learns to invert them."""
        adversaries = tf.where(clock.step < self._adversarial_steps, clock.share, 0.0)
        for average, network in zip(self.averages.models, self._networks.models, strict=True):
            share = clock.share if network is self._networks.encoder else adversaries
            move_averages(variables_of(average), variables_of(network), share)

    def _step_adversaries(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        decay = self._decay(clock.step, self._adversarial_steps)
        discriminator_loss = self._step_discriminator(self._take(rows[0]), clock.step, decay)
        return discriminator_loss, self._step_generator(rows.shape[1], clock.step, decay), tf.constant(0.0)

    def _step_discriminator(self, x: tf.Tensor, step: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        """D learns 1 (or `real_label`) for x and 0 for G(z)."""
        networks, options = self._networks, self.options
        generated = networks.generator(self._noise([x.shape[0], self._latent_dim], step, 0))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._discriminator_adam.variables)
            logits, _ = networks.discriminator(tf.concat([x, generated], 0), training=True)
            real, fake = tf.split(logits, 2)
            loss = cross_entropy(real, options.real_label) + cross_entropy(fake, 0.0)
        gradients = tape.gradient(loss, self._discriminator_adam.variables)
        self._discriminator_adam.apply(gradients, decay * options.discriminator_learning_rate, step)
        self._normalisation.project()
        return loss

    def _step_generator(self, n_rows: int, step: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        """G learns to be taken for data."""
        networks = self._networks
        z = self._noise([n_rows, self._latent_dim], step, 1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._generator_adam.variables)
            loss = cross_entropy(networks.discriminator(networks.generator(z), training=True)[0], 1.0)
        gradients = tape.gradient(loss, self._generator_adam.variables)
        self._generator_adam.apply(gradients, decay * self.options.learning_rate, step)
        return loss

    def _step_encoder(
        self, encoder: keras.Model, rows: tf.Tensor, clock: Clock
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """E learns to find codes with which the averaged G and D reproduce x and its features ("izi_f")."""
        x, update = self._take(tf.reshape(rows, [-1])), clock.step - self._adversarial_steps
        generator, discriminator = self.averages.generator, self.averages.discriminator
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._encoder_adam.variables)
            x_hat = generator(encoder(x))
            features, features_hat = discriminator(x)[1], discriminator(x_hat)[1]
            loss = tf.reduce_mean(tf.square(x - x_hat))
            loss += self.options.feature_coefficient * tf.reduce_mean(tf.square(features - features_hat))
        gradients = tape.gradient(loss, self._encoder_adam.variables)
        decay = self._decay(update, self.steps - self._adversarial_steps)
        self._encoder_adam.apply(gradients, decay * self.options.learning_rate, update)
        return tf.constant(0.0), tf.constant(0.0), loss

    def _decay(self, step: tf.Tensor, length: int) -> tf.Tensor:
        """Half a cosine for each of the two phases: factor of the learning rates."""
        final = self.options.final_learning_rate
        return final + (1 - final) * 0.5 * (1 + tf.cos(math.pi * tf.cast(step, tf.float32) / max(1, length)))
