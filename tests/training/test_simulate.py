"""The simulated payments: honest data, records that the daemon can read, and a truth that matches the stream."""

import csv
import io
import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

from monitor.errors import ConfigError
from monitor.model.decode import Decoder
from monitor.model.schema import Schema
from monitor.model.tables import read_features
from training.fraud import FRAUDS
from training.payment_stream import (
    FEATURES_TOML,
    LabelledPayments,
    SimulationConfig,
    encode_records,
    payments_schema,
    simulate_day,
    simulate_payments,
)
from training.preprocessing import fit_preprocessor
from training.simulate import SimulateOptions, run_simulate

HONEST = SimulationConfig(seed=11, anomaly_share=0.0)
# Half fraud: enough of each kind to measure an AUROC to about 0.01.
HALF_FRAUD = SimulationConfig(seed=11, anomaly_share=0.5)


@pytest.fixture(scope="module")
def half_fraud() -> LabelledPayments:
    return simulate_payments(HALF_FRAUD, 24_000, first_day=100)


def single_feature_auroc(column: pl.Series, y: np.ndarray) -> float:
    """AUROC of one column by itself: numbers in the better direction, categories in the best order there is."""
    if column.dtype == pl.String:
        share = pl.DataFrame({"value": column, "y": y}).with_columns(share=pl.col("y").mean().over("value"))
        return float(roc_auc_score(y, share.get_column("share")))
    known = column.cast(pl.Float64)
    aurocs = [float(roc_auc_score(y, known.fill_null(missing))) for missing in (-1.0, known.median(), 1e9)]
    return max(max(auroc, 1.0 - auroc) for auroc in aurocs)


@pytest.mark.parametrize("kind", [*FRAUDS, "all kinds"])
def test_no_single_feature_gives_a_fraud_away(half_fraud: LabelledPayments, kind: str) -> None:
    rows = (half_fraud.label == 0) | (half_fraud.kind == kind) | (kind == "all kinds")
    assert half_fraud.label[rows].sum() > 2000
    aurocs = {
        name: single_feature_auroc(half_fraud.table.get_column(name).filter(pl.Series(rows)), half_fraud.label[rows])
        for name in payments_schema().feature_names
    }
    best = max(aurocs, key=aurocs.__getitem__)
    assert aurocs[best] <= 0.9, f"{best}: {aurocs[best]:.3f}"


def test_a_frauds_values_all_occur_in_honest_payments(half_fraud: LabelledPayments) -> None:
    honest = half_fraud.table.filter(pl.Series(half_fraud.label == 0))
    fraud = half_fraud.table.filter(pl.Series(half_fraud.label == 1))
    for feature in payments_schema().features:
        values = fraud.get_column(feature.name).drop_nulls()
        if feature.kind == "numeric":
            low, high = honest.get_column(feature.name).min(), honest.get_column(feature.name).max()
            # a little beyond the extremes of some twelve thousand rows is still plausible
            outside = (values < low).sum() + (values > high).sum()  # type: ignore[operator]
            assert outside <= 0.005 * len(values), feature.name
        else:
            assert set(values.unique()) <= set(honest.get_column(feature.name).unique()), feature.name


def test_an_autoencoder_trained_on_honest_payments_finds_the_frauds() -> None:
    """Broken relations show in the reconstruction; this checks the data, the detector of the product is not needed."""
    schema = payments_schema()
    train = simulate_payments(HONEST, 16_000)
    fresh = simulate_payments(HONEST, 8_000, first_day=50)
    frauds = simulate_payments(HALF_FRAUD, 8_000, first_day=60)
    preprocessor = fit_preprocessor(as_features(train.table), schema)
    X, X_fresh, X_frauds = (preprocessor.transform(as_features(part.table)).X for part in (train, fresh, frauds))
    widths = (128, 64, 20, 64, 128)
    network = MLPRegressor(hidden_layer_sizes=widths, max_iter=15, tol=0.0, batch_size=256, random_state=0)
    with threadpool_limits(1), pytest.warns(match="Maximum iterations"):  # threads would wait for each other
        network.fit(X, X)
    residual = [np.abs(part - network.predict(part)).sum(axis=1) for part in (X_fresh, X_frauds)]
    for kind in FRAUDS:
        y = np.r_[np.zeros(len(X_fresh)), np.ones((frauds.kind == kind).sum())]
        assert roc_auc_score(y, np.r_[residual[0], residual[1][frauds.kind == kind]]) > 0.9, kind


def as_features(table: pl.DataFrame) -> pl.DataFrame:
    numbers = payments_schema().of_kind("numeric")
    return table.select(payments_schema().feature_names).with_columns(pl.col(numbers).cast(pl.Float64))


def test_the_same_seed_gives_the_same_stream_and_another_seed_another_one() -> None:
    one, again = (simulate_payments(SimulationConfig(seed=3), 5000) for _ in range(2))
    assert encode_records(one.table) == encode_records(again.table)
    assert one.kind.tolist() == again.kind.tolist()
    assert encode_records(simulate_payments(SimulationConfig(seed=4), 5000).table) != encode_records(one.table)


