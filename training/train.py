"""`ganwatch train`: from rows to a verified bundle in the registry. Read from top to bottom."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import tensorflow as tf
from numpy.typing import NDArray

from monitor import __version__
from monitor.model.bundle import FORMAT, Bundle, Manifest, load_bundle, write_bundle
from monitor.model.golden import Golden
from monitor.model.preprocess import Preprocessor
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.model.scorer import Scorer
from training.account import describe_data, describe_metrics
from training.calibrate import fit_calibration, score_frame
from training.detectors import find_detector
from training.export import export_scorer, verify_export
from training.history import History
from training.odd_features import find_odd_features
from training.preprocessing import fit_preprocessor, value_cells
from training.retrain_steps import Step
from training.split import Split, split_rows
from training.trainer import LabelledRows, Progress, TrainingHistory, use_one_thread_an_operation

GOLDEN_ROWS = 32
# Evaluations without improvement before a training with labels ends; there are thirty to fifty in all. The manifest keeps the
# option as it was given: a retraining, which has no labels, inherits what the manifest says.
LABELLED_PATIENCE = 10
VERIFIED_ROWS = 256


@dataclass(frozen=True)
class TrainingPlan:
    """What to train.

    Attributes:
        detector: name in the registry of detectors.
        preset: starting point of its options.
        options: options that differ from the preset.
        seed: of everything random.
    """

    detector: str = "efficient_gan"
    preset: str = "default"
    options: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class TrainedModel:
    """What training leaves behind.

    Attributes:
        bundle: as it was verified; its folder is in the registry.
        history: progress of the training.
        split: what each row was for.
        rows_per_day: of the stream, from its times; None where unknown.
        ignored: columns of the data that the schema does not name.
        absent: fields beside the features that the schema names, and the data lack.
    """

    bundle: Bundle
    history: TrainingHistory
    split: Split
    rows_per_day: float | None
    ignored: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def version(self) -> str:
        """Of the bundle in the registry."""
        return self.bundle.version

    @property
    def manifest(self) -> Manifest:
        """The bundle's own account."""
        return self.bundle.manifest


