"""Challengers without TensorFlow: the committed network, calibrated on new rows, sound or spoiled on purpose."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from monitor.model.bundle import FILES, Bundle, load_bundle, write_bundle
from monitor.model.fitted_columns import NumericColumn
from monitor.model.golden import Golden
from monitor.model.preprocess import Preprocessor
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.model.scorer import Scorer
from tests import machines
from training.calibrate import fit_calibration
from training.history import History

_NETWORK = "scorer.tflite"


def committed() -> Bundle:
    """The model of `tests.machines`."""
    registry = Registry(str(machines.REGISTRY))
    return registry.load("machines", registry.champion("machines"))


def blinded(preprocessor: Preprocessor, *features: str) -> Preprocessor:
    """The same transform, but some numbers hardly count any more, as if it had learned that they are always odd."""
    columns = tuple(
        msgspec.structs.replace(column, sd=column.sd * 1e6)
        if isinstance(column, NumericColumn) and column.feature in features
        else column
        for column in preprocessor.columns
    )
    return msgspec.structs.replace(preprocessor, columns=columns)


def calibrated(history: History, folder: Path, *blind: str, schema: Schema = machines.SCHEMA) -> Path:
    """Writes a bundle into a new folder: calibrated on the newest 30 % of the rows, blind to some features."""
    source = committed()
    preprocessor = blinded(source.preprocessor, *blind)
    content = (source.path / _NETWORK).read_bytes()
    scorer = Scorer(content, preprocessor.n_columns, source=_NETWORK)
    rows = history.frame.tail(round(0.3 * history.frame.height))
    golden = history.frame.head(8)
    X = preprocessor.transform(golden).X
    manifest = msgspec.structs.replace(
        source.manifest,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        schema=schema.model_dump(mode="json"),
        schema_fingerprint=schema.fingerprint,
        data=source.manifest.data | {"source": history.source, "rows": history.frame.height},
    )
    contents = {
        _NETWORK: content,
        "preprocess.json": preprocessor.to_json(),
        "calibration.npz": fit_calibration(scorer.score(preprocessor.transform(rows).X)).to_npz(),
        "golden.npz": Golden(tuple(machines.as_json(golden)), X, scorer.score(X)).to_npz(),
    }
    write_bundle(folder, manifest, contents)
    return folder


def as_bundle(frame: pl.DataFrame, folder: Path, *blind: str) -> Bundle:
    """The same from plain rows, loaded."""
    history = History(frame=frame, source="tests", times=None)
    return load_bundle(calibrated(history, folder, *blind), expected_schema=machines.SCHEMA)


def touchy(history: History, folder: Path) -> Path:
    """Writes a bundle that takes most records for anomalies: its calibration knows only a third of each score."""
    sound = calibrated(history, folder.with_name(f"{folder.name}-sound"))
    bundle = load_bundle(sound)
    contents = {name: (sound / name).read_bytes() for name in FILES}
    contents["calibration.npz"] = fit_calibration(bundle.calibration.scores / 3).to_npz()
    write_bundle(folder, bundle.manifest, contents)
    return folder