def test_a_longer_stream_begins_with_the_shorter_one() -> None:
    config = SimulationConfig(seed=3, payments_per_day=500)
    assert simulate_payments(config, 1700).table[:900].equals(simulate_payments(config, 900).table)


def test_days_follow_each_other_without_a_gap() -> None:
    config = SimulationConfig(seed=3, payments_per_day=500)
    assert simulate_day(config, 2).table.equals(simulate_payments(config, 1500).table[1000:])
    assert simulate_payments(config, 500, first_day=2).table.equals(simulate_day(config, 2).table)


def test_each_kind_of_fraud_has_its_share() -> None:
    kinds = simulate_payments(SimulationConfig(anomaly_share=0.08), 40_000).kind.tolist()
    for kind in FRAUDS:
        assert kinds.count(kind) / 40_000 == pytest.approx(0.02, abs=0.003)


def test_an_honest_stream_holds_no_fraud() -> None:
    assert simulate_payments(HONEST, 4000).label.sum() == 0


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="anomaly_share"):
        SimulationConfig(anomaly_share=1.5)


def test_ids_are_unique_and_times_never_go_back() -> None:
    table = simulate_payments(SimulationConfig(payments_per_day=700), 3000).table
    assert table.get_column("payment_id").n_unique() == 3000
    stamps = [datetime.fromisoformat(text) for text in table.get_column("paid_at")]
    assert stamps == sorted(stamps)
    assert {stamp.utcoffset() for stamp in stamps} == {timedelta(hours=1)}
    assert [stamp.hour for stamp in stamps] == table.get_column("hour").to_list()


def test_records_are_nested_json_with_null_for_what_is_missing() -> None:
    table = simulate_payments(SimulationConfig(), 2000).table
    records = [json.loads(record) for record in encode_records(table)]
    assert records[0]["card"].keys() == {"country", "segment", "usual_amount", "limit"}
    assert [record["merchant"]["usual_amount"] for record in records] == table.get_column(
        "merchant.usual_amount"
    ).to_list()
    assert any(record["minutes_since_last"] is None for record in records)
    assert not {"label", "kind"} & set(records[0])


def test_every_record_can_be_decoded_by_the_stream_s_schema() -> None:
    payments = simulate_payments(SimulationConfig(anomaly_share=0.3), 3000)
    decoded = Decoder(payments_schema(), max_record_bytes=10_000).decode(encode_records(payments.table))
    assert decoded.invalid == ()
    assert decoded.frame.equals(as_features(payments.table))


def run(options: SimulateOptions) -> str:
    console = Console(file=io.StringIO(), width=200)
    run_simulate(options, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_and_its_schema_can_be_read_back(tmp_path, suffix: str) -> None:
    output, schema = tmp_path / f"payments{suffix}", tmp_path / "features.toml"
    simulation = SimulationConfig(payments_per_day=600)
    run(SimulateOptions(simulation=simulation, records=1000, output=output, schema=schema, label_column="label"))
    frame = read_features(output, Schema.load(schema), extra_columns=("label",))
    expected = simulate_payments(simulation, 1000)
    assert frame.drop("label").equals(as_features(expected.table))
    assert frame.get_column("label").cast(pl.Int64).to_list() == expected.label.tolist()


def test_the_truth_goes_to_a_file_of_its_own(tmp_path) -> None:
    labels = tmp_path / "labels.csv"
    simulation = SimulationConfig(payments_per_day=600, anomaly_share=0.1)
    line = run(SimulateOptions(simulation=simulation, records=1000, output=tmp_path / "p.csv", labels=labels))
    with labels.open() as file:
        rows = list(csv.DictReader(file))
    expected = simulate_payments(simulation, 1000)
    assert [int(row["sequence"]) for row in rows] == list(range(1000))
    assert [row["payment_id"] for row in rows] == expected.ids
    assert [row["kind"] for row in rows] == expected.kind.tolist()
    assert [int(row["label"]) for row in rows] == expected.label.tolist()
    assert f"1000 payments, {expected.label.sum()} of them fraudulent" in line


def test_contradicting_options_are_all_named(tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(SimulateOptions(records=0, rate=-1.0, output=tmp_path / "payments.txt"))
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="--labels FILE"):
        run(SimulateOptions(records=10, label_column="label"))
    with pytest.raises(ConfigError, match="--records"):
        run(SimulateOptions(output=tmp_path / "payments.csv"))


def test_a_file_in_a_missing_folder_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        run(SimulateOptions(records=10, output=tmp_path / "absent" / "payments.csv"))


def test_the_schema_text_is_the_schema() -> None:
    assert payments_schema().id == "payment_id"
    assert payments_schema().key == "card_id"
    assert FEATURES_TOML.count("kind =") == len(payments_schema().features) == 17
