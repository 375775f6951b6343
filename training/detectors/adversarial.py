"""The compiled training steps of EfficientGAN: the only place where its weights change.

The training data lies in memory as one tensor; a graph call makes many steps. Networks under training are separate
from those that score: the latter are moving averages of the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.networks import SpectralNormalisation, kernels_of
from training.sampling import RowSampler

_BETA_1, _BETA_2, _EPSILON = 0.5, 0.999, 1e-8
LOSSES = ("discriminator", "adversarial", "reconstruction", "latent")


@dataclass(frozen=True)
class Networks:
    """Encoder E, generator G and discriminator D."""

    encoder: keras.Model
    generator: keras.Model
    discriminator: keras.Model

    @property
    def weights(self) -> list[tf.Variable]:
        """Trainable variables of all three, in a fixed order."""
        models = (self.encoder, self.generator, self.discriminator)
        return [weight.value for model in models for weight in model.trainable_weights]


class Adam:
    """Adam (Kingma & Ba 2015) with β1 = 0.5 by TensorFlow's fused kernel, one operation a variable."""

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self.variables = tuple(variables)
        self._first = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self._second = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor, step: tf.Tensor) -> None:
        """Makes update number `step` (int32, from 0) with this learning rate."""
        beta_1_power, beta_2_power = (tf.pow(beta, tf.cast(step + 1, tf.float32)) for beta in (_BETA_1, _BETA_2))
        for variable, first, second, gradient in zip(self.variables, self._first, self._second, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=learning_rate,
                beta1=_BETA_1,
                beta2=_BETA_2,
                epsilon=_EPSILON,
                grad=gradient,
            )


