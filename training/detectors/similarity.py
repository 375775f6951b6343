"""How far a row is from its reconstruction, in four ways. All of it can be exported, and differentiated there.

Two of them have corners, across which a descent jumps to and fro, so that where it ends is a matter of rounding: a search
descends on smooth forms of these.

l1            Σ |x - x̂| / u
l2            √ Σ ((x - x̂) / u)²
cosine        1 - x·x̂ / (‖x‖ ‖x̂‖)
kl_histogram  KL(h(x) ‖ h(x̂)), h = histogram of a row's values; says nothing about which column holds which value
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import tensorflow as tf

Similarity = Literal["l1", "l2", "cosine", "kl_histogram"]

_SMALLEST_NORM = 1e-6
# Standardised values; those beyond the ends count for the outermost bins.
_BINS, _REACH = 16, 4.0
# δ of `smooth_absolute`.
_CORNER = 0.1
# Share of the histogram that is spread evenly, so that no bin is empty.
_EVENLY = 0.01
# Where three terms of the series of artanh are exact in float32.
_CLOSE = 0.1


def measure_distance(kind: Similarity, x: tf.Tensor, x_hat: tf.Tensor, unit: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Distance of each row from its reconstruction, float32 (n,), >= 0.

    Args:
        kind: which one.
        x: float32 (n, d).
        x_hat: float32 (n, d).
        unit: float32 (d,), of each column's residual; `l1` and `l2` only.
    """
    if kind == "l1":
        return tf.reduce_sum(tf.abs(x - x_hat) / unit, axis=1)
    if kind == "l2":
        return square_root(tf.reduce_sum(tf.square((x - x_hat) / unit), axis=1))
    if kind == "cosine":
        # Half the squared distance of the directions: the same, but exact where they are close.
        return 0.5 * tf.reduce_sum(tf.square(_direction(x) - _direction(x_hat)), axis=1)
    return tf.reduce_sum(_divergence(_histogram(x, _triangle), _histogram(x_hat, _triangle)), axis=1)


def measure_smoothly(kind: Similarity, x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """The same without corners, for a search: `l1` with rounded ones, `kl_histogram` of values that count for three bins."""
    if kind == "l1":
        return tf.reduce_sum(smooth_absolute(x - x_hat), axis=1)
    if kind == "kl_histogram":
        return tf.reduce_sum(_divergence(_histogram(x, _bell), _histogram(x_hat, _bell)), axis=1)
    return measure_distance(kind, x, x_hat)


def smooth_absolute(value: tf.Tensor) -> tf.Tensor:
    """√(v² + δ²) - δ, about |v|: a descent on it arrives, where one on |v| jumps to and fro across the corner."""
    return square_root(tf.square(value) + _CORNER**2) - _CORNER


@tf.custom_gradient  # type: ignore[untyped-decorator]
def square_root(square: tf.Tensor) -> tuple[tf.Tensor, object]:
    """√ of non-negative float32; its gradient is made of operations that LiteRT has, and stays finite at 0."""
    root = tf.sqrt(square)
    return root, lambda upstream: 0.5 * upstream / tf.maximum(root, _SMALLEST_NORM)


def _direction(rows: tf.Tensor) -> tf.Tensor:
    """Rows scaled to length 1; a row of zeros stays as it is."""
    # In units of the largest value: the square of 1e30 is beyond float32.
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(rows), axis=1, keepdims=True))
    scaled = rows / tf.maximum(largest, _SMALLEST_NORM)
    length = square_root(tf.reduce_sum(tf.square(scaled), axis=1, keepdims=True))
    return scaled / tf.maximum(length, _SMALLEST_NORM)


def _histogram(rows: tf.Tensor, kernel: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Shares of 16 bins, float32 (n, 16); each value counts for the bins around it by `kernel`, so that gradients exist."""
    width = 2 * _REACH / (_BINS - 1)
    place = (tf.clip_by_value(rows, -_REACH, _REACH) + _REACH) / width
    shares = [tf.reduce_mean(kernel(place - centre), axis=1) for centre in range(_BINS)]
    return (1 - _EVENLY) * tf.stack(shares, axis=1) + _EVENLY / _BINS


def _divergence(p: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """Each bin's p log(p / q) - p + q, as (p - q) t + 2p (artanh t - t) with t = (p - q) / (p + q).

    Where p is close to q the terms of the first form cancel, and what is left is the rounding of the runtime.
    """
    t = (p - q) / (p + q)
    is_close = tf.cast(tf.abs(t) < _CLOSE, tf.float32)
    series = t**3 * (1 / 3 + t**2 / 5 + t**4 / 7)
    return (p - q) * t + 2 * p * (is_close * series + (1 - is_close) * (0.5 * tf.math.log(p / q) - t))


def _triangle(distance: tf.Tensor) -> tf.Tensor:
    """1 - |distance| where that is positive, else 0."""
    return _positive(1 - tf.abs(distance))


def _bell(distance: tf.Tensor) -> tf.Tensor:
    """The quadratic B-spline: 3/4 at 0, 1/8 at 1, 0 from 3/2 on; it has no corner."""
    magnitude = tf.abs(distance)
    return 0.5 * tf.square(_positive(1.5 - magnitude)) - 1.5 * tf.square(_positive(0.5 - magnitude))


def _positive(value: tf.Tensor) -> tf.Tensor:
    """What is positive, else 0; without ReLU, whose gradient LiteRT lacks."""
    return value * tf.cast(value > 0, tf.float32)
