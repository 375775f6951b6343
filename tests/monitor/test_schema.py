"""The feature schema: what a features.toml may say, and what changes the fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from monitor.errors import ConfigError
from monitor.model.schema import Schema
from tests import machines

Change = Callable[[dict[str, Any]], object]
AMOUNT = {"name": "amount", "kind": "numeric"}


def schema_of(*features: dict[str, Any], **other: Any) -> Schema:
    return Schema.from_mapping({"name": "s", "features": list(features), **other}, "features.toml")


def problems_of(*features: dict[str, Any], **other: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        schema_of(*features, **other)
    assert caught.value.where == "features.toml"
    return caught.value.problems


def changed(change: Change) -> Schema:
    mapping = machines.SCHEMA.model_dump(mode="json")
    change(mapping)
    return Schema.from_mapping(mapping, "tests")


def test_the_toml_form_of_a_schema_is_read(machines_folder: Path) -> None:
    schema = Schema.load(machines_folder / "features.toml")
    assert schema == machines.SCHEMA
    assert schema.feature_names[1] == "motor.current_a"
    assert schema.of_kind("numeric") == ("load", "motor.current_a", "motor.temperature_c", "pieces")
    assert [feature.missing for feature in schema.features] == ["impute"] * 3 + ["reject"] + ["impute"] * 2


def test_a_schema_survives_its_own_dump() -> None:
    assert Schema.from_mapping(machines.SCHEMA.model_dump(mode="json"), "tests") == machines.SCHEMA


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["features"][0].update(name="Load"),
        lambda s: s["features"][0].update(kind="categorical"),
        lambda s: s["features"][0].update(missing="reject"),
        lambda s: s["features"].reverse(),
        lambda s: s["features"].pop(),
        lambda s: s["features"].append({"name": "new", "kind": "boolean"}),
    ],
)
def test_whatever_changes_a_score_changes_the_fingerprint(change: Change) -> None:
    assert changed(change).fingerprint != machines.SCHEMA.fingerprint


def test_bookkeeping_does_not_change_the_fingerprint() -> None:
    other = changed(lambda s: s.update(name="other", id=None, key="x", timestamp=None))
    assert other.fingerprint == machines.SCHEMA.fingerprint
    assert schema_of(AMOUNT).fingerprint == schema_of(AMOUNT | {"missing": "impute"}).fingerprint


def test_the_fingerprint_is_the_same_in_every_version_of_ganwatch() -> None:
    canonical = b'[{"kind":"numeric","missing":"impute","name":"amount"}]'
    assert schema_of(AMOUNT).fingerprint == hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize(
    "name",
    ["a", "a.b", "a.b.c", "größe", "日本", "a b", "a-b", "$x", "0", "😀", "x'y", "class", "a  b.c d", "[0]", "a`"],
)
def test_a_field_may_bear_any_name_without_blanks_around_its_parts(name: str) -> None:
    assert schema_of({"name": name, "kind": "numeric"}).feature_names == (name,)


@pytest.mark.parametrize(
    "name", ["", " ", ".", "a.", ".a", "a..b", " a", "a ", "a. b", 'a"b', "a\\b", "a\nb", "\x00", "a\x1fb", 7, None]
)
def test_a_name_that_is_no_path_is_refused(name: object) -> None:
    assert problems_of({"name": name, "kind": "numeric"})[0].startswith("features.0.name: ")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".a", "-a", "a b", "x" * 101])
def test_a_schema_s_name_can_be_a_folder(name: str) -> None:
    assert problems_of(AMOUNT, name=name)[0].startswith("name: ")


def test_features_that_collide_are_refused() -> None:
    assert problems_of(AMOUNT, AMOUNT) == ("feature 'amount' is listed twice",)
    inner = {"name": "card.country.code", "kind": "categorical"}
    for outer in ("card", "card.country"):
        assert problems_of(inner, {"name": outer, "kind": "numeric"}) == (
            f"feature 'card.country.code' lies inside feature {outer!r}; keep one of them",
        )


def test_names_that_only_begin_alike_do_not_collide() -> None:
    assert len(schema_of({"name": "card", "kind": "numeric"}, {"name": "card2.x", "kind": "numeric"}).features) == 2


def test_all_problems_are_reported_at_once_with_their_places() -> None:
    found = problems_of(
        {"name": "a", "kind": "number"}, {"name": "b", "kind": "numeric", "mising": "reject"}, colour="red"
    )
    assert found == (
        "features.0.kind: Input should be 'numeric', 'categorical', 'boolean' or 'array', got 'number'",
        "unknown key 'features.1.mising'",
        "unknown key 'colour'",
    )


def test_a_schema_without_features_is_refused() -> None:
    assert problems_of() == ("features: at least one is needed",)


@pytest.mark.parametrize("mapping", [None, [], 7, "text", {"name": "s"}])
def test_what_is_no_schema_at_all_is_refused(mapping: object) -> None:
    with pytest.raises(ConfigError):
        Schema.from_mapping(mapping, "features.toml")


def test_a_timestamp_has_a_known_zone_and_format() -> None:
    known = schema_of(AMOUNT, timestamp={"field": "at", "format": "epoch_ms", "timezone": "Europe/Berlin"})
    assert known.timestamp is not None
    assert known.timestamp.timezone == "Europe/Berlin"
    assert problems_of(AMOUNT, timestamp={"field": "at", "timezone": "Mars/Olympus"}) == (
        "timestamp.timezone: unknown time zone 'Mars/Olympus'; use an IANA name such as 'Europe/Berlin'",
    )
    assert problems_of(AMOUNT, timestamp={"field": "at", "format": "rfc822"})[0].startswith("timestamp.format: ")


@pytest.mark.parametrize("timezone", ["", "../../etc/passwd", "/etc/localtime", "\x00", "x" * 300])
def test_a_zone_is_no_way_to_other_files(timezone: str) -> None:
    assert "unknown time zone" in problems_of(AMOUNT, timestamp={"field": "at", "timezone": timezone})[0]


def test_a_missing_schema_is_answered_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.toml: no such file; `ganwatch init --from FILE` writes one"):
        Schema.load(tmp_path / "features.toml")


def test_a_schema_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "features.toml").write_text('name = "x"\n\nfeatures == []\n')
    with pytest.raises(ConfigError, match=r"features\.toml: is not TOML: .*line 3"):
        Schema.load(tmp_path / "features.toml")


def test_a_schema_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        schema_of(AMOUNT).name = "other"


CATEGORY = {"name": "card.kind", "kind": "categorical"}


def test_the_encoding_is_read_and_is_no_part_of_what_a_model_depends_on(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    path.write_text(
        'name = "s"\nfeatures = [{ name = "amount", kind = "numeric" }, { name = "card.kind", kind = "categorical" }]\n'
        '[encoding]\nformat = "float32"\n[encoding.codes]\n"card.kind" = ["debit", "credit"]\n'
    )
    schema = Schema.load(path)
    plain = schema_of(AMOUNT, CATEGORY)
    assert schema.encoding.codes == {"card.kind": ("debit", "credit")}
    assert plain.encoding.format == "json"
    assert schema.fingerprint == plain.fingerprint
    assert schema.model_dump() == plain.model_dump()


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        ({"format": "xml"}, "encoding.format"),
        ({"format": "avro", "registry": "http://r"}, "registry"),
        ({"format": "float32"}, "float32 needs the distinct values of the categorical feature 'card.kind'"),
        ({"format": "float32", "codes": {"card.kind": []}}, "float32 needs the distinct values"),
        ({"format": "float32", "codes": {"card.kind": ["a", "a"]}}, "float32 needs the distinct values"),
        ({"format": "float32", "codes": {"card.kind": ["a"], "amount": ["1"]}}, "'amount' is no categorical feature"),
        ({"format": "avro", "codes": {"card.kind": ["a"]}}, "'card.kind' is no categorical feature of packed float32"),
    ],
)
def test_an_encoding_that_cannot_be_meant_is_refused(encoding: dict[str, Any], problem: str) -> None:
    (told,) = problems_of(AMOUNT, CATEGORY, encoding=encoding)
    assert problem in told


IMAGE = {"name": "image", "kind": "array", "shape": [28, 28, 1]}


def test_an_array_has_a_shape_which_its_dump_and_its_fingerprint_hold() -> None:
    schema = schema_of(IMAGE)
    (feature,) = schema.features
    assert (feature.shape, feature.n_cells, schema.image_shape) == ((28, 28, 1), 784, (28, 28, 1))
    assert Schema.from_mapping(schema.model_dump(mode="json"), "tests") == schema
    assert schema_of(IMAGE | {"shape": [28, 28]}).fingerprint != schema.fingerprint
    assert schema_of(IMAGE | {"shape": [14, 56, 1]}).fingerprint != schema.fingerprint
    other = schema_of(IMAGE | {"shape": [28, 28]})
    assert other.difference_from(schema) == "feature 'image' has another kind, shape or missing policy"


def test_features_without_a_shape_are_dumped_as_before_there_were_arrays() -> None:
    assert schema_of(AMOUNT).model_dump(mode="json")["features"] == [AMOUNT | {"missing": "impute"}]


def test_rows_are_images_only_where_one_array_of_three_dimensions_is_all() -> None:
    assert schema_of(IMAGE, AMOUNT).image_shape is None
    assert schema_of(IMAGE | {"shape": [784]}).image_shape is None
    assert schema_of(AMOUNT).image_shape is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shape": None}, "features.0: feature 'image': kind = 'array' needs a shape, such as shape = [28, 28, 1]"),
        ({"kind": "numeric"}, "features.0: feature 'image': shape is for kind = 'array' only, not for 'numeric'"),
        ({"shape": []}, "features.0: feature 'image': a shape of 0 lengths; an array has one to three"),
        ({"shape": [1, 2, 3, 4]}, "features.0: feature 'image': a shape of 4 lengths; an array has one to three"),
        ({"shape": [300, 300]}, "features.0: feature 'image': an array of 90000 numbers; at most 65536 are taken"),
        ({"shape": [28, 0]}, "features.0.shape.1: Input should be greater than or equal to 1, got 0"),
        ({"shape": [28, "28"]}, "features.0.shape.1: Input should be a valid integer, got '28'"),
        ({"shape": [2.5]}, "features.0.shape.0: Input should be a valid integer, got 2.5"),
        ({"shape": [True]}, "features.0.shape.0: Input should be a valid integer, got True"),
        ({"shape": 784}, "features.0.shape: Input should be a valid tuple, got 784"),
    ],
)
def test_a_shape_that_is_none_is_one_problem(change: dict[str, Any], problem: str) -> None:
    assert problems_of(IMAGE | change) == (problem,)


@pytest.mark.parametrize(("field", "value"), [("id", "image"), ("key", "image"), ("timestamp", {"field": "image"})])
def test_an_array_is_no_bookkeeping_field(field: str, value: Any) -> None:
    assert problems_of(IMAGE, **{field: value}) == (f"{field}: 'image' is an array; name a field of one value",)