class AdversarialTraining:
    """Trains E, G and D on resident rows and keeps the moving averages of their weights."""

    def __init__(
        self,
        networks: Networks,
        averages: Networks,
        X: NDArray[np.float32],
        *,
        samplers: tuple[RowSampler, RowSampler],
        options: EfficientGANOptions,
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        """Prepares a training of `steps` steps.

        Args:
            networks: what is trained.
            averages: receive the moving averages; start out equal to `networks`.
            X: float32 (n, d), the training rows.
            samplers: choose the rows of the D step and those of the E and G step.
            options: rates and coefficients.
            steps: planned length, for the schedules.
            rng: source of the noise's seed.
        """
        self._networks, self._averages = networks, averages
        self._samplers, self._options, self._steps = samplers, options, steps
        self._rows = tf.constant(X)
        self._noise_seed = int(rng.integers(2**31 - 1))
        discriminator = networks.discriminator
        self._discriminator_adam = Adam([weight.value for weight in discriminator.trainable_weights])
        coders = networks.encoder.trainable_weights + networks.generator.trainable_weights
        self._coder_adam = Adam([weight.value for weight in coders])
        kernels = kernels_of(discriminator) if options.spectral_normalisation else []
        self._normalisation = SpectralNormalisation(kernels, rng)
        self._latent_dim = networks.generator.input_shape[1]
        schedule = tf.TensorSpec([None], tf.float32)
        rows = tf.TensorSpec([None, 2, samplers[0].batch_size], tf.int32)
        signature = [tf.TensorSpec([None], tf.int32), rows, schedule, schedule, schedule]
        self._run = tf.function(self._make_steps, input_signature=signature)

    def run_steps(self, first: int, count: int) -> dict[str, float]:
        """Makes the steps `first … first + count - 1`; returns the mean of each loss."""
        rows = np.stack([sampler.draw(count) for sampler in self._samplers], axis=1)
        steps, options = np.arange(first, first + count), self._options
        averaging = averaging_share(steps, options.moving_average, ramp_steps=9 if options.moving_average_ramp else 0)
        losses = self._run(
            tf.constant(steps, tf.int32),
            tf.constant(rows),
            tf.constant(cosine_decay(steps, self._steps, options.final_learning_rate), tf.float32),
            tf.constant(linear_warm_up(steps, options.warm_up * self._steps), tf.float32),
            tf.constant(averaging, tf.float32),
        )
        return dict(zip(LOSSES, map(float, losses.numpy()), strict=True))

    def _make_steps(
        self, steps: tf.Tensor, rows: tf.Tensor, decay: tf.Tensor, adversarial: tf.Tensor, averaging: tf.Tensor
    ) -> tf.Tensor:
        """Steps int32 (k,), rows int32 (k, 2, batch), three schedules float32 (k,) → mean losses float32 (4,)."""
        total = tf.zeros(len(LOSSES))
        for i in tf.range(tf.shape(steps)[0]):
            total += self._step(steps[i], rows[i], decay[i], adversarial[i])
            self._update_averages(averaging[i])
        return total / tf.cast(tf.shape(steps)[0], tf.float32)

    def _step(self, step: tf.Tensor, rows: tf.Tensor, decay: tf.Tensor, adversarial: tf.Tensor) -> tf.Tensor:
        """One D step, then one E and G step on other rows and other noise → losses float32 (4,)."""
        discriminator_loss = self._step_discriminator(tf.gather(self._rows, rows[0]), step, decay)
        coder_losses = self._step_coders(tf.gather(self._rows, rows[1]), step, decay, adversarial)
        return tf.stack([discriminator_loss, *coder_losses])

    def _step_discriminator(self, x: tf.Tensor, step: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        """D learns 1 (or `real_label`) for (x, E(x)) and 0 for (G(z), z)."""
        z = self._noise(x.shape[0], step, 0)
        encoded, generated = self._networks.encoder(x), self._networks.generator(z)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._discriminator_adam.variables)
            real, fake = self._discriminate(x, encoded, generated, z)
            loss = _cross_entropy(real, self._options.real_label) + _cross_entropy(fake, 0.0)
        gradients = tape.gradient(loss, self._discriminator_adam.variables)
        self._discriminator_adam.apply(gradients, decay * self._options.discriminator_learning_rate, step)
        self._normalisation.project()
        return loss

    def _step_coders(
        self, x: tf.Tensor, step: tf.Tensor, decay: tf.Tensor, adversarial: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """E and G learn D's labels swapped, and to invert each other (the consistency terms)."""
        z = self._noise(x.shape[0], step, 1)
        networks, options = self._networks, self._options
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._coder_adam.variables)
            encoded, generated = networks.encoder(x), networks.generator(z)
            real, fake = self._discriminate(x, encoded, generated, z)
            fooling = _cross_entropy(real, 0.0) + _cross_entropy(fake, 1.0)
            reconstruction = latent = tf.constant(0.0)
            if options.consistency_x:
                reconstruction = tf.reduce_mean(tf.abs(x - networks.generator(encoded)))
            if options.consistency_z:
                latent = tf.reduce_mean(tf.abs(z - networks.encoder(generated)))
            loss = adversarial * fooling + options.consistency_x * reconstruction + options.consistency_z * latent
        gradients = tape.gradient(loss, self._coder_adam.variables)
        self._coder_adam.apply(gradients, decay * options.learning_rate, step)
        return fooling, reconstruction, latent

    def _discriminate(
        self, x: tf.Tensor, encoded: tf.Tensor, generated: tf.Tensor, z: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits, float32 (n, 1) each, of (x, E(x)) and of (G(z), z), from one pass of D in training mode."""
        pairs = [tf.concat([x, generated], 0), tf.concat([encoded, z], 0)]
        logits, _ = self._networks.discriminator(pairs, training=True)
        real, fake = tf.split(logits, 2)
        return real, fake

    def _noise(self, n_rows: int, step: tf.Tensor, use: int) -> tf.Tensor:
        """Z ~ N(0, I), float32 (n_rows, latent_dim); another one for each step and use."""
        seed = tf.stack([self._noise_seed, 2 * step + use])
        return tf.random.stateless_normal([n_rows, self._latent_dim], seed)

    def _update_averages(self, share: tf.Tensor) -> None:
        """Average ← average - share · (average - weight), by the fused kernel of gradient descent."""
        for average, weight in zip(self._averages.weights, self._networks.weights, strict=True):
            tf.raw_ops.ResourceApplyGradientDescent(var=average.handle, alpha=share, delta=average - weight)


def cosine_decay(steps: NDArray[np.int_], planned: int, final: float) -> NDArray[np.float64]:
    """Factor of the learning rates: half a cosine from 1 at step 0 to `final` at step `planned`."""
    return final + (1 - final) * 0.5 * (1 + np.cos(np.pi * steps / planned))


def linear_warm_up(steps: NDArray[np.int_], length: float) -> NDArray[np.float64]:
    """Rises linearly to 1 over the first `length` steps; 1 throughout for length 0."""
    return np.minimum(1.0, (steps + 1) / max(1.0, length))


def averaging_share(steps: NDArray[np.int_], decay: float, *, ramp_steps: int) -> NDArray[np.float64]:
    """Weight of the newest value in a moving average: 1 - decay.

    With a ramp the decay is at most (1 + step) / (1 + ramp_steps + step), so that the first values are soon forgotten.
    """
    if not ramp_steps:
        return np.full(len(steps), 1 - decay)
    return 1 - np.minimum(decay, (1 + steps) / (1 + ramp_steps + steps))


def _cross_entropy(logits: tf.Tensor, label: float) -> tf.Tensor:
    """Mean binary cross-entropy of logits against one label."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), label), logits))
