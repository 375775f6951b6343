"""KDD99 and the authors' split, on the real file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitor.errors import ConfigError
from training.datasets import (
    KDD99_FIELDS,
    kdd99_schema,
    load_kdd99,
    measure_detection,
    split_kdd99,
    to_feature_frame,
)
from training.preprocessing import fit_preprocessor


@pytest.fixture(scope="module")
def kdd99() -> pd.DataFrame:
    folder = os.environ.get("GANWATCH_DATA")
    if folder is None or not (Path(folder) / "kdd99").is_dir():
        reason = "needs KDD99: set GANWATCH_DATA to the folder that holds kdd99/kddcup.data_10_percent.gz"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return load_kdd99(folder)


def test_kdd99_has_the_published_rows_and_classes(kdd99: pd.DataFrame) -> None:
    assert kdd99.shape == (494_021, 42)
    assert (kdd99["label"] == "normal.").sum() == 97_278
    assert kdd99["service"].nunique() == 66
    assert kdd99["src_bytes"].max() == 693_375_640


def test_the_split_trains_on_attacks_alone_and_tests_on_the_other_half(kdd99: pd.DataFrame) -> None:
    split = split_kdd99(kdd99)
    labels = kdd99["label"].to_numpy()
    assert (labels[split.train] != "normal.").all()
    assert (labels[split.train_anomalies] == "normal.").all()
    np.testing.assert_array_equal(labels[split.test] == "normal.", split.y_test == 1)
    parts = np.concatenate([split.train, split.train_anomalies, split.test])
    assert sorted(parts) == list(range(494_021))


def test_the_split_is_that_of_pandas_sample_with_seed_42(kdd99: pd.DataFrame) -> None:
    split = split_kdd99(kdd99)
    half = kdd99.sample(frac=0.5, random_state=42).index
    assert set(half) == set(np.concatenate([split.train, split.train_anomalies]))
    assert len(split.train) == 198_361
    assert split.y_test.mean() == pytest.approx(0.1969, abs=5e-5)


def test_the_schema_gives_the_121_columns_of_the_paper_and_the_levels_for_unknown_values(kdd99: pd.DataFrame) -> None:
    schema = kdd99_schema()
    preprocessor = fit_preprocessor(to_feature_frame(kdd99, schema), schema)
    assert schema.feature_names == KDD99_FIELDS
    assert preprocessor.n_columns == 121 + 7


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere/kdd99/kddcup.data_10_percent.gz: no such file"):
        load_kdd99("nowhere")


def test_the_split_cuts_anomalies_to_a_fifth_of_the_test_rows() -> None:
    frame = pd.DataFrame({"label": np.repeat(["smurf.", "normal."], 500)})
    split = split_kdd99(frame)
    assert split.y_test.mean() == pytest.approx(0.2, abs=0.002)


def test_the_threshold_flags_the_share_that_the_protocol_assumes() -> None:
    score = np.arange(100.0)
    y = np.zeros(100, int)
    y[[99, 98, 97, 5]] = 1
    detection = measure_detection(score, y)
    assert detection.precision == pytest.approx(3 / 20)
    assert detection.recall == pytest.approx(3 / 4)
    assert detection.f1 == pytest.approx(2 * 3 / 24)


def test_scores_at_the_threshold_are_flagged() -> None:
    detection = measure_detection(np.array([0.0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1]), flagged=0.4)
    assert detection.f1 == 1.0
