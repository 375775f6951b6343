"""Compiled training steps: what all detectors share. A detector adds its own losses in a subclass of `Training`.

The training data lies in memory as one tensor; a graph call makes many steps of all members of an ensemble. Networks
under training are separate from those that score: the latter are moving averages of the former.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.detectors.options import DetectorOptions
from training.sampling import RowSampler

_BETA_1, _BETA_2, _EPSILON = 0.5, 0.999, 1e-8
_AVERAGING_RAMP_STEPS = 9
# Rows on which the diversity of a generator is measured.
DIVERSITY_ROWS = 256


@dataclass(frozen=True)
class NetworkGroup:
    """The networks of one detector; a subclass names them as its fields."""

    @property
    def models(self) -> tuple[keras.Model, ...]:
        """All of them, in the order of the fields; one that is not needed is None and left out."""
        models = (getattr(self, place.name) for place in fields(self))
        return tuple(model for model in models if model is not None)

    @property
    def weights(self) -> list[tf.Variable]:
        """Trainable variables of all of them, in a fixed order."""
        return variables_of(*self.models)

    def assign(self, other: NetworkGroup) -> None:
        """Takes over the weights of a group of the same shape."""
        for own, new in zip(self.weights, other.weights, strict=True):
            own.assign(new)


def variables_of(*models: keras.Model) -> list[tf.Variable]:
    """Trainable variables of some networks."""
    return [weight.value for model in models for weight in model.trainable_weights]


class Adam:
    """Adam (Kingma & Ba 2015) with β1 = 0.5 by TensorFlow's fused kernel, one operation a variable."""

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self.variables = tuple(variables)
        self._first = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self._second = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor, step: tf.Tensor) -> None:
        """Makes update number `step` (int32, from 0) with this learning rate."""
        beta_1_power, beta_2_power = (tf.pow(beta, tf.cast(step + 1, tf.float32)) for beta in (_BETA_1, _BETA_2))
        for variable, first, second, gradient in zip(self.variables, self._first, self._second, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=learning_rate,
                beta1=_BETA_1,
                beta2=_BETA_2,
                epsilon=_EPSILON,
                grad=gradient,
            )


@dataclass(frozen=True)
class Clock:
    """Where a step stands, as tensors.

    Attributes:
        step: int32 (), from 0.
        decay: float32 (), factor of the learning rates.
        adversarial: float32 (), factor of the adversarial term.
        share: float32 (), weight of the newest value in the moving averages.
    """

    step: tf.Tensor
    decay: tf.Tensor
    adversarial: tf.Tensor
    share: tf.Tensor