def train_model(
    history: History,
    schema: Schema,
    registry: Registry,
    plan: TrainingPlan,
    *,
    model: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    step: Step = lambda _name: nullcontext(),
    report: Callable[[Bundle, Split], object] = lambda _bundle, _split: None,
) -> TrainedModel:
    """Trains, exports, calibrates, verifies, publishes, reports and promotes.

    Args:
        history: the rows.
        schema: their schema.
        registry: where the bundle goes.
        plan: what to train.
        model: name in the registry; the schema's by default.
        on_progress: told where the training stands.
        step: opens the steps `train` and `calibrate`.
        report: writes the report of the published bundle; when it fails, the champion stays as it was.

    Raises:
        ConfigError: too few rows, or options that do not fit.
        BundleError: the exported network does not reproduce the trained one; nothing is published.
    """
    started = time.monotonic()
    # The detector starts a generator from the same seed: the two draw other things (an order of rows, seeds of weights).
    split = split_rows(history, np.random.default_rng(plan.seed))
    detector_type = find_detector(plan.detector)
    image = {} if schema.image_shape is None else {"image_shape": schema.image_shape}
    options = detector_type.options_type.preset(plan.preset, **{**image, **plan.options})
    patience = {"early_stop_num": LABELLED_PATIENCE} if len(split.validate) and options.early_stop_num is None else {}
    train_frame = history.frame[split.train]
    with step("train"):
        preprocessor = fit_preprocessor(train_frame, schema, scaling=options.scaling)
        odd = find_odd_features(preprocessor, train_frame, options.scaling)
        X = preprocessor.transform(train_frame).X
        detector = detector_type(
            preprocessor.n_columns, options.model_copy(update=patience), plan.seed, value_cells(preprocessor)
        )
        validation = _validation_rows(history, split, preprocessor)
        progress = detector.fit(X, validation=validation, on_progress=on_progress)
        trained_s = time.monotonic() - started
        scorer_tflite = export_scorer(detector, preprocessor.n_columns)
        scorer = Scorer(scorer_tflite, preprocessor.n_columns, source="scorer.tflite")
        difference = verify_export(detector, scorer, X[:VERIFIED_ROWS])
    with step("calibrate"):
        calibration = fit_calibration(score_frame(preprocessor, scorer, history.frame[split.calibrate]))
    manifest = Manifest(
        format=FORMAT,
        model=model or schema.name,
        detector=plan.detector,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        configuration={"preset": plan.preset, "seed": plan.seed, "options": options.model_dump(mode="json")},
        data=describe_data(history, split, odd),
        schema=schema.model_dump(mode="json"),
        schema_fingerprint=schema.fingerprint,
        metrics=describe_metrics(progress, calibration, difference, trained_s, len(X)),
        software={name: version(name) for name in ("tensorflow", "keras", "ai-edge-litert", "numpy", "polars")}
        | {"ganwatch": __version__},
        source_revision=None,
        files={},
    )
    golden = _golden(train_frame.head(GOLDEN_ROWS), preprocessor, scorer)
    contents = {
        "scorer.tflite": scorer_tflite,
        "preprocess.json": preprocessor.to_json(),
        "calibration.npz": calibration.to_npz(),
        "golden.npz": golden.to_npz(),
    }
    bundle = _publish(registry, manifest, contents, schema)
    report(bundle, split)
    reason = f"trained on {len(X)} rows of {history.source}"
    registry.promote(manifest.model, bundle.version, author="human", reason=reason)
    return TrainedModel(
        bundle=bundle,
        history=progress,
        split=split,
        rows_per_day=rows_per_day(history.times),
        ignored=history.ignored,
        absent=history.absent,
    )


def rows_per_day(times: NDArray[np.float64] | None) -> float | None:
    """Events a day, from their times; None where those are unknown or all equal."""
    if times is None or len(times) < 2 or times.max() <= times.min():
        return None
    return float((len(times) - 1) / (times.max() - times.min()) * 86_400)


def _validation_rows(history: History, split: Split, preprocessor: Preprocessor) -> LabelledRows | None:
    if history.labels is None or not len(split.validate):
        return None
    return LabelledRows(
        X=preprocessor.transform(history.frame[split.validate]).X, y=history.labels[split.validate].astype(np.int_)
    )


def _golden(frame: pl.DataFrame, preprocessor: Preprocessor, scorer: Scorer) -> Golden:
    X = preprocessor.transform(frame).X
    return Golden(records=tuple(as_records(frame)), X=X, raw_score=scorer.score(X))


def as_records(frame: pl.DataFrame) -> list[bytes]:
    """Rows as JSON records, dotted columns as nested objects, missing values left out."""
    records = []
    for row in frame.iter_rows(named=True):
        record: dict[str, Any] = {}
        for name, value in row.items():
            if value is None or value != value:  # noqa: PLR0124 - NaN
                continue
            *parents, leaf = name.split(".")
            node = record
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
        records.append(msgspec.json.encode(record))
    return records


def _publish(registry: Registry, manifest: Manifest, contents: Mapping[str, bytes], schema: Schema) -> Bundle:
    """Writes the bundle beside, verifies it as the daemon will, and only then publishes it."""
    with tempfile.TemporaryDirectory(prefix="ganwatch-bundle-") as folder:
        path = Path(folder) / "bundle"
        write_bundle(path, manifest, contents)
        bundle = load_bundle(path, expected_schema=schema)
        registry.publish(path)
        return bundle


def find_devices() -> None:
    """Lets TensorFlow look for its devices, one thread an operation unless it runs already."""
    with suppress(RuntimeError):
        use_one_thread_an_operation()
    tf.config.list_logical_devices()
