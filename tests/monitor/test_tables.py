"""Data files: the same values from CSV, Parquet and JSON lines, and one clear error for whatever is wrong with one."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.model.schema import Schema
from monitor.model.tables import read_features, read_sample

PAYMENTS = Schema.from_mapping(
    {
        "name": "payments",
        "features": [
            {"name": "amount", "kind": "numeric"},
            {"name": "card.country", "kind": "categorical"},
            {"name": "online", "kind": "boolean"},
        ],
    },
    "test",
)
NUMBERS = Schema.from_mapping({"name": "numbers", "features": [{"name": "v", "kind": "numeric"}]}, "test")
WORDS = Schema.from_mapping({"name": "words", "features": [{"name": "v", "kind": "categorical"}]}, "test")
FLAGS = Schema.from_mapping({"name": "flags", "features": [{"name": "v", "kind": "boolean"}]}, "test")


def written(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def problem_of(path: Path, schema: Schema = NUMBERS, **arguments: tuple[str, ...]) -> str:
    with pytest.raises(ConfigError) as caught:
        read_features(path, schema, **arguments)
    assert caught.value.where == str(path)
    return "; ".join(caught.value.problems)


def sample_problem_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_sample(path, 100)
    assert caught.value.where == str(path)
    return "; ".join(caught.value.problems)


@pytest.fixture(params=["p.csv", "p.csv.gz", "p.parquet", "p.jsonl", "p.ndjson.gz", "p.json"])
def payments(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three payments in every format: the second lacks all it may lack."""
    path = tmp_path / str(request.param)
    if ".csv" in path.name:
        return written(path, "when,label,amount,card.country,online\n5,0,1.5,DE,true\n6,1,,,\n7,0,20,FR,false\n")
    records = [
        {"when": 5, "label": 0, "amount": 1.5, "card": {"country": "DE"}, "online": True},
        {"when": 6, "label": 1, "amount": None, "card": None, "online": None},
        {"when": 7, "label": 0, "amount": 20, "card": {"country": "FR"}, "online": False},
    ]
    if path.suffix == ".parquet":
        pl.DataFrame(records, strict=False).write_parquet(path)
        return path
    return written(path, "\n".join(json.dumps(record) for record in records) + "\n")


def test_every_format_gives_the_features_in_schema_order_with_the_types_of_their_kinds(payments: Path) -> None:
    frame = read_features(payments, PAYMENTS)
    assert frame.schema == {"amount": pl.Float64, "card.country": pl.String, "online": pl.Boolean}
    assert frame.rows() == [(1.5, "DE", True), (None, None, None), (20.0, "FR", False)]


def test_every_format_gives_extra_columns_as_they_are(payments: Path) -> None:
    frame = read_features(payments, PAYMENTS, ["label", "when", "amount"])
    assert frame.columns == ["amount", "card.country", "online", "label", "when"]
    assert frame.select("label", "when").rows() == [(0, 5), (1, 6), (0, 7)]


def test_every_format_gives_the_same_sample(payments: Path) -> None:
    frame = read_sample(payments, 2)
    assert set(frame.columns) == {"when", "label", "amount", "card.country", "online"}
    assert frame.select("when", "amount", "card.country", "online").rows() == [
        (5, 1.5, "DE", True),
        (6, None, None, None),
    ]


def test_every_format_names_a_column_that_is_absent_and_one_that_is_close(payments: Path) -> None:
    schema = Schema.from_mapping({"name": "x", "features": [{"name": "amuont", "kind": "numeric"}]}, "test")
    assert "'amuont'" in problem_of(payments, schema)
    assert "'tag'" in problem_of(payments, PAYMENTS, extra_columns=("tag",))


