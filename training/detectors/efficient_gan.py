"""EfficientGAN (Zenati et al. 2018, arXiv 1802.06222) for tabular rows.

An encoder E, a generator G and a discriminator D learn together (BiGAN): D tells pairs (x, E(x)) from pairs (G(z), z).

    symbol        here                    meaning
    x             X                       rows, transformed by the preprocessor
    z, E(x)       z                       latent code, standard normal in training
    G(E(x))       x_hat                   reconstruction
    D(x, z), f    discriminator           logit, and the outputs of its last hidden layer
    alpha         options.weight          share of the reconstruction in the score
    p             options.degree          norm of residuals and of feature distances
    L_D           options.loss            second term of the score
    N             prototypes              distance from the nearest prototype
    s             prototype_share         its share in the score

    score(x) = (1 - s) * (alpha * ||(x - G(E(x))) / u||_p / c1 + (1 - alpha) * L_D(x) / c2) + s * N(x) / c3,
    higher is more anomalous

The preset `paper` has s = 0 and u = c1 = c2 = 1. The preset `default` is "EfficientGAN + consistency + prototypes": E and
G also learn to invert each other, u is the root mean square of each column's residual over training rows, c1, c2 and c3
are the means of the terms there (times a common factor where rounding asks for one, see `network_detector`).

With masking (an option of our own, after masked-feature modelling) E sees rows with some columns hidden, together with
the mask m, and the residual of a hidden column is that of a value which the network had to tell from the others.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.adversarial import AdversarialTraining, Networks, encode_masked
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.network_detector import Member, NetworkDetector, Terms
from training.detectors.networks import surprise
from training.detectors.options import DetectorOptions
from training.detectors.prototypes import Prototypes

# Share of the columns that a fixed mask hides when rows are scored.
_HIDDEN_SHARE = 0.3


class EfficientGAN(NetworkDetector):
    """The detector."""

    name: ClassVar[str] = "efficient_gan"
    options_type: ClassVar[type[DetectorOptions]] = EfficientGANOptions
    n_terms: ClassVar[int] = 3
    options: EfficientGANOptions

    def __init__(
        self, n_features: int, options: EfficientGANOptions, seed: int, cells: NDArray[np.intp] | None = None
    ) -> None:
        """See `NetworkDetector`."""
        super().__init__(n_features, options, seed, cells)
        hidden_cells = self.backbone.mask_cells
        n_cells = hidden_cells.max() + 1
        self._masks = draw_masks(options.masks, n_cells, self.rng)[:, hidden_cells] if options.mask_rate else None
        self._prototypes = Prototypes(options.prototypes, n_features) if options.prototypes else None

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the reconstruction, of L_D and of N."""
        alpha, s = self.options.weight, self.options.prototype_share if self._prototypes else 0.0
        return ((1 - s) * alpha, (1 - s) * (1 - alpha), s)

    @property
    def explained_share(self) -> float:
        """See `NetworkDetector`; the prototypes explain what they weigh in the score."""
        return self.shares[0] if self.shares[2] else super().explained_share

    @property
    def networks(self) -> tuple[keras.layers.Layer, ...]:
        """See `NetworkDetector`."""
        return (*super().networks, *([self._prototypes] if self._prototypes else []))

    def explain(self, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `NetworkDetector`.

        With prototypes the expected values lie between the reconstruction and the nearest prototype p, and what each column
        adds to N = ‖x - p‖, which is (x_j - p_j)² / N, is added to its residual.
        """
        x_hat, residual = super().explain(X)
        if self._prototypes is None:
            return x_hat, residual
        nearest, s = self._prototypes.nearest(X), self.options.prototype_share
        squares = tf.math.squared_difference(X, nearest)
        distance = tf.sqrt(tf.reduce_sum(squares, axis=1, keepdims=True))
        share = self.shares[2] / self.members[0].units.terms[2]
        return (1 - s) * x_hat + s * nearest, residual + share * tf.math.divide_no_nan(squares, distance)

    def build_networks(self) -> Networks:
        """E, G and D."""
        backbone, rng = self.backbone, self.rng
        return Networks(
            backbone.encoder(self.latent_dim, rng, planes=2 if self.options.mask_rate else 1),
            backbone.generator(self.latent_dim, rng),
            backbone.joint_discriminator(self.latent_dim, rng),
        )

    def make_training(
        self, networks: Networks, averages: Networks, X: NDArray[np.float32], **arguments: Any
    ) -> AdversarialTraining:
        """The training of one member."""
        return AdversarialTraining(networks, averages, X, mask_cells=self.backbone.mask_cells, **arguments)

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        """The reconstruction and, where they have weight, its norm and L_D."""
        networks: Networks = member.networks
        z = encode_masked(networks.encoder, X, None)
        x_hat = networks.generator(z)
        second = self._second_term(networks.discriminator, X, z, x_hat) if self.options.weight < 1 else None
        shown, residual = x_hat, self.residual(member, X, x_hat)
        if self._masks is not None and self.options.conditional:
            expected, conditional = self._predict_hidden(member, X, self._masks)
            share = self.options.conditional
            shown, residual = (1 - share) * x_hat + share * expected, (1 - share) * residual + share * conditional
        third = self._prototypes.distance(X) if self._prototypes else None
        return Terms(shown, residual, (self._norm(residual), second, third))

    def prepare(self, X: NDArray[np.float32]) -> None:
        """See `NetworkDetector`."""
        if self._prototypes:
            self._prototypes.place(X, self.rng)

    def _predict_hidden(self, member: Member, X: tf.Tensor, masks: NDArray[np.float32]) -> tuple[tf.Tensor, tf.Tensor]:
        """What each column should be to judge by others, and its residual: means over the masks that hide it."""
        networks: Networks = member.networks
        expected = residual = tf.zeros_like(X)
        for hidden in masks[:, None]:
            guess = networks.generator(encode_masked(networks.encoder, X, tf.constant(hidden)))
            expected += hidden * guess
            residual += hidden * self.residual(member, X, guess)
        times = masks.sum(axis=0)
        return expected / times, residual / times

    def _second_term(self, discriminator: keras.Model, X: tf.Tensor, z: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
        """L_D, float32 (n,): -log sigmoid(logit), or the distance of D's features for x and for x_hat."""
        if self.options.loss == "cross_entropy":
            return surprise(discriminator([X, z])[0][:, 0])
        if self.options.loss == "cross_entropy_reconstruction":
            return surprise(discriminator([x_hat, z])[0][:, 0])
        return self._norm(tf.abs(discriminator([X, z])[1] - discriminator([x_hat, z])[1]))

    def _norm(self, magnitude: tf.Tensor) -> tf.Tensor:
        """‖·‖_p of non-negative float32 (n, k) over the columns → (n,)."""
        degree = self.options.degree
        if degree == 1:
            return tf.reduce_sum(magnitude, axis=1)
        return tf.pow(tf.reduce_sum(tf.pow(magnitude, float(degree)), axis=1), 1 / degree)


def draw_masks(n_masks: int, n_columns: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Masks float32 (n_masks, n_columns), 1 = hidden; each column is hidden by the same number of masks."""
    times = min(n_masks, max(1, round(_HIDDEN_SHARE * n_masks)))
    ranks = rng.permuted(np.tile(np.arange(n_masks), (n_columns, 1)), axis=1)
    return (times > ranks.T).astype(np.float32)
