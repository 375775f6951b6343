"""A training report for tests: the machines' committed network, with the manifest of a model that has seen everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from monitor.model.bundle import Bundle, load_bundle, read_files, write_bundle
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.settings import load_settings
from tests.challengers import committed
from tests.images import SHAPE, images, write
from tests.machines import SCHEMA, readings
from training.gate import Trial
from training.history import read_history
from training.report.evidence import Evidence, evidence_of_training, evidence_of_trial
from training.report.page import write_report
from training.suite import make_suite

COURSE = {
    "step": list(range(50, 1001, 50)),
    "losses": {name: [float(height / step) for step in range(1, 21)] for name, height in
               (("discriminator", 1.4), ("adversarial", 2.0), ("reconstruction", 0.8), ("latent", 1.1))},
    "evaluations": [[step, 1 - 20 / step] for step in range(100, 1001, 100)],
}  # fmt: skip
GATE = {
    "verdict": "refused",
    "champion": "20260101T000000Z-00000000",
    "anchor": None,
    "drift": False,
    "checks": [
        {"name": "alert rate on the last window", "limit": "0.01 to 0.04", "value": 0.0213, "verdict": "passed"},
        {"name": "AUROC on recent anomalies", "limit": "at least 0.6", "value": 0.5511, "verdict": "refused"},
    ],
}


def eventful_bundle(folder: Path, **changes: Any) -> Bundle:
    """The committed model, whose manifest tells of losses, evaluations, a new start and a refusal, or what it is told."""
    source = committed()
    metrics = source.manifest.metrics | {"best_step": 900, "steps": 1000, "course": COURSE, "gate": GATE}
    metrics |= {"restarts": ["training: loss 'latent' is nan after 50 steps; lower learning_rate"]} | changes
    manifest = msgspec.structs.replace(source.manifest, metrics=metrics)
    write_bundle(folder, manifest, read_files(source.path, source.manifest))
    return load_bundle(folder)


def evidence_of(bundle: Bundle, *, anomalies: int = 60) -> Evidence:
    """From fresh readings; no anomalies are labelled when `anomalies` is 0."""
    rng = np.random.default_rng(8)
    labelled = readings(200, seed=71, anomalies=anomalies) if anomalies else None
    labels = np.arange(200) >= 200 - anomalies if anomalies else None
    suite = make_suite(readings(100, seed=72), SCHEMA, rng)
    newest = readings(3000, seed=70)
    return evidence_of_trial(bundle, Trial(suite, newest, newest, suite, labelled, labels))


def full_page(folder: Path) -> str:
    """A page on which every part is there."""
    bundle = eventful_bundle(folder)
    return write_report(bundle, evidence_of(bundle), 0.001, ["12 of 8,000 records could not be read"]).decode()


def image_page(folder: Path) -> str:
    """The page of a model of images, trained for a moment; one row in six has a spot and is labelled."""
    from training.train import TrainingPlan, train_model

    rows, spotted = images(360, seed=1), np.arange(360) % 6 == 0
    rows[spotted, 1:4, 2:5] += 150
    write(folder / "rows.jsonl", rows.tolist())
    schema = Schema.from_mapping(
        {"name": "parts", "features": [{"name": "image", "kind": "array", "shape": list(SHAPE)}]}, "features.toml"
    )
    history = read_history(str(folder / "rows.jsonl"), schema, load_settings(None), max_rows=1000)
    history = replace(history, labels=spotted)
    options = {"steps": 300, "latent_dim": 2, "channels": [4], "early_stop_num": 50}
    registry = Registry(str(folder / "registry"))
    trained = train_model(history, schema, registry, TrainingPlan(options=options))
    return write_report(trained.bundle, evidence_of_training(trained.bundle, history, trained.split), 0.01).decode()
