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
        return tf.sqrt(tf.reduce_sum(tf.math.squared_difference(X, self.nearest(X)), axis=1))

    def nearest(self, X: tf.Tensor) -> tf.Tensor:
        """The nearest prototype of each row of X float32 (n, n_features) → float32 (n, n_features)."""
        rows = tf.convert_to_tensor(self._rows)
        # ‖x − p‖² without ‖x‖², which is the same for all prototypes; one constant matrix, which runtimes lay out once.
        squares = tf.matmul(X, -2 * tf.transpose(rows)) + tf.reduce_sum(tf.square(rows), axis=1)
        return tf.gather(rows, tf.argmin(squares, axis=1, output_type=tf.int32))
