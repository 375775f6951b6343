"""CSV files as text, and the line in which one is broken."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from monitor.errors import ConfigError
from monitor.model.columns import guess_type
from monitor.model.csv_files import read_text


def written(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def typed(path: Path) -> pl.DataFrame:
    frame = read_text(path)
    return frame.with_columns([guess_type(column) for column in frame])


def problem_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_text(path, columns=["v"])
    assert caught.value.where == str(path)
    return "; ".join(caught.value.problems)


def test_only_the_columns_asked_for_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "a,b,c\n1,2,\n3,4,5\n")
    assert read_text(path, columns=["b", "a", "z"], max_rows=1).to_dict(as_series=False) == {"a": ["1"], "b": ["2"]}


def test_csv_text_is_typed_by_all_of_its_values(tmp_path: Path) -> None:
    text = (
        "whole,real,code,flag,word,serial,none\n1,1,007,TRUE,a,12345678901234567890,\n-2,2.5,100,false,1,1,NA\n,,,,,,\n"
    )
    frame = typed(written(tmp_path / "t.csv", text))
    assert frame.schema == {
        "whole": pl.Int64, "real": pl.Float64, "code": pl.String, "flag": pl.Boolean, "word": pl.String,
        "serial": pl.String, "none": pl.String,
    }  # fmt: skip
    assert frame.row(0) == (1, 1.0, "007", True, "a", "12345678901234567890", None)


def test_csv_quotes_breaks_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", b'\xef\xbb\xbf"v","a ""b"""\r\n1,"x\r\ny, ""z"""\r\n2,w\r\n')
    frame = typed(path)
    assert frame.to_dict(as_series=False) == {"v": [1, 2], 'a "b"': ['x\r\ny, "z"', "w"]}


def test_blank_lines_of_a_csv_file_are_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "v,w\n1,a\n\n2,\n\n\n")
    assert typed(path)["v"].to_list() == [1, 2]
    assert typed(path)["w"].to_list() == ["a", None]


def test_a_csv_line_with_too_few_or_too_many_fields_is_named(tmp_path: Path) -> None:
    assert "line 3 has 1 fields, the header has 2" in problem_of(written(tmp_path / "t.csv", "v,w\n1,a\n2\n"))
    assert "line 4 has 3 fields, the header has 2" in problem_of(written(tmp_path / "u.csv", "v,w\n1,a\n2,b\n3,c,d\n"))


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    for name in ("t.csv", "t.csv.gz"):
        path = written(tmp_path / name, b"v,w\n" + b"1,a\n" * 9000 + b"2,\xe4\n")
        assert "line 9002 is not UTF-8" in problem_of(path)


def test_a_csv_file_without_a_usable_header_is_refused(tmp_path: Path) -> None:
    assert "names '0' more than once" in problem_of(written(tmp_path / "a.csv", "0,tcp,0\n1,udp,0\n"))
    assert "is empty" in problem_of(written(tmp_path / "b.csv", ""))
    assert "separated by semicolons" in problem_of(written(tmp_path / "c.csv", "a;b\n1;2\n"))
