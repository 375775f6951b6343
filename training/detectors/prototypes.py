"""Typical training rows, and how far any row is from the nearest of them.

A reconstruction can follow a row to places where no training row ever was; the distance to what did occur cannot. The
prototypes are the centres of k-means (Lloyd 1982) over the distinct rows.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from training.sampling import distinct_rows

# Of prototypes that are equally far but for rounding the first is chosen: each later one counts as so much farther, in squared
# distance, times (1 + ‖x‖) (1 + ‖p‖), to which the rounding is in proportion: some 1e-7 of it.
_PREFERENCE = 1e-6
# Distinct rows that are clustered at most.
_ROWS = 20_000
# With fewer rows to a prototype the rows would be prototypes themselves.
_ROWS_A_PROTOTYPE = 2
_ITERATIONS = 30


class Prototypes(keras.layers.Layer):  # type: ignore[misc]
    """So many rows of a number of columns."""

    def __init__(self, n_prototypes: int, n_features: int) -> None:
        """Starts with all of them at the origin."""
        super().__init__(name="prototypes", trainable=False)
        self._rows = self.add_weight(shape=(n_prototypes, n_features), initializer="zeros", name="rows")
        self.built = True

    def place(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Moves them into training rows, float32 (n, n_features); the same rows and generator give the same prototypes."""
        n_prototypes = self._rows.shape[0]
        distinct = X[rng.permutation(distinct_rows(X)[0])[:_ROWS]]
        n_clusters = min(n_prototypes, max(1, len(distinct) // _ROWS_A_PROTOTYPE))
        search = KMeans(n_clusters, n_init=1, max_iter=_ITERATIONS, random_state=int(rng.integers(2**31)))
        with threadpool_limits(1):  # several threads add up in any order
            centres = search.fit(distinct).cluster_centers_
        self._rows.assign(centres[np.arange(n_prototypes) % n_clusters])

    def distance(self, X: tf.Tensor) -> tf.Tensor:
        """Of each row of X float32 (n, n_features) from the nearest prototype → float32 (n,)."""
        nearest = self._least(self._squares(X))
        return tf.sqrt(tf.reduce_sum(tf.math.squared_difference(X, nearest), axis=1))

    def nearest(self, X: tf.Tensor) -> tf.Tensor:
        """The nearest prototype of each row of X float32 (n, n_features) → float32 (n, n_features).

        Rows of categories are often as far from one prototype as from another; every runtime has to name the same one.
        """
        rows = tf.convert_to_tensor(self._rows)
        sizes = (1 + tf.norm(X, axis=1, keepdims=True)) * (1 + tf.reduce_max(tf.norm(rows, axis=1)))
        preference = _PREFERENCE * tf.range(rows.shape[0], dtype=tf.float32)
        return self._least(self._squares(X) + sizes * preference)

    def _squares(self, X: tf.Tensor) -> tf.Tensor:
        """‖x − p‖² without ‖x‖², which is the same for all prototypes p: float32 (n, n_prototypes)."""
        rows = tf.convert_to_tensor(self._rows)  # one constant matrix, which runtimes lay out once
        return tf.matmul(X, -2 * tf.transpose(rows)) + tf.reduce_sum(tf.square(rows), axis=1)

    def _least(self, squares: tf.Tensor) -> tf.Tensor:
        """The prototype with the least of each row of `squares` float32 (n, n_prototypes) → float32 (n, n_features)."""
        return tf.gather(tf.convert_to_tensor(self._rows), tf.argmin(squares, axis=1, output_type=tf.int32))
