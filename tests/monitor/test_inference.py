"""Schema inference: what each kind of column is taken for, and a TOML file that says why and loads again."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.model.features_toml import write_features_toml
from monitor.model.findings import Finding
from monitor.model.inference import infer_schema
from monitor.model.json_records import frame_from_records
from monitor.model.schema import Schema
from monitor.model.tables import read_sample

N = 400
RNG = np.random.default_rng(7)
AMOUNTS = [round(float(v), 2) for v in RNG.lognormal(3, 1, N)]
START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = [START + timedelta(seconds=17 * row) for row in range(N)]
WORDS = ["order", "never", "arrived", "please", "refund", "the", "broken", "lamp", "twice", "charged"]


def texts(*values: str) -> list[str]:
    return [values[row % len(values)] for row in range(N)]


def finding_of(name: str, values: Iterable[object] | pl.Series, *, timezone: str | None = None) -> Finding:
    """The finding on one column beside a plain numeric one, which keeps the schema valid."""
    column = values if isinstance(values, pl.Series) else pl.Series(name, values)
    other = [float(v) for v in np.random.default_rng(1).normal(size=len(column))]
    inference = infer_schema(pl.DataFrame({name: column, "noise": pl.Series(other)}), "test", timezone=timezone)
    return inference.findings[0]


def verdict_of(name: str, values: Iterable[object] | pl.Series) -> str:
    return finding_of(name, values).verdict


@pytest.mark.parametrize(
    ("name", "values", "verdict"),
    [
        ("amount", AMOUNTS, "numeric"),
        ("bytes", [int(v * 1000) for v in AMOUNTS], "numeric"),
        ("rooms", [row % 4 for row in range(N)], "numeric"),
        ("logged_in", [row % 2 for row in range(N)], "numeric"),
        ("heat_index", [int(v) for v in RNG.integers(0, 10**9, N)], "numeric"),
        ("currency", texts("EUR", "USD", "CHF"), "categorical"),
        ("message", texts("payment declined by the bank", "payment taken by the bank"), "categorical"),
        ("mcc", [(5411, 5812, 4111)[row % 3] for row in range(N)], "categorical"),
        ("store_id", [row % 7 for row in range(N)], "categorical"),
        ("online", [row % 3 == 0 for row in range(N)], "boolean"),
        ("event_id", [f"e{v}" for v in RNG.permutation(10**6)[:N]], "id"),
        ("transactionId", [int(v) for v in RNG.permutation(10**6)[:N]], "id"),
        ("trace", [str(uuid.UUID(int=row * 99991)) for row in range(N)], "id"),
        ("hash", [f"{v:08x}" for v in RNG.permutation(10**6)[:N]], "id"),
        ("row", list(range(N)), "id"),
        ("card_id", [f"c{v}" for v in RNG.integers(0, 60, N)], "key"),
        ("userId", [int(v) for v in RNG.integers(0, 60, N)], "key"),
        ("host", [f"h{v}" for v in RNG.integers(0, 200, N)], "key"),
        ("uptime", [round(row / 3, 3) for row in range(N)], "counter"),
        ("visits", [row // 2 for row in range(N)], "counter"),
        ("at", [m.isoformat() for m in MOMENTS], "timestamp"),
        ("at", [m.strftime("%Y-%m-%dT%H:%M:%SZ") for m in MOMENTS], "timestamp"),
        ("when", [int(m.timestamp()) for m in MOMENTS], "timestamp"),
        ("ts", [int(m.timestamp() * 1000) for m in MOMENTS], "timestamp"),
        ("x", [int(m.timestamp()) for m in MOMENTS], "timestamp"),
        ("at", MOMENTS, "timestamp"),
        ("version", texts("1.4"), "constant"),
        ("version", [None, *texts("1.4")[1:]], "constant"),
        ("load", [0.0] * N, "constant"),
        ("live", [True] * N, "constant"),
        ("note", [" ".join(RNG.choice(WORDS, 7)) for _ in range(N)], "free_text"),
        ("spare", [None] * N, "empty"),
        ("spare", [float("nan")] * N, "empty"),
        ("items", [[1, 2]] * N, "constant"),
        ("items", [[1, row] for row in range(N)], "array"),
        ("image", [[[1.5, row], [2.0, 3.0]] for row in range(N - 1)] + [None], "array"),
        ("items", [[1] * (1 + row % 2) for row in range(N)], "unsupported"),
        ("items", [[1, None], *[[1, row] for row in range(N - 1)]], "unsupported"),
        ("items", [["a", "b"]] * N, "unsupported"),
        ("items", [[[[[1]]]]] * N, "unsupported"),
        ("price", [f"{v:.2f}" for v in AMOUNTS], "unsupported"),
        ("booked", [m.strftime("%d/%m/%Y %H:%M") for m in MOMENTS], "unsupported"),
        ("us", [int(m.timestamp() * 1e6) for m in MOMENTS], "unsupported"),
        ("gain", [float("inf"), *AMOUNTS[1:]], "unsupported"),
        ("at", [*[m.isoformat() for m in MOMENTS[1:]], "2026-13-01T00:00:00Z"], "unsupported"),
        ("at", [m.replace(tzinfo=None).isoformat() for m in MOMENTS], "ambiguous_time"),
        ("at", [m.replace(tzinfo=None) for m in MOMENTS], "ambiguous_time"),
        ("label", texts("normal.", "smurf.", "neptune."), "label"),
        ("class", texts("UP", "DOWN"), "label"),
        ("isFraud", [int(row % 50 == 0) for row in range(N)], "label"),
        ("y", [float(row % 50 == 0) for row in range(N)], "label"),
        ("y", AMOUNTS, "numeric"),
        ("fraud_score", AMOUNTS, "numeric"),
        ("", AMOUNTS, "bad_name"),
        (" b", AMOUNTS, "bad_name"),
        ("a..b", AMOUNTS, "bad_name"),
    ],
)
def test_a_column_is_taken_for_what_it_is(name: str, values: Iterable[object], verdict: str) -> None:
    assert verdict_of(name, values) == verdict


def test_ten_digit_account_numbers_are_no_time() -> None:
    assert verdict_of("account", [int(v) for v in RNG.integers(1_000_000_000, 4_000_000_000, N)]) == "numeric"


def test_milliseconds_are_a_time_even_in_a_handful_of_rows_without_a_telling_name() -> None:
    assert verdict_of("ms", [int(m.timestamp() * 1000) for m in MOMENTS[:3]]) == "timestamp"
    assert verdict_of("s", [int(m.timestamp()) for m in MOMENTS[:3]]) == "numeric"


def test_the_largest_numbers_have_a_median() -> None:
    assert "median 1e+308" in finding_of("load", [1e308, 1.7e308, 1e308, 1.7e308]).reason


def test_a_reason_tells_range_median_and_the_most_frequent_value() -> None:
    assert finding_of("load", [0, 0, 0, 0, 8, 2]).reason == "0 … 8, median 0; 0 in 66.7 % of the rows"


def test_a_reason_tells_the_most_frequent_categories_first() -> None:
    assert finding_of("kind", ["b", "a", "b", "c"] * 10).reason == "3 values: 'b' 50 %, 'a' 25 %, 'c' 25 %"


def test_the_reason_of_ids_keys_and_free_text_holds_none_of_their_values() -> None:
    for name, values in (
        ("event_id", [f"secret{row}" for row in range(N)]),
        ("user", [f"secret{row % 150}" for row in range(N)]),
        ("note", [f"secret words of the user number {row}" for row in range(N)]),
    ):
        assert "secret" not in finding_of(name, values).reason


def test_stamps_without_a_zone_are_adopted_when_their_zone_is_given() -> None:
    frame = pl.DataFrame({"at": [m.replace(tzinfo=None).isoformat() for m in MOMENTS], "amount": AMOUNTS})
    schema = infer_schema(frame, "pay", timezone="Europe/Berlin").schema
    assert schema.timestamp is not None
    assert schema.timestamp.model_dump() == {"field": "at", "format": "iso8601", "timezone": "Europe/Berlin"}
    without = infer_schema(frame, "pay")
    assert without.schema.timestamp is None
    assert "--timezone" in without.findings[0].reason


def test_stamps_with_a_zone_need_none_from_the_user() -> None:
    frame = pl.DataFrame({"at": [m.isoformat() for m in MOMENTS], "amount": AMOUNTS})
    timestamp = infer_schema(frame, "pay", timezone="Asia/Tokyo").schema.timestamp
    assert timestamp is not None
    assert timestamp.timezone is None


def test_a_mixture_of_stamps_with_and_without_a_zone_is_refused_even_when_a_zone_is_given() -> None:
    stamps = [m.isoformat() if row % 4 else m.replace(tzinfo=None).isoformat() for row, m in enumerate(MOMENTS)]
    finding = finding_of("at", stamps, timezone="Europe/Berlin")
    assert finding.verdict == "ambiguous_time"
    assert finding.reason.startswith("75 % of the stamps carry a time zone")


@pytest.mark.parametrize(("scale", "stamp"), [(1, "epoch_s"), (1000, "epoch_ms")])
def test_the_unit_of_a_time_since_1970_is_recognised(scale: int, stamp: str) -> None:
    finding = finding_of("ts", [int(m.timestamp() * scale) for m in MOMENTS])
    assert finding.stamp == stamp
    assert "2026-01-01 00:00:00" in finding.reason


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown time zone 'Berlin'"):
        infer_schema(pl.DataFrame({"amount": AMOUNTS}), "pay", timezone="Berlin")


def test_the_column_named_accordingly_becomes_id_key_and_time() -> None:
    frame = pl.DataFrame(
        {
            "hash": [f"{v:08x}" for v in RNG.permutation(10**6)[:N]],
            "order_id": [f"o{row}" for row in range(N)],
            "city": [f"town {v}" for v in RNG.integers(0, 130, N)],
            "card": [f"c{v}" for v in RNG.integers(0, 130, N)],
            "updated": [m.isoformat() for m in MOMENTS],
            "timestamp": [m.isoformat() for m in MOMENTS],
            "amount": AMOUNTS,
        }
    )
    schema = infer_schema(frame, "pay").schema
    assert (schema.id, schema.key, schema.timestamp and schema.timestamp.field) == ("order_id", "card", "timestamp")
    assert schema.feature_names == ("amount",)


def test_a_field_that_is_an_object_in_some_records_only_gives_way_to_its_parts() -> None:
    records = [b'{"card": {"age": %d}, "n": %d}' % (row % 9, row % 5) for row in range(50)] + [b'{"card": 5, "n": 1}']
    inference = infer_schema(frame_from_records(records), "pay")
    assert inference.schema.feature_names == ("card.age", "n")
    found = {finding.column: finding for finding in inference.findings}
    assert found["card"].verdict == "unsupported"
    assert found["card.age"].reason.endswith("'card' is a plain value in 1 row, which will be refused")


def test_arrays_of_several_shapes_are_left_out_with_the_number_of_each() -> None:
    column = frame_from_records([b'{"v": [1, 2, 3]}'] * 39 + [b'{"v": [1, 2]}'])["v"]
    finding = finding_of("v", column)
    assert finding.verdict == "unsupported"
    assert "3 (39 rows), 2 (1 row); repair such rows" in finding.reason
    deep = frame_from_records([b'{"v": ' + b"[" * 300 + b"]" * 300 + b"}"] * 3)["v"]
    assert deep.dtype == pl.Object
    assert "over 3 dimensions (3 rows)" in finding_of("v", deep).reason
    assert "2 x 2 (1 row), 0 (1 row)" in finding_of("v", pl.Series([[[1, 2], [3]], []], dtype=pl.Object)).reason


def test_text_numbers_and_booleans_in_one_field_are_categories_but_fractions_among_them_are_not() -> None:
    mixed = frame_from_records([b'{"v": 1}', b'{"v": "x"}', b'{"v": true}'] * 30)["v"]
    finding = finding_of("v", mixed)
    assert (finding.verdict, finding.kind) == ("categorical", "categorical")
    assert "'true' 33.3 %" in finding.reason
    assert verdict_of("v", frame_from_records([b'{"v": 1.5}', b'{"v": "x"}'] * 30)["v"]) == "unsupported"


def test_one_row_is_enough_and_the_file_says_that_it_is_little() -> None:
    inference = infer_schema(frame_from_records([b'{"amount": 3, "country": "DE", "online": true}']), "pay")
    assert [(f.name, f.kind) for f in inference.schema.features] == [
        ("amount", "numeric"), ("country", "categorical"), ("online", "boolean"),
    ]  # fmt: skip
    assert inference.is_weak
    assert "So few rows make weak verdicts" in write_features_toml(inference, "pay.jsonl")
    assert "weak verdicts" not in write_features_toml(infer_schema(pl.DataFrame({"v": AMOUNTS}), "pay"), "pay.jsonl")


def test_skipped_records_are_told() -> None:
    records = [b'{"amount": 3}'] * 988 + [b"oops"] * 12
    frame = frame_from_records(records)
    inference = infer_schema(
        frame.with_columns(v=pl.int_range(pl.len()).shuffle(1) * 0.5), "pay", n_skipped=len(records) - frame.height
    )
    assert "# 12 of 1000 records are not JSON objects and were skipped." in write_features_toml(inference, "payments")


def test_a_sample_without_any_feature_is_refused_with_the_reason_for_each_column() -> None:
    with pytest.raises(ConfigError) as caught:
        infer_schema(pl.DataFrame({"version": ["1.4"] * N, "spare": [None] * N}), "pay")
    assert caught.value.problems == (
        "no column of 400 rows can be a feature; give rows in which a column that is no id, key, time or label takes several values, "
        "or write the schema by hand",
        "'version' is no feature: always '1.4' in all 400 rows",
        "'spare' is no feature: no value in 400 rows",
    )


def test_a_sample_without_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of 2 records is a JSON object"):
        infer_schema(frame_from_records([b"oops", None]), "pay", n_skipped=2)


def test_the_share_of_missing_values_is_told_and_they_are_imputed() -> None:
    inference = infer_schema(pl.DataFrame({"v": [None, *AMOUNTS[1:101], None, None, None]}), "pay")
    text = write_features_toml(inference, "pay.csv")
    assert "; 3.85 % missing\n" in text
    assert '{ name = "v", kind = "numeric", missing = "impute" },' in text


def test_what_was_left_out_becomes_a_feature_by_removing_the_comment_sign(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"amount": AMOUNTS, "version": texts("1.4"), "label": texts("0", "1"), "items": [[1], [1, 2]] * (N // 2)}
    )
    text = write_features_toml(infer_schema(frame, "pay"), "pay.parquet")
    assert '# "items": not supported: arrays that differ in shape' in text
    path = tmp_path / "features.toml"
    path.write_text(re.sub(r"^  # \{", "  {", text, flags=re.MULTILINE), encoding="utf-8")
    assert Schema.load(path).feature_names == ("amount", "version", "label")


NAMES = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ['a"b', "a\\b", "a b", "ä.ö", "a\nb", "a\x00b", "#", "'", "a.b", "a\u2028b"]
)


COLUMNS = st.sampled_from(
    [
        AMOUNTS,
        [*AMOUNTS[1:], None],
        texts("x\ny", 'q"', "\\"),
        [row % 2 == 0 for row in range(N)],
        [m.isoformat() for m in MOMENTS],
        [f"k{row}" for row in range(N)],
        [None] * N,
    ]
)


@settings(max_examples=150, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=6, unique=True), data=st.data())
def test_the_file_loads_again_as_the_same_schema_whatever_the_columns_are_called(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    frame = pl.DataFrame({**{name: data.draw(COLUMNS) for name in names}, "plain feature": AMOUNTS})
    inference = infer_schema(frame, "odd", timezone="Europe/Paris")
    path = tmp_path_factory.mktemp("toml") / "features.toml"
    path.write_text(write_features_toml(inference, 'a "file"\nwith \\ in it.csv'), encoding="utf-8")
    assert Schema.load(path) == inference.schema


@pytest.fixture
def elec2() -> Path:
    folder = os.environ.get("GANWATCH_DATA")
    path = Path(folder or "", "elec2", "elec.csv.gz")
    if not path.is_file():
        missing = f"the set elec2 is absent: {path} (GANWATCH_DATA)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def test_on_real_data_features_are_kept_and_the_label_is_left_out(elec2: Path) -> None:
    inference = infer_schema(read_sample(elec2, 100_000), "elec2")
    assert inference.n_rows == 45_312
    assert inference.schema.feature_names == ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    assert [finding.column for finding in inference.findings if finding.verdict == "label"] == ["class"]
