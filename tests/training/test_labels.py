"""Labels of rows: what means normal, what means anomaly, and which rows have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from monitor.errors import ConfigError
from training.labels import has_label, labels_of_no_row, list_labels, parse_labels, read_labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], [0, 1, 1]),
        ([0.0, 1.0, None], [0, 1, 0]),
        ([0.0, 1.0, float("nan")], [0, 1, 0]),
        ([False, True, None], [0, 1, 0]),
        (["normal.", "smurf.", "NORMAL", " normal ", "benign", "no", "yes"], [0, 1, 0, 0, 0, 0, 1]),
        (["0", "1", "0.0", "1.0", "false", "True"], [0, 1, 0, 1, 0, 1]),
    ],
)
def test_all_labels_that_do_not_mean_normal_mean_anomaly(values: list[Any], expected: list[int]) -> None:
    assert parse_labels(pl.Series(values)).tolist() == list(map(bool, expected))


@pytest.mark.parametrize(
    ("values", "anomaly", "expected"),
    [
        (["normal.", "smurf.", None], ["normal."], [1, 0, 0]),
        ([0.0, 1.0, 2.0], ["1"], [0, 1, 0]),
        ([0, 1, 2], ["1.0", "2"], [0, 1, 1]),
        ([True, False], ["FALSE"], [0, 1]),
        (["a", " B ", "c"], ["b", "x"], [0, 1, 0]),
    ],
)
def test_the_labels_that_are_named_mean_anomaly_whatever_the_column_s_type(
    values: list[Any], anomaly: list[str], expected: list[int]
) -> None:
    assert parse_labels(pl.Series(values), anomaly).tolist() == list(map(bool, expected))


def test_the_labels_of_a_file_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    pl.DataFrame({"load": [0.5] * 30, "label": [0] * 29 + [1]}).write_csv(path)
    assert parse_labels(read_labels(path, "label")).nonzero()[0].tolist() == [29]
    with pytest.raises(ConfigError, match=r"--label: .*f\.csv has no column 'fraud'; it has load, label"):
        read_labels(path, "fraud")


def test_rows_without_a_label_are_no_anomalies_even_where_0_means_one() -> None:
    assert parse_labels(pl.Series([0, None, 1]), ["0"]).tolist() == [True, False, False]


def test_words_and_numbers_may_be_mixed_but_lists_are_no_labels() -> None:
    mixed = pl.Series([0, "fraud", None, True], dtype=pl.Object)
    assert parse_labels(mixed).tolist() == [False, True, False, True]
    with pytest.raises(ConfigError, match="--label: column 'y' holds lists or objects"):
        parse_labels(pl.Series("y", [[1], [2]]))


def test_labels_of_no_row_are_found_in_any_spelling() -> None:
    assert labels_of_no_row(pl.Series([0.0, 1.0]), ["1", "2", " 3 "]) == ("2", " 3 ")


def test_rows_without_a_label_are_told_from_the_others() -> None:
    assert has_label(pl.Series(["a", None, " ", "0"])).tolist() == [True, False, False, True]
    assert has_label(pl.Series([0.0, None, float("nan")])).tolist() == [True, False, False]


def test_the_labels_are_listed_with_the_most_frequent_first() -> None:
    assert list_labels(pl.Series(["b", "A", " a ", None])) == "'a' (2 rows), 'b' (1 rows)"
    assert list_labels(pl.Series([None], dtype=pl.String)) == "all missing"
    assert list_labels(pl.Series(range(100))).endswith("'15' (1 rows), …")
