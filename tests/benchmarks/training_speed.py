"""Rows per second of our training against the usual Keras loop, with the same networks and data in one process.

The usual loop makes two `predict` and four `train_on_batch` calls a step. Both sides are warmed up, so that nobody's
tracing is measured, and take turns; the medians are compared. Exits with 1 when the ratio is below the goal.

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
from numpy.typing import NDArray

from training.detectors.adversarial import AdversarialTraining, Networks
from training.detectors.efficient_gan import choose_latent_dim
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.networks import dense_encoder, dense_generator, joint_discriminator
from training.sampling import DistinctRowSampler
from training.trainer import STEPS_PER_CALL, use_one_thread_an_operation

GOAL = 30.0
N_ROWS, N_FEATURES = 20_000, 121
NAIVE_STEPS, OUR_STEPS = 20, 500


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


def make_our_loop(options: EfficientGANOptions, X: NDArray[np.float32], planned: int) -> Callable[[int], None]:
    """What `EfficientGAN.fit` runs, without its calibration."""
    rng = np.random.default_rng(0)
    sampler = DistinctRowSampler(X, options.batch_size, rng)
    training = AdversarialTraining(
        build_networks(options, 0),
        build_networks(options, 0),
        X,
        samplers=(sampler, sampler),
        options=options,
        steps=planned,
        rng=rng,
    )

    def run(steps: int) -> None:
        for first in range(0, steps, STEPS_PER_CALL):
            training.run_steps(first, STEPS_PER_CALL)

    return run


def measure_rate(run: Callable[[int], None], steps: int, batch_size: int) -> float:
    """Rows per second."""
    start = time.perf_counter()
    run(steps)
    return steps * batch_size / (time.perf_counter() - start)


def compare(preset: str, repetitions: int) -> dict[str, float]:
    """Median rates of both loops in rows per second, and their ratio."""
    options = EfficientGANOptions.preset(preset)
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES), dtype=np.float32)
    naive = NaiveLoop(build_networks(options, 1), options, X)
    ours = make_our_loop(options, X, OUR_STEPS * repetitions)
    naive.run(3)
    ours(STEPS_PER_CALL)
    rates = [
        (measure_rate(naive.run, NAIVE_STEPS, options.batch_size), measure_rate(ours, OUR_STEPS, options.batch_size))
        for _ in range(repetitions)
    ]
    naive_rate, our_rate = np.median(rates, axis=0)
    return {"batch_size": options.batch_size, "naive": naive_rate, "ours": our_rate, "ratio": our_rate / naive_rate}


def main() -> int:
    """Compares the networks and batch sizes of both presets; the goal is that of `default`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    use_one_thread_an_operation()  # for both sides: the usual loop gains a little by it, too
    print(f"{'preset':<10}{'batch':>8}{'naive rows/s':>16}{'our rows/s':>16}{'ratio':>8}")
    figures = {preset: compare(preset, arguments.repetitions) for preset in ("default", "paper")}
    for preset, row in figures.items():
        print(f"{preset:<10}{row['batch_size']:>8}{row['naive']:>16,.0f}{row['ours']:>16,.0f}{row['ratio']:>8.1f}")
    result = {
        "training_ratio": round(figures["default"]["ratio"], 1),
        "training_ratio_paper": round(figures["paper"]["ratio"], 1),
        "training_rows_per_s": round(figures["default"]["ours"]),
        "naive_rows_per_s": round(figures["default"]["naive"]),
        "goal": GOAL,
    }
    print(json.dumps(result))
    return 0 if result["training_ratio"] >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
