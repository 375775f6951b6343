"""Rows and plain-numpy networks that the tests of the detectors compare with."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from training.detectors.alocc import ALOCC


def make_correlated_rows(n: int, rng: np.random.Generator) -> np.ndarray:
    """Six columns that follow two hidden ones: float32 (n, 6), about standardised."""
    hidden = rng.uniform(-1, 1, (n, 2))
    columns = [
        hidden[:, 0],
        hidden[:, 1],
        hidden.sum(1),
        hidden[:, 0] - hidden[:, 1],
        hidden[:, 0] ** 2,
        np.sin(3 * hidden[:, 1]),
    ]
    X = np.column_stack(columns).astype(np.float32)
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    return X


def break_relations(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each column keeps its values, in another order: only the relations between columns are gone."""
    return np.column_stack([rng.permutation(column) for column in X.T])


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Kernels and biases, in order."""
    return [weight.numpy() for weight in model.trainable_weights]


def run_mlp(weights: list[np.ndarray], rows: np.ndarray, slope: float) -> np.ndarray:
    """Dense layers in plain numpy; `slope` of the leaky rectifier between them, 0 for ReLU."""
    for place in range(0, len(weights), 2):
        rows = rows @ weights[place] + weights[place + 1]
        if place + 2 < len(weights):
            rows = np.where(rows > 0, rows, slope * rows)
    return rows


def run_discriminator(weights: list[np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logit (n,) and features (n, width) of a discriminator of rows."""
    features = run_mlp(weights[:-2], rows, slope=0.1)
    features = np.where(features > 0, features, 0.1 * features)
    return (features @ weights[-2] + weights[-1])[:, 0], features


def break_rows(detector: ALOCC, X: np.ndarray) -> np.ndarray:
    """What the discriminator of an ALOCC is shown as broken, before R sees it; float32 (n, d)."""
    networks = detector.members[0].networks
    training = detector.make_training(
        networks,
        networks,
        X,
        samplers=(None, None),
        options=detector.options,
        steps=1,
        rng=np.random.default_rng(0),
    )
    return np.asarray(training._break(tf.constant(X), tf.constant(0)))
