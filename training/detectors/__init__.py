"""The detectors, by name. A new one is a class that keeps this protocol and an entry in `DETECTORS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from monitor.errors import ConfigError
from training.detectors.alocc import ALOCC
from training.detectors.anogan import AnoGAN
from training.detectors.autoencoder import Autoencoder
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.ganomaly import GANomaly
from training.detectors.options import DetectorOptions
from training.detectors.vae import VAE
from training.trainer import LabelledRows, Progress, TrainingHistory


class Detector(Protocol):
    """Learns from rows that are taken as normal and gives each row a score, higher = more anomalous.

    Attributes:
        name: key in `DETECTORS`, also in settings and bundles.
        options_type: what its options are made of; has the preset `default` and, where a paper gives one, `paper`.
        n_features: width of X.
        options: those it was made with.
        serving_rows: rows that one call of the exported detector takes; None for any number.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[DetectorOptions]]
    n_features: int
    options: Any
    serving_rows: int | None

    def __init__(self, n_features: int, options: Any, seed: int, cells: NDArray[np.intp] | None = None) -> None: ...

    @property
    def networks(self) -> tuple[keras.layers.Layer, ...]:
        """All that an export has to track."""
        ...

    def fit(
        self,
        X: NDArray[np.float32],
        *,
        validation: LabelledRows | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> TrainingHistory:
        """Trains anew on X: float32 (n, n_features), transformed, finite."""
        ...

    def score(self, X: tf.Tensor) -> tf.Tensor:
        """X float32 (n, n_features) → float32 (n,); a row's score depends on that row alone."""
        ...

    def explain(self, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """X float32 (n, n_features) → reconstruction and non-negative residual, float32 (n, n_features) each."""
        ...


DETECTORS: Mapping[str, type[Detector]] = MappingProxyType(
    {detector.name: detector for detector in (ALOCC, AnoGAN, Autoencoder, EfficientGAN, GANomaly, VAE)}
)


def find_detector(name: str) -> type[Detector]:
    """The detector of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in DETECTORS:
        raise ConfigError("detector", f"expected one of {', '.join(sorted(DETECTORS))}, got {name!r}")
    return DETECTORS[name]
