"""Rows per second of our training against the usual Keras loop, with the same networks and data in one process.

The usual loop makes two `predict` and four `train_on_batch` calls a step. Both sides are warmed up, so that nobody's
tracing is measured, and take turns; the medians are compared. What no loop can leave out are the matrix products of a step;
their time alone says how far the ratio could rise at most. Exits with 1 when the ratio is below the goal.

    python -m tests.benchmarks.training_speed
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.adversarial import AdversarialTraining, Networks
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.network_detector import choose_latent_dim
from training.detectors.networks import dense_encoder, dense_generator, joint_discriminator
from training.detectors.steps import Clock, Ensemble
from training.sampling import DistinctRowSampler
from training.trainer import STEPS_PER_CALL, use_one_thread_an_operation

GOAL = 100.0
N_ROWS, N_FEATURES = 20_000, 121
NAIVE_STEPS, OUR_STEPS = 20, 500
PRODUCT_STEPS = 10


class NaiveLoop:
    """The loop as it stands in tutorials; it reads its rows from numpy and crosses into Keras six times a step."""

    def __init__(self, networks: Networks, options: EfficientGANOptions, X: NDArray[np.float32]) -> None:
        self._networks, self._X, self._batch_size = networks, X, options.batch_size
        self._rng, self._latent_dim = np.random.default_rng(1), networks.generator.input_shape[1]
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        x, z = keras.Input((N_FEATURES,)), keras.Input(networks.generator.input_shape[1:])
        discriminator = keras.Model([x, z], networks.discriminator([x, z])[0])
        discriminator.compile(keras.optimizers.Adam(options.discriminator_learning_rate, beta_1=0.5), loss)
        networks.discriminator.trainable = False
        encoding = keras.Model(x, networks.discriminator([x, networks.encoder(x)])[0])
        encoding.compile(keras.optimizers.Adam(options.learning_rate, beta_1=0.5), loss)
        generating = keras.Model(z, networks.discriminator([networks.generator(z), z])[0])
        generating.compile(keras.optimizers.Adam(options.learning_rate, beta_1=0.5), loss)
        networks.discriminator.trainable = True
        self._discriminator, self._encoding, self._generating = discriminator, encoding, generating
        self._ones = np.ones((options.batch_size, 1), np.float32)

    def run(self, steps: int) -> None:
        """Makes that many steps."""
        zeros = np.zeros_like(self._ones)
        for _ in range(steps):
            x = self._X[self._rng.integers(len(self._X), size=self._batch_size)]
            z = self._rng.standard_normal((self._batch_size, self._latent_dim), dtype=np.float32)
            encoded = self._networks.encoder.predict(x, verbose=0)
            generated = self._networks.generator.predict(z, verbose=0)
            self._discriminator.train_on_batch([x, encoded], self._ones)
            self._discriminator.train_on_batch([generated, z], zeros)
            self._encoding.train_on_batch(x, zeros)
            self._generating.train_on_batch(z, self._ones)


def build_networks(options: EfficientGANOptions, seed: int) -> Networks:
    """The networks of the preset, for `N_FEATURES` columns."""
    rng, latent_dim = np.random.default_rng(seed), options.latent_dim or choose_latent_dim(N_FEATURES)
    return Networks(
        dense_encoder(N_FEATURES, latent_dim, options.encoder_widths, rng),
        dense_generator(N_FEATURES, latent_dim, options.generator_widths, rng),
        joint_discriminator(N_FEATURES, latent_dim, options.discriminator_width, options.dropout, rng),
    )


def make_training(options: EfficientGANOptions, X: NDArray[np.float32], planned: int) -> AdversarialTraining:
    """What `EfficientGAN.fit` runs, without its calibration."""
    rng = np.random.default_rng(0)
    sampler = DistinctRowSampler(X, options.batch_size, rng)
    return AdversarialTraining(
        build_networks(options, 0),
        build_networks(options, 0),
        X,
        samplers=(sampler, sampler),
        options=options,
        steps=planned,
        rng=rng,
    )


def run_training(member: Ensemble, steps: int) -> None:
    """Makes that many steps of an ensemble of one."""
    for first in range(0, steps, STEPS_PER_CALL):
        member.run_steps(first, STEPS_PER_CALL)


def make_products(training: AdversarialTraining, batch_size: int) -> Callable[[], None]:
    """The matrix products of `PRODUCT_STEPS` steps and nothing else, in the same threads."""
    rates = [tf.TensorSpec([], tf.float32)] * 3
    step = tf.function(lambda rows, number, *clock: training.step(rows, Clock(number, *clock)))
    traced = step.get_concrete_function(tf.TensorSpec([2, batch_size], tf.int32), tf.TensorSpec([], tf.int32), *rates)
    products = [op for op in traced.graph.get_operations() if op.type == "MatMul"] * PRODUCT_STEPS
    # Matrices of their own for each, and a value used of each: TensorFlow leaves out what is equal or of no use.
    operands = [[tf.random.normal(side.shape) for side in op.inputs] for op in products]
    transposed = [(op.get_attr("transpose_a"), op.get_attr("transpose_b")) for op in products]

    def multiply() -> tf.Tensor:
        return tf.add_n([tf.matmul(*sides, *how)[0, 0] for sides, how in zip(operands, transposed, strict=True)])

    compiled = tf.function(multiply)
    return lambda: compiled().numpy()


def measure_rate(run: Callable[[], None], rows: int) -> float:
    """Rows per second of what trains on that many."""
    start = time.perf_counter()
    run()
    return rows / (time.perf_counter() - start)


def compare(preset: str, repetitions: int) -> dict[str, float]:
    """Median rates of both loops in rows per second, their ratio, and what it would be if our steps were nothing but products."""
    options = EfficientGANOptions.preset(preset)
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES), dtype=np.float32)
    naive = NaiveLoop(build_networks(options, 1), options, X)
    training = make_training(options, X, OUR_STEPS * repetitions)
    ours, products = Ensemble((training,)), make_products(training, options.batch_size)
    naive.run(3)
    run_training(ours, STEPS_PER_CALL)
    products()
    runs: tuple[tuple[Callable[[], None], int], ...] = (
        (lambda: naive.run(NAIVE_STEPS), NAIVE_STEPS),
        (lambda: run_training(ours, OUR_STEPS), OUR_STEPS),
        (products, PRODUCT_STEPS),
    )
    rates = [[measure_rate(run, steps * options.batch_size) for run, steps in runs] for _ in range(repetitions)]
    naive_rate, our_rate, product_rate = np.median(rates, axis=0)
    return {
        "batch_size": options.batch_size,
        "naive": naive_rate,
        "ours": our_rate,
        "ratio": our_rate / naive_rate,
        "products_share": our_rate / product_rate,
        "limit": product_rate / naive_rate,
    }


def main() -> int:
    """Compares the networks and batch sizes of both presets; the goal is that of `default`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    use_one_thread_an_operation()  # for both sides: the usual loop gains a little by it, too
    figures = {preset: compare(preset, arguments.repetitions) for preset in ("default", "paper")}
    print(
        "| preset | batch | naive rows/s | our rows/s | ratio | matrix products' share of a step | ratio if there were nothing else |"
    )
    print("|---|---|---|---|---|---|---|")
    for preset, row in figures.items():
        print(
            f"| {preset} | {row['batch_size']} | {row['naive']:,.0f} | {row['ours']:,.0f} | {row['ratio']:.1f} "
            f"| {row['products_share']:.2f} | {row['limit']:.0f} |"
        )
    result = {
        "training_ratio": round(figures["default"]["ratio"], 1),
        "training_ratio_limit": round(figures["default"]["limit"], 1),
        "training_products_share": round(figures["default"]["products_share"], 2),
        "training_ratio_paper": round(figures["paper"]["ratio"], 1),
        "training_rows_per_s": round(figures["default"]["ours"]),
        "naive_rows_per_s": round(figures["default"]["naive"]),
        "goal": GOAL,
    }
    print(json.dumps(result))
    return 0 if result["training_ratio"] >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
