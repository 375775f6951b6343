"""Trains the challenger of a retraining: the champion's own configuration on new rows, in a registry of its own.

`train_model` promotes what it trains; in a folder that nobody watches this has no effect, and the gate decides on what is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.model.bundle import Manifest
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from training.detectors import find_detector
from training.history import History
from training.retrain_steps import Step
from training.train import TrainingPlan, train_model
from training.trainer import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChallengerPlan:
    """What differs from the champion.

    Attributes:
        detector: another one; the champion's by default.
        preset: of that one.
        options: options that differ.
        seed: of everything random; the champion's by default.
    """

    detector: str | None = None
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


def training_plan(champion: Manifest | None, changes: ChallengerPlan) -> TrainingPlan:
    """The champion's configuration with the changes; that of `ganwatch train` where there is no champion."""
    base = TrainingPlan()
    detector = changes.detector or (champion.detector if champion else base.detector)
    # Options of one detector mean nothing to another.
    kept = champion.configuration if champion and champion.detector == detector and changes.preset is None else {}
    options = _still_known(detector, kept.get("options", {}))
    if champion and options.get("image_shape") == _image_shape(champion):
        options.pop("image_shape", None)  # it came from the schema, which may be another one now
    return TrainingPlan(
        detector=detector,
        preset=changes.preset or kept.get("preset", base.preset),
        options=options | dict(changes.options),
        seed=kept.get("seed", base.seed) if changes.seed is None else changes.seed,
    )


def _still_known(detector: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that this version of the detector has; a champion may be older than it."""
    known = find_detector(detector).options_type.model_fields
    dropped = sorted(set(options) - set(known))
    if dropped:
        log.warning("options_dropped", extra={"detector": detector, "options": dropped})
    return {name: value for name, value in options.items() if name in known}


def _image_shape(champion: Manifest) -> list[int] | None:
    shape = Schema.from_mapping(champion.schema, "manifest.json").image_shape
    return None if shape is None else list(shape)


def train_challenger(
    history: History,
    folder: Path,
    *,
    schema: Schema,
    model: str,
    plan: TrainingPlan,
    step: Step,
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Trains, exports, calibrates and verifies, in the steps `train` and `calibrate`; gives the folder of the bundle."""
    staging = Registry(str(folder))
    trained = train_model(history, schema, staging, plan, model=model, on_progress=on_progress, step=step)
    return staging.fetch(model, trained.version)