def test_a_close_name_is_suggested_for_an_absent_column(tmp_path: Path) -> None:
    schema = Schema.from_mapping({"name": "x", "features": [{"name": "amuont", "kind": "numeric"}]}, "test")
    assert (
        problem_of(written(tmp_path / "a.csv", "amount,b\n1,2\n"), schema)
        == "no column 'amuont'; did you mean 'amount'?"
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_the_same_number_is_the_same_float64_in_all_formats(tmp_path: Path, numbers: list[float]) -> None:
    expected = [float(number) for number in numbers]
    csv = written(tmp_path / "n.csv", "v\n" + "\n".join(map(repr, numbers)))
    jsonl = written(tmp_path / "n.jsonl", "\n".join(f'{{"v": {number!r}}}' for number in numbers))
    parquet = tmp_path / "n.parquet"
    whole = all(isinstance(number, int) for number in numbers)
    pl.DataFrame({"v": numbers if whole else expected}, schema={"v": pl.Int64 if whole else pl.Float64}).write_parquet(
        parquet
    )
    for path in (csv, jsonl, parquet):
        assert read_features(path, NUMBERS)["v"].to_list() == expected


@pytest.mark.parametrize(
    "digits",
    ["0.1000000000000000055511151231257827021181583404541015625", "9007199254740993", "2.2250738585072011e-308"],
)
def test_numbers_between_two_float64_are_rounded_correctly(tmp_path: Path, digits: str) -> None:
    for path in (written(tmp_path / "n.csv", f"v\n{digits}\n"), written(tmp_path / "n.jsonl", f'{{"v": {digits}}}\n')):
        assert read_features(path, NUMBERS)["v"].to_list() == [float(digits)]


def test_whole_numbers_and_booleans_become_the_same_categories_in_all_formats(tmp_path: Path) -> None:
    files = [
        written(tmp_path / "n.csv", "v\n1\n12\n"),
        written(tmp_path / "n.jsonl", '{"v": 1}\n{"v": 12}\n'),
        tmp_path / "n.parquet",
    ]
    pl.DataFrame({"v": [1, 12]}).write_parquet(files[2])
    assert [read_features(file, WORDS)["v"].to_list() for file in files] == [["1", "12"]] * 3
    files = [
        written(tmp_path / "b.csv", "v\nTrue\nfalse\n"),
        written(tmp_path / "b.jsonl", '{"v": true}\n{"v": false}\n'),
        tmp_path / "b.parquet",
    ]
    pl.DataFrame({"v": [True, False]}).write_parquet(files[2])
    assert [read_features(file, WORDS)["v"].to_list() for file in files] == [["true", "false"]] * 3


def test_text_that_says_missing_is_missing_as_a_number_but_a_category_as_text(tmp_path: Path) -> None:
    path = written(tmp_path / "n.csv", "v\nNA\nnan\n \nnull\n2\n")
    assert read_features(path, NUMBERS)["v"].to_list() == [None, None, None, None, 2.0]
    assert read_features(path, WORDS)["v"].to_list() == ["NA", "nan", " ", "null", "2"]


def test_nan_in_parquet_is_missing(tmp_path: Path) -> None:
    pl.DataFrame({"v": [math.nan, 1.0]}).write_parquet(tmp_path / "n.parquet")
    assert read_features(tmp_path / "n.parquet", NUMBERS)["v"].to_list() == [None, 1.0]
    assert read_sample(tmp_path / "n.parquet", 9)["v"].to_list() == [None, 1.0]


def test_an_infinite_number_is_refused_with_its_column_and_row(tmp_path: Path) -> None:
    pl.DataFrame({"v": [1.0, -math.inf]}).write_parquet(tmp_path / "n.parquet")
    assert "column 'v', row 2: -inf is infinite" in problem_of(tmp_path / "n.parquet")
    assert "column 'v', row 2: inf is infinite" in problem_of(written(tmp_path / "n.csv", "v\n1\ninf\n"))
    assert "column 'v', row 1: inf is infinite" in problem_of(written(tmp_path / "m.csv", "v\n1e400\n"))
    assert "line 2" in problem_of(written(tmp_path / "n.jsonl", '{"v": 1}\n{"v": 1e400}\n'))


def test_text_in_a_numeric_column_is_named_with_its_row_and_the_fix(tmp_path: Path) -> None:
    told = "'oops' is not a number; write a number or leave it empty, or make it kind = 'categorical' in features.toml"
    assert problem_of(written(tmp_path / "n.csv", "v\n1\noops\n")) == f"column 'v', row 2: {told}"
    pl.DataFrame({"v": [None, "oops"]}).write_parquet(tmp_path / "n.parquet")
    assert problem_of(tmp_path / "n.parquet") == f"column 'v', row 2: {told}"
    in_json = problem_of(written(tmp_path / "n.jsonl", '{"v": 1}\n\n{"v": "oops"}\n'))
    assert in_json.startswith("line 3: field 'v' holds 'oops', but is numeric; write a number or leave it empty")


def test_a_value_that_is_not_alone_is_told_with_the_number_of_others(tmp_path: Path) -> None:
    problem = problem_of(written(tmp_path / "n.csv", "v\n1\nlow\nhigh\n2\nlow\n"))
    assert problem.startswith("column 'v', row 2 (2 more rows like it): 'low' is not a number; ")


def test_a_list_that_is_no_category_is_shown_as_it_is(tmp_path: Path) -> None:
    pl.DataFrame({"v": [["a", "b"], ["c"]]}).write_parquet(tmp_path / "n.parquet")
    problem = problem_of(tmp_path / "n.parquet", WORDS)
    assert problem.startswith("column 'v', row 1 (1 more row like it): ['a', 'b'] is not a category; ")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "[1, NaN]", "1e999"])
