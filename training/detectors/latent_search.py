"""AnoGAN's search for the code of each row: gradient descent on z with the networks frozen (Schlegl et al. 2017).

Rows do not influence each other: each starts at z = 0, the mean of the prior, and has an Adam state of its own. Made of
operations that LiteRT has, for a fixed number of rows; the networks must be built for it (`Rounded`, not LeakyReLU).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
_LOG_BETA_1, _LOG_BETA_2 = math.log(_BETA_1), math.log(_BETA_2)


def search_latent(
    measure_loss: Callable[[tf.Tensor], tf.Tensor], z: tf.Tensor, *, steps: int, learning_rate: float
) -> tf.Tensor:
    """Descends from z float32 (n, latent_dim) and returns where each row arrived, of the same shape.

    Args:
        measure_loss: z → loss of each row, float32 (n,); the loss of a row depends on its code alone.
        z: where to start.
        steps: gradient steps.
        learning_rate: of Adam, falling to nothing by half a cosine: what has not arrived by then would be a matter of
            rounding.
    """

    def descend(
        step: tf.Tensor, z: tf.Tensor, first: tf.Tensor, second: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            loss = tf.reduce_sum(measure_loss(z))
        gradient = tape.gradient(loss, z)
        first = _BETA_1 * first + (1 - _BETA_1) * gradient
        second = _BETA_2 * second + (1 - _BETA_2) * tf.square(gradient)
        # β^t as exp(t log β): one operation that every runtime has.
        first_share = 1 - tf.exp((step + 1) * _LOG_BETA_1)
        second_share = 1 - tf.exp((step + 1) * _LOG_BETA_2)
        rate = learning_rate * 0.5 * (1 + tf.cos(math.pi * step / steps))
        z -= rate * (first / first_share) / (tf.sqrt(second / second_share) + _EPSILON)
        return step + 1, z, first, second

    _, z, _, _ = tf.while_loop(
        lambda step, *_: step < steps,
        descend,
        (tf.constant(0.0), z, tf.zeros_like(z), tf.zeros_like(z)),
    )
    return z
