"""What the networks of a detector are made of: dense layers, or convolutions for rows that are images.

A detector asks its backbone for the networks that it needs and does not know which kind it gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from monitor.errors import ConfigError
from training.detectors.convolutions import ConvolutionalBackbone
from training.detectors.networks import (
    Activation,
    dense_discriminator,
    dense_encoder,
    dense_generator,
    fused_activation,
    joint_discriminator,
)
from training.detectors.options import DetectorOptions


class Backbone(Protocol):
    """Builds untrained networks for flat rows of `n_features` values, drawn from `rng`."""

    @property
    def mask_cells(self) -> NDArray[np.intp]:
        """Columns of the same number are hidden, or taken from another row, together; (n_features,), from 0."""
        ...

    def pool(self, squares: tf.Tensor) -> tf.Tensor:
        """Mean squares of the residuals, float32 (n_features,) → the same, where columns of one kind share theirs."""
        ...

    def turn(self, rows: tf.Tensor) -> tf.Tensor:
        """Rows, float32 (n, n_features), of which most lie otherwise than in the data; the same where columns are no neighbours."""
        ...

    def encoder(self, latent_dim: int, rng: np.random.Generator, planes: int = 1) -> keras.Model:
        """E: x float32 (n, planes · n_features) → z float32 (n, latent_dim), linear at the end.

        Two planes are a row and its mask, side by side.
        """
        ...

    def generator(
        self, latent_dim: int, rng: np.random.Generator, activation: Activation = fused_activation
    ) -> keras.Model:
        """G: z float32 (n, latent_dim) → x_hat float32 (n, n_features)."""
        ...

    def discriminator(self, rng: np.random.Generator, activation: Activation = fused_activation) -> keras.Model:
        """D: x → (logit float32 (n, 1), outputs of the last hidden layer float32 (n, width)); high = like the data."""
        ...

    def joint_discriminator(self, latent_dim: int, rng: np.random.Generator) -> keras.Model:
        """D of pairs: (x, z) → the same as `discriminator`."""
        ...


@dataclass(frozen=True)
class DenseBackbone:
    """Networks for rows whose columns have no order.

    Attributes:
        n_features: width of X.
        options: those of the detector; the widths and `dropout` shape the networks.
        mask_cells: see `Backbone`; the levels of a category have the same number.
    """

    n_features: int
    options: Any
    mask_cells: NDArray[np.intp]

    def pool(self, squares: tf.Tensor) -> tf.Tensor:
        """Each column has a unit of its own."""
        return squares

    def turn(self, rows: tf.Tensor) -> tf.Tensor:
        """Columns have places of their own."""
        return rows

    def encoder(self, latent_dim: int, rng: np.random.Generator, planes: int = 1) -> keras.Model:
        """See `Backbone`."""
        return dense_encoder(planes * self.n_features, latent_dim, self.options.encoder_widths, rng)

    def generator(
        self, latent_dim: int, rng: np.random.Generator, activation: Activation = fused_activation
    ) -> keras.Model:
        """See `Backbone`."""
        return dense_generator(self.n_features, latent_dim, self.options.generator_widths, rng, activation)

    def discriminator(self, rng: np.random.Generator, activation: Activation = fused_activation) -> keras.Model:
        """See `Backbone`."""
        options = self.options
        return dense_discriminator(
            self.n_features, (options.discriminator_width,) * 2, options.dropout, rng, activation
        )

    def joint_discriminator(self, latent_dim: int, rng: np.random.Generator) -> keras.Model:
        """See `Backbone`."""
        options = self.options
        return joint_discriminator(self.n_features, latent_dim, options.discriminator_width, options.dropout, rng)


def choose_backbone(n_features: int, options: DetectorOptions, cells: NDArray[np.intp] | None = None) -> Backbone:
    """Convolutions for rows that are images, else dense layers.

    Args:
        n_features: width of X.
        options: those of the detector.
        cells: intp (n_features,), from 0; columns of the same number make one value. None: each is a value of its own.

    Raises:
        ConfigError: the image does not have as many values as a row.
    """
    if options.image_shape is None:
        return DenseBackbone(n_features, options, np.arange(n_features) if cells is None else cells)
    n_values = math.prod(options.image_shape)
    if n_values != n_features:
        shape = " x ".join(map(str, options.image_shape))
        raise ConfigError(
            "detector options", f"image_shape: {shape} makes {n_values} values, but rows have {n_features}"
        )
    return ConvolutionalBackbone(options.image_shape, options)