def test_numbers_that_json_has_not_are_refused_with_the_fix(tmp_path: Path, value: str) -> None:
    path = written(tmp_path / "n.jsonl", f'{{"v": 1}}\n{{"v": {value}}}\n')
    for problem in (sample_problem_of(path), problem_of(path)):
        assert problem.startswith("line 2 is not JSON: ")
        assert problem.endswith("write null where a number is missing")


def test_a_plain_value_where_the_schema_has_an_object_is_named(tmp_path: Path) -> None:
    schema = Schema.from_mapping({"name": "s", "features": [{"name": "m.q", "kind": "numeric"}]}, "tests")
    problem = problem_of(written(tmp_path / "n.jsonl", '{"m": {"q": 1}}\n{"m": 3}\n'), schema)
    fix = "make it an object, or leave it out of such records"
    assert problem == f"line 2: field 'm' holds 3, but the schema has 'm.q' in it; {fix}"


def test_problems_of_all_columns_are_reported_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", "amount,card.country,online\nx,DE,0\n")
    with pytest.raises(ConfigError) as caught:
        read_features(path, PAYMENTS)
    assert [problem.split(",")[0] for problem in caught.value.problems] == ["column 'amount'", "column 'online'"]


@pytest.mark.parametrize("value", ["1.5", "[1]", '{"a": 1}'])
def test_a_float_an_array_or_an_object_is_no_category_in_json(tmp_path: Path, value: str) -> None:
    assert "line 1: field 'v' holds" in problem_of(written(tmp_path / "n.jsonl", f'{{"v": {value}}}\n'), WORDS)


def test_a_float_column_is_no_category_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"v": [1.5]}).write_parquet(tmp_path / "n.parquet")
    assert "1.5 is not a category" in problem_of(tmp_path / "n.parquet", WORDS)


def test_zero_and_one_are_no_booleans_in_any_format(tmp_path: Path) -> None:
    pl.DataFrame({"v": [0, 1]}).write_parquet(tmp_path / "n.parquet")
    for path in (
        written(tmp_path / "n.csv", "v\n0\n1\n"),
        written(tmp_path / "n.jsonl", '{"v": 0}\n'),
        tmp_path / "n.parquet",
    ):
        assert "true, false or nothing" in problem_of(path, FLAGS)


def test_a_required_field_that_is_missing_is_an_error_that_names_column_row_and_remedy(tmp_path: Path) -> None:
    strict = Schema.from_mapping(
        {"name": "x", "features": [{"name": "v", "kind": "numeric", "missing": "reject"}]}, "test"
    )
    path = written(tmp_path / "n.jsonl", '{"v": 1}\n{"v": null}\n')
    problem = problem_of(path, strict)
    assert "column 'v' is missing in 1 rows, first in row 2" in problem
    assert "drop those rows or say 'impute'" in problem