class Training(ABC):
    """Trains one member on resident rows and keeps the moving averages of its weights.

    Attributes:
        losses: names of what `step` returns.
        first_evaluation: steps before the weights that score mean anything.
    """

    losses: ClassVar[tuple[str, ...]]
    first_evaluation = 0

    def __init__(
        self,
        networks: NetworkGroup,
        averages: NetworkGroup,
        X: NDArray[np.float32],
        *,
        samplers: tuple[RowSampler, RowSampler],
        options: DetectorOptions,
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        """Prepares a training of `steps` steps.

        Args:
            networks: what is trained.
            averages: receive the moving averages; start out equal to `networks`.
            X: float32 (n, d), the training rows.
            samplers: choose the rows of the two halves of a step.
            options: rates and coefficients.
            steps: planned length, for the schedules.
            rng: source of the noise's seed.
        """
        self.averages, self.options, self.steps = averages, options, steps
        self._trained, self._samplers = networks, samplers
        self._rows = tf.constant(X)
        self._noise_seed = int(rng.integers(2**31 - 1))

    @abstractmethod
    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """Makes one step in a graph: row numbers int32 (2, batch) → the named losses, float32 () each."""

    @abstractmethod
    def generate(self) -> tf.Tensor:
        """Float32 (m, d): what the generator makes of different inputs, with the averaged weights."""

    def draw(self, count: int) -> NDArray[np.int32]:
        """Row numbers of the next steps, int32 (count, 2, batch)."""
        return np.stack([sampler.draw(count) for sampler in self._samplers], axis=1)

    def average(self, clock: Clock) -> None:
        """Follows the weights with their moving averages; called after each step."""
        move_averages(self.averages.weights, self._trained.weights, clock.share)

    def _take(self, rows: tf.Tensor) -> tf.Tensor:
        """Row numbers int32 (batch,) → float32 (batch, d)."""
        return tf.gather(self._rows, rows)

    def _noise(self, shape: Sequence[int], step: tf.Tensor, use: int) -> tf.Tensor:
        """Z ~ N(0, I) of this shape; another one for each step and use (0 or 1)."""
        return tf.random.stateless_normal(shape, tf.stack([self._noise_seed, 2 * step + use]))

    def _some_rows(self) -> tf.Tensor:
        """Training rows from all over the data, float32 (m <= 256, d)."""
        n_rows = self._rows.shape[0]
        return tf.gather(self._rows, np.linspace(0, n_rows - 1, min(n_rows, DIVERSITY_ROWS)).astype(np.int32))


class Ensemble:
    """Trains members side by side: a graph call makes many steps of each."""

    def __init__(self, members: Sequence[Training]) -> None:
        """Compiles the steps of `members`, which share options and length."""
        self._members, self._options, self._steps = tuple(members), members[0].options, members[0].steps
        self._losses = members[0].losses
        schedule = tf.TensorSpec([None], tf.float32)
        rows = tf.TensorSpec([None, len(members), *members[0].draw(0).shape[1:]], tf.int32)
        signature = [tf.TensorSpec([None], tf.int32), rows, schedule, schedule, schedule]
        self._run = tf.function(self._make_steps, input_signature=signature)

    def run_steps(self, first: int, count: int) -> dict[str, float]:
        """Makes the steps `first … first + count - 1`; returns the mean of each loss."""
        rows = np.stack([member.draw(count) for member in self._members], axis=1)
        steps, options = np.arange(first, first + count), self._options
        ramp_steps = _AVERAGING_RAMP_STEPS if options.moving_average_ramp else 0
        warm_up = getattr(options, "warm_up", 0.0)
        losses = self._run(
            tf.constant(steps, tf.int32),
            tf.constant(rows),
            tf.constant(cosine_decay(steps, self._steps, options.final_learning_rate), tf.float32),
            tf.constant(linear_warm_up(steps, warm_up * self._steps), tf.float32),
            tf.constant(averaging_share(steps, options.moving_average, ramp_steps=ramp_steps), tf.float32),
        )
        return dict(zip(self._losses, map(float, losses.numpy()), strict=True))

    def _make_steps(
        self, steps: tf.Tensor, rows: tf.Tensor, decay: tf.Tensor, adversarial: tf.Tensor, averaging: tf.Tensor
    ) -> tf.Tensor:
        """Steps int32 (k,), rows int32 (k, members, 2, batch), three schedules float32 (k,) → mean losses float32 (l,)."""
        total = tf.zeros(len(self._losses))
        for i in tf.range(tf.shape(steps)[0]):
            total += self._step_members(rows[i], Clock(steps[i], decay[i], adversarial[i], averaging[i]))
        return total / tf.cast(tf.shape(steps)[0], tf.float32)

    def _step_members(self, rows: tf.Tensor, clock: Clock) -> tf.Tensor:
        """One step of each member → mean losses float32 (l,)."""
        losses = []
        for place, member in enumerate(self._members):
            losses.append(tf.stack(member.step(rows[place], clock)))
            member.average(clock)
        return tf.add_n(losses) / len(losses)


def cosine_decay(steps: NDArray[np.int_], planned: int, final: float) -> NDArray[np.float64]:
    """Factor of the learning rates: half a cosine from 1 at step 0 to `final` at step `planned`."""
    return final + (1 - final) * 0.5 * (1 + np.cos(np.pi * steps / planned))


def linear_warm_up(steps: NDArray[np.int_], length: float) -> NDArray[np.float64]:
    """Rises linearly to 1 over the first `length` steps; 1 throughout for length 0."""
    return np.minimum(1.0, (steps + 1) / max(1.0, length))


def averaging_share(steps: NDArray[np.int_], decay: float, *, ramp_steps: int) -> NDArray[np.float64]:
    """Weight of the newest value in a moving average: 1 - decay.

    With a ramp the decay is at most (1 + step) / (1 + ramp_steps + step), so that the first values are soon forgotten.
    """
    if not ramp_steps:
        return np.full(len(steps), 1 - decay)
    return 1 - np.minimum(decay, (1 + steps) / (1 + ramp_steps + steps))


def move_averages(averages: Sequence[tf.Variable], weights: Sequence[tf.Variable], share: tf.Tensor) -> None:
    """Average ← average - share · (average - weight), by the fused kernel of gradient descent."""
    for average, weight in zip(averages, weights, strict=True):
        tf.raw_ops.ResourceApplyGradientDescent(var=average.handle, alpha=share, delta=average - weight)


def cross_entropy(logits: tf.Tensor, label: float) -> tf.Tensor:
    """Mean binary cross-entropy of logits against one label."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), label), logits))
