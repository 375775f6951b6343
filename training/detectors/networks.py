"""The dense networks of the detectors and the constraint that keeps a discriminator 1-Lipschitz.

Networks are built here and trained elsewhere. LeakyReLU has slope 0.1, as in the paper (Keras 3 defaults to 0.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.similarity import square_root

LEAK = 0.1
# δ of `Rounded`.
_ROUNDING = 0.05

Activation = Callable[[float], keras.layers.Layer]


def fused_activation(slope: float) -> keras.layers.Layer:
    """The rectifier with this slope below zero that runtimes fuse with the layer before it."""
    return keras.layers.LeakyReLU(negative_slope=slope) if slope else keras.layers.ReLU()


def dense_encoder(n_features: int, latent_dim: int, widths: Sequence[int], rng: np.random.Generator) -> keras.Model:
    """E: x float32 (n, n_features) → z float32 (n, latent_dim); LeakyReLU between the layers, linear at the end."""
    x = keras.Input((n_features,), name="x")
    hidden = x
    for width in widths:
        hidden = _leaky(dense_layer(width, rng)(hidden))
    return keras.Model(x, dense_layer(latent_dim, rng)(hidden), name="encoder")


def dense_generator(
    n_features: int,
    latent_dim: int,
    widths: Sequence[int],
    rng: np.random.Generator,
    activation: Activation = fused_activation,
) -> keras.Model:
    """G: z float32 (n, latent_dim) → x_hat float32 (n, n_features); ReLU between the layers, linear at the end."""
    z = keras.Input((latent_dim,), name="z")
    hidden = z
    for width in widths:
        hidden = activation(0.0)(dense_layer(width, rng)(hidden))
    return keras.Model(z, dense_layer(n_features, rng)(hidden), name="generator")


def joint_discriminator(
    n_features: int, latent_dim: int, width: int, dropout: float, rng: np.random.Generator
) -> keras.Model:
    """D: (x, z) → (logit float32 (n, 1), features f float32 (n, width)).

    x and z each pass one layer, are concatenated and pass a third one, whose output is f. A high logit means that the
    pair looks like (x, E(x)) of a training row. Dropout acts in training only.
    """
    x = keras.Input((n_features,), name="x")
    z = keras.Input((latent_dim,), name="z")
    # Activation and dropout act on each unit alone: after the concatenation they do the same in half the operations.
    joined = keras.layers.Concatenate()([dense_layer(width, rng)(branch) for branch in (x, z)])
    joined = dropped(_leaky(joined), dropout, rng)
    features = dropped(_leaky(dense_layer(width, rng)(joined)), dropout, rng)
    return keras.Model([x, z], [dense_layer(1, rng)(features), features], name="discriminator")


def dense_discriminator(
    n_features: int,
    widths: Sequence[int],
    dropout: float,
    rng: np.random.Generator,
    activation: Activation = fused_activation,
) -> keras.Model:
    """D: x → (logit float32 (n, 1), features f float32 (n, widths[-1])); f is the output of the last hidden layer.

    A high logit means that x looks like a training row. Dropout acts in training only.
    """
    x = keras.Input((n_features,), name="x")
    hidden = x
    for width in widths:
        hidden = dropped(activation(LEAK)(dense_layer(width, rng)(hidden)), dropout, rng)
    return keras.Model(x, [dense_layer(1, rng)(hidden), hidden], name="discriminator")


class Dropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout that draws one byte a unit where Keras draws a float, in less than half the time.

    The rate is rounded to a multiple of 1/256; kept units are scaled by the inverse of the share that is kept.
    """

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self._dropped = round(rate * 256)
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, inputs: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """Float32 (n, width) → the same shape; the identity outside of training."""
        if not training:
            return inputs
        n_rows, width = tf.shape(inputs)[0], inputs.shape[1]
        words = tf.random.stateless_uniform(
            [n_rows, -(-width // 4)], self._seeds.next(), minval=None, maxval=None, dtype=tf.uint32
        )
        drawn = tf.reshape(tf.bitcast(words, tf.uint8), [n_rows, -1])[:, :width]
        kept = tf.cast(drawn >= self._dropped, inputs.dtype)
        return inputs * kept * (256 / (256 - self._dropped))


class Rounded(keras.layers.Layer):  # type: ignore[misc]
    """A leaky rectifier with a rounded corner, slope·x + (1 - slope)·½(x + √(x² + δ²) - δ), for networks that are searched.

    LiteRT lacks the gradient of the usual one. And a descent that meets corners turns differences of rounding into other
    minima: with this one, two runtimes find the same code.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self._slope = slope

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Float32 of any shape → the same shape."""
        positive = 0.5 * (inputs + square_root(tf.square(inputs) + _ROUNDING**2) - _ROUNDING)
        return self._slope * inputs + (1 - self._slope) * positive


class SpectralNormalisation:
    """Keeps the largest singular value of each kernel at most 1 (Miyato et al. 2018), as a projection after each step.

    One power iteration a step follows the singular vector. The kernels themselves are scaled, so that the network that
    is exported needs no extra operation. The kernel of a convolution counts as the matrix of its taps, as in the paper.
    """

    def __init__(self, kernels: Sequence[tf.Variable], rng: np.random.Generator) -> None:
        self._kernels = tuple(kernels)
        self._vectors = tuple(
            tf.Variable(_draw_unit_vector(kernel.shape[-1], rng), trainable=False) for kernel in self._kernels
        )

    def project(self) -> None:
        """Scales every kernel whose estimated largest singular value exceeds 1 down to it."""
        for kernel, right in zip(self._kernels, self._vectors, strict=True):
            matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
            left = tf.matmul(right, matrix, transpose_b=True)
            back = tf.matmul(left, matrix)
            right.assign(tf.math.divide_no_nan(back, tf.norm(back)))
            kernel.assign(kernel / tf.maximum(tf.norm(left), 1.0))


def kernels_of(network: keras.Model) -> list[tf.Variable]:
    """The weights of the layers of a network, without their biases."""
    return [weight.value for weight in network.trainable_weights if len(weight.shape) > 1]


def surprise(logit: tf.Tensor) -> tf.Tensor:
    """-log sigmoid(logit), in the form that stays finite in LiteRT, whose softplus overflows beyond 88."""
    return tf.nn.relu(-logit) + tf.math.log1p(tf.exp(-tf.abs(logit)))


def dense_layer(width: int, rng: np.random.Generator) -> keras.layers.Dense:
    """A layer of that width, with weights drawn from `rng`."""
    return keras.layers.Dense(width, kernel_initializer=draw_initializer(rng))


def draw_initializer(rng: np.random.Generator) -> keras.initializers.Initializer:
    """Glorot's, with a seed drawn from `rng`."""
    return keras.initializers.GlorotUniform(seed=_draw_seed(rng))


def _leaky(hidden: keras.KerasTensor) -> keras.KerasTensor:
    return fused_activation(LEAK)(hidden)


def dropped(hidden: keras.KerasTensor, rate: float, rng: np.random.Generator) -> keras.KerasTensor:
    """Dropout of that rate behind `hidden`; nothing for rate 0."""
    return Dropout(rate, _draw_seed(rng))(hidden) if rate else hidden


def _draw_unit_vector(width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Float32 (1, width) of length 1."""
    vector = rng.standard_normal((1, width), dtype=np.float32)
    return vector / np.linalg.norm(vector)


def _draw_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31 - 1))