def test_a_field_that_is_null_in_every_record_is_no_absent_field(tmp_path: Path) -> None:
    path = written(tmp_path / "n.jsonl", '{"v": null}\n{}\n')
    assert read_features(path, NUMBERS)["v"].to_list() == [None, None]


def test_more_lines_than_one_chunk_keep_their_order_and_their_numbers(tmp_path: Path) -> None:
    lines = [f'{{"v": {row}, "row": {row}}}' for row in range(40_000)]
    frame = read_features(written(tmp_path / "n.jsonl", "\n".join(lines)), NUMBERS, ["row"])
    assert frame["v"].to_list() == frame["row"].to_list() == list(range(40_000))
    lines[30_000] = '{"v": "x"}'
    assert "line 30001" in problem_of(written(tmp_path / "n.jsonl", "\n".join(lines)))


def test_nested_parquet_and_parquet_times_are_read(tmp_path: Path) -> None:
    stamp = datetime(2026, 1, 1, tzinfo=UTC)
    pl.DataFrame({"v": [1.0], "meta": [{"at": stamp, "in": {"k.l": 3}}]}).write_parquet(tmp_path / "n.parquet")
    assert read_features(tmp_path / "n.parquet", NUMBERS, ["meta.at"])["meta.at"].to_list() == [stamp]
    assert read_sample(tmp_path / "n.parquet", 5).columns == ["v", "meta.at", "meta.in.k..l"]


def test_a_column_without_a_name_keeps_none(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "t.csv", ",v\n1,2\n"),
        written(tmp_path / "t.jsonl", '{"": 1, "v": 2}\n'),
        tmp_path / "t.parquet",
    ]
    pl.DataFrame({"": [1], "v": [2]}).write_parquet(paths[2])
    assert [read_sample(path, 5).columns for path in paths] == [["", "v"]] * 3


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, "v\n" if name == "t.csv" else "\n")
    if name == "t.parquet":
        pl.DataFrame({"v": []}, schema={"v": pl.Float64}).write_parquet(path)
    assert problem_of(path) == sample_problem_of(path) == "holds no rows; at least one is needed"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[1]", "line 2 is a JSON array, not a JSON object"),
        ("{", "line 2 is not JSON"),
        ('{"v": NaN}', "line 2 is not JSON"),
        ('{"v": 1} {"v": 2}', "line 2 is not JSON"),
        ('{"v": "' + "[" * 90_000 + '"}', None),
        ('{"v": ' + "[" * 90_000 + "}", "line 2 is not JSON"),
    ],
)
def test_a_line_that_is_not_one_json_object_is_named(tmp_path: Path, line: str, told: str | None) -> None:
    path = written(tmp_path / "t.jsonl", f'{{"v": 1}}\n{line}\n')
    if told is None:
        assert read_sample(path, 5).height == 2
        return
    assert told in sample_problem_of(path)
    assert "line 2" in problem_of(path)


def test_missing_unknown_and_broken_files_are_refused(tmp_path: Path) -> None:
    assert "no such file" in sample_problem_of(tmp_path / "t.csv")
    assert "name one file" in sample_problem_of(tmp_path)
    assert "unknown format" in sample_problem_of(written(tmp_path / "t.xlsx", "x"))
    assert "not a sound Parquet file" in sample_problem_of(written(tmp_path / "t.parquet", b"PAR1 no PAR1"))
    for name, lines in {"t.csv.gz": "v\n" + "1\n" * 9, "t.jsonl.gz": '{"v": 1}\n' * 9}.items():
        (tmp_path / name).write_bytes(gzip.compress(lines.encode())[:-6])
        assert "end" in problem_of(tmp_path / name)
    (tmp_path / "u.csv.gz").write_bytes(b"v\n1\n")
    assert "cannot be read" in sample_problem_of(tmp_path / "u.csv.gz")


def test_a_parquet_column_that_is_there_both_flat_and_nested_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"v": [1.0], "s.x": [1], "s": [{"x": 2}]}).write_parquet(tmp_path / "n.parquet")
    assert "holds 's.x' twice" in sample_problem_of(tmp_path / "n.parquet")
