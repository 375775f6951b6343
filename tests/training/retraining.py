"""A retraining of the machines without TensorFlow; as a script, one that kills itself at the step it is told.

`python -m tests.training.retraining REGISTRY SEED [STEP]`
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from monitor.logs import configure_logs
from monitor.model.registry import Registry
from tests import machines
from tests.challengers import calibrated
from training.history import History
from training.material import RetrainingData
from training.retrain import RetrainPlan, RetrainResult, retrain
from training.retrain_steps import Step

PLAN = RetrainPlan(model="machines", schema=machines.SCHEMA, target_alert_rate=0.02, lease_s=60.0)
STEPS = ("read", "validate", "split", "train", "calibrate", "evaluate", "report", "register", "gate", "promote")


def rows(n: int, seed: int) -> RetrainingData:
    """Readings, one a minute."""
    frame = machines.readings(n, seed=seed)
    return of_frame(frame)


def of_frame(frame: pl.DataFrame) -> RetrainingData:
    """The rows, one a minute."""
    times = 1.7e9 + 60.0 * np.arange(frame.height)
    return RetrainingData(History(frame=frame, source="readings", times=times))


def run(
    registry: Registry,
    seed: int,
    *,
    plan: RetrainPlan = PLAN,
    read: Callable[[], RetrainingData] | None = None,
    train: Callable[[History, Path], Path] = calibrated,
    on_step: Callable[[str], None] | None = None,
) -> RetrainResult:
    """One retraining on readings of that seed; its network is a committed one, so that there is only calibration to do."""

    def in_steps(history: History, folder: Path, step: Step) -> Path:
        with step("train"):
            pass
        with step("calibrate"):
            return train(history, folder)

    return retrain(registry, plan, read=read or (lambda: rows(4000, seed)), train=in_steps, on_step=on_step)


def assert_whole(registry: Registry) -> None:
    """Every version that can be seen loads, and the log leads to one of them."""
    versions = registry.versions("machines")
    for version in versions:
        assert registry.load("machines", version, expected_schema=machines.SCHEMA).version == version
    assert {entry.champion for entry in registry.promotions("machines")} <= set(versions)
    assert registry.champion("machines") in versions


def main() -> None:
    """Retrains, and dies by SIGKILL as soon as the step begins whose name is given."""
    url, seed, *deadly = sys.argv[1:]

    def die(step: str) -> None:
        if step in deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    configure_logs("info", "json")
    # A dead one's lease must not keep the tests waiting.
    print(run(Registry(url), int(seed), plan=replace(PLAN, lease_s=1.0), on_step=die).outcome)


if __name__ == "__main__":
    main()
