"""The convolutional networks of the detectors, for rows that are images. They stand in for those of `networks`.

A row stays flat outside: the networks fold it into an image of height, width and channels at their start and unfold it
at their end. Each convolution (4 x 4, stride 2) halves height and width, rounded up, as in a DCGAN (Radford et al. 2016,
arXiv 1511.06434); the generator starts from that size and cuts off what is too much. It ends in tanh, as values lie in
about -1 … 1: most pixels of many images lie at an end, which a linear layer learns slowly. Nothing is normalised over a
batch, so that a row's score is its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.networks import LEAK, Activation, dense_layer, draw_initializer, dropped, fused_activation

_KERNEL, _STRIDE = 4, 2
# Masks hide squares of this many pixels: a single pixel could be told from its neighbours.
_MASKED_SIDE = 4


@dataclass(frozen=True)
class ConvolutionalBackbone:
    """Networks for rows that are images.

    Attributes:
        image_shape: height, width and channels; their product is the width of X.
        options: those of the detector; `channels`, `discriminator_width` and `dropout` shape the networks.
    """

    image_shape: tuple[int, int, int]
    options: Any

    @property
    def mask_cells(self) -> NDArray[np.intp]:
        """For each value of a row the number of the square of pixels that it lies in, (n_features,)."""
        height, width, channels = self.image_shape
        rows, columns = np.arange(height) // _MASKED_SIDE, np.arange(width) // _MASKED_SIDE
        squares = rows[:, None] * math.ceil(width / _MASKED_SIDE) + columns
        return np.repeat(squares.ravel(), channels)

    def pool(self, squares: tf.Tensor) -> tf.Tensor:
        """Mean squares, float32 (n_features,) → the same, where all pixels of a channel share theirs."""
        height, width, channels = self.image_shape
        means = tf.reduce_mean(tf.reshape(squares, [-1, channels]), axis=0)
        return tf.tile(means, [height * width])

    def turn(self, rows: tf.Tensor) -> tf.Tensor:
        """Images in four equal parts, turned by none to three quarters; those that are no squares in two, by none or two."""
        height, width, _ = self.image_shape
        quarters = range(4) if height == width else (0, 2)
        images = tf.reshape(rows, [-1, *self.image_shape])
        sizes = [len(part) for part in np.array_split(np.arange(rows.shape[0]), len(quarters))]
        turned = [tf.image.rot90(part, times) for part, times in zip(tf.split(images, sizes), quarters, strict=True)]
        return tf.reshape(tf.concat(turned, 0), rows.shape)

    def encoder(self, latent_dim: int, rng: np.random.Generator, planes: int = 1) -> keras.Model:
        """E: x float32 (n, planes · n_features) → z float32 (n, latent_dim); see `Backbone`."""
        x = keras.Input((planes * self._n_features,), name="x")
        hidden = self._convolved(self._folded(x, planes), rng, fused_activation)
        return keras.Model(x, dense_layer(latent_dim, rng)(hidden), name="encoder")

    def generator(
        self, latent_dim: int, rng: np.random.Generator, activation: Activation = fused_activation
    ) -> keras.Model:
        """G: z float32 (n, latent_dim) → x_hat float32 (n, n_features); ReLU between the layers, tanh at the end."""
        height, width, depth = self.image_shape
        inner = list(self.options.channels)
        start = tuple(math.ceil(side / _STRIDE ** len(inner)) for side in (height, width))
        z = keras.Input((latent_dim,), name="z")
        hidden = activation(0.0)(dense_layer(math.prod(start) * inner[-1], rng)(z))
        hidden = keras.layers.Reshape((*start, inner[-1]))(hidden)
        for channels in reversed(inner[:-1]):
            hidden = activation(0.0)(_transposed(channels, rng)(hidden))
        image = keras.layers.Activation("tanh")(_transposed(depth, rng)(hidden))
        if image.shape[1:3] != (height, width):
            image = Crop(height, width)(image)
        return keras.Model(z, keras.layers.Flatten()(image), name="generator")

    def discriminator(self, rng: np.random.Generator, activation: Activation = fused_activation) -> keras.Model:
        """D: x float32 (n, n_features) → (logit float32 (n, 1), features f float32 (n, width)); see `Backbone`."""
        options = self.options
        x = keras.Input((self._n_features,), name="x")
        hidden = dropped(self._convolved(self._folded(x), rng, activation), options.dropout, rng)
        hidden = activation(LEAK)(dense_layer(options.discriminator_width, rng)(hidden))
        features = dropped(hidden, options.dropout, rng)
        return keras.Model(x, [dense_layer(1, rng)(features), features], name="discriminator")

    def joint_discriminator(self, latent_dim: int, rng: np.random.Generator) -> keras.Model:
        """D: (x, z) → (logit float32 (n, 1), features f float32 (n, width)); see `Backbone`."""
        dropout, width = self.options.dropout, self.options.discriminator_width
        x = keras.Input((self._n_features,), name="x")
        z = keras.Input((latent_dim,), name="z")
        seen = self._convolved(self._folded(x), rng, fused_activation)
        joined = keras.layers.Concatenate()([dense_layer(width, rng)(branch) for branch in (seen, z)])
        joined = dropped(fused_activation(LEAK)(joined), dropout, rng)
        features = dropped(fused_activation(LEAK)(dense_layer(width, rng)(joined)), dropout, rng)
        return keras.Model([x, z], [dense_layer(1, rng)(features), features], name="discriminator")

    @property
    def _n_features(self) -> int:
        return math.prod(self.image_shape)

    def _folded(self, x: keras.KerasTensor, planes: int = 1) -> keras.KerasTensor:
        """Float32 (n, planes · n_features) → images float32 (n, height, width, planes · channels)."""
        height, width, channels = self.image_shape
        if planes == 1:
            return keras.layers.Reshape(self.image_shape)(x)
        parts = keras.layers.Permute((2, 1, 3))(keras.layers.Reshape((planes, height * width, channels))(x))
        return keras.layers.Reshape((height, width, planes * channels))(parts)

    def _convolved(
        self, image: keras.KerasTensor, rng: np.random.Generator, activation: Activation
    ) -> keras.KerasTensor:
        """Images → float32 (n, features), each convolution followed by a LeakyReLU."""
        for channels in self.options.channels:
            convolution = keras.layers.Conv2D(
                channels, _KERNEL, _STRIDE, padding="same", kernel_initializer=draw_initializer(rng)
            )
            image = activation(LEAK)(convolution(image))
        return keras.layers.Flatten()(image)


class Crop(keras.layers.Layer):  # type: ignore[misc]
    """Keeps the upper left part of an image; by `slice`, whose gradient LiteRT has."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self._height, self._width = height, width

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Float32 (n, h, w, c) → (n, height, width, c)."""
        return tf.slice(inputs, [0, 0, 0, 0], [-1, self._height, self._width, -1])


def _transposed(channels: int, rng: np.random.Generator) -> keras.layers.Conv2DTranspose:
    return keras.layers.Conv2DTranspose(
        channels, _KERNEL, _STRIDE, padding="same", kernel_initializer=draw_initializer(rng)
    )
