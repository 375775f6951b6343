"""The feature schema: which fields of a record are features, of what kind, in what order.

Read from `features.toml`; written by `ganwatch init`. It never looks at data.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from monitor.documents import NAME, describe_problem, read_toml
from monitor.errors import ConfigError

Kind = Literal["numeric", "categorical", "boolean", "array"]
Missing = Literal["impute", "reject"]
# Parts between dots, without white space around them; no quote, backslash or control character, which the decoder cannot
# name, and no * or ^ in front, which polars takes for patterns.
_PART = r'[^.\s"\\*^\x00-\x1f]([^."\\\x00-\x1f]*[^.\s"\\\x00-\x1f])?'
MOST_CELLS = 65_536
MOST_DIMENSIONS = 3
Length = Annotated[int, Field(strict=True, ge=1)]
FieldPath = Annotated[str, Field(min_length=1, pattern=rf"^{_PART}(\.{_PART})*$")]


class Feature(BaseModel):
    """One field of a record that the model sees.

    Attributes:
        name: the field; a dotted path (`card.country`) reaches into nested objects.
        kind: `numeric` (float64), `categorical` (text, whole number or boolean, compared as text), `boolean`, or `array`
            (float64, of one shape in all records).
        missing: `impute` replaces a missing or null value by what training found typical, `reject` makes the record a
            dead letter.
        shape: of an array, one to three lengths; a record holds the numbers nested like this, or flat, row by row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FieldPath
    kind: Kind
    missing: Missing = "impute"
    shape: tuple[Length, ...] | None = None

    @model_validator(mode="after")
    def _only_arrays_have_a_shape(self) -> Self:
        if self.kind == "array" and self.shape is None:
            raise ValueError(f"feature {self.name!r}: kind = 'array' needs a shape, such as shape = [28, 28, 1]")
        if self.kind != "array" and self.shape is not None:
            raise ValueError(f"feature {self.name!r}: shape is for kind = 'array' only, not for {self.kind!r}")
        if self.shape is not None and not 1 <= self.n_dimensions <= MOST_DIMENSIONS:
            raise ValueError(
                f"feature {self.name!r}: a shape of {self.n_dimensions} lengths; an array has one to three"
            )
        if self.n_cells > MOST_CELLS:
            raise ValueError(
                f"feature {self.name!r}: an array of {self.n_cells} numbers; at most {MOST_CELLS} are taken"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_absent_shape(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before there were arrays, so that manifests and fingerprints of other schemas stay what they are."""
        fields: dict[str, Any] = dump(self)
        return fields if self.shape is not None else {key: fields[key] for key in fields if key != "shape"}

    @property
    def n_dimensions(self) -> int:
        """Of an array; 0 for the other kinds."""
        return len(self.shape or ())

    @property
    def n_cells(self) -> int:
        """How many numbers an array holds; 1 for the other kinds."""
        return math.prod(self.shape or ())


class Timestamp(BaseModel):
    """The field that says when the event happened.

    Attributes:
        field: dotted path of the field.
        format: `iso8601` text, or seconds or milliseconds since 1970-01-01 UTC.
        timezone: IANA zone of ISO stamps that carry none; such stamps are refused without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: FieldPath
    format: Literal["iso8601", "epoch_s", "epoch_ms"] = "iso8601"
    timezone: str | None = None

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, timezone: str | None) -> str | None:
        if timezone is not None:
            try:
                ZoneInfo(timezone)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(f"unknown time zone {timezone!r}; use an IANA name such as 'Europe/Berlin'") from error
        return timezone


class Encoding(BaseModel):
    """How the records of the topic are written; a model does not depend on it.

    Attributes:
        format: `json`; `avro` or `protobuf` in Confluent's wire format, with a schema registry; or `float32`: the features in
            their order, four bytes each, little-endian, NaN where a value is missing.
        codes: with `float32`, per categorical feature the values that the numbers 0, 1, 2, … stand for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["json", "avro", "protobuf", "float32"] = "json"
    codes: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Schema(BaseModel):
    """Name, bookkeeping fields and features, in the order of the feature matrix.

    Attributes:
        name: also the name of the model in the registry.
        id: field that identifies a record for people; copied into alerts, never a feature.
        key: field that names the entity (card, host, machine); copied into alerts, never a feature.
        timestamp: when the event happened; copied into alerts, used to split training data by time.
        features: at least one.
        encoding: of the topic's records; no part of a model, so that dumps of the schema leave it out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME)]
    id: FieldPath | None = None
    key: FieldPath | None = None
    timestamp: Timestamp | None = None
    features: tuple[Feature, ...]
    encoding: Encoding = Field(default_factory=Encoding, exclude=True)

    @model_validator(mode="after")
    def _paths_do_not_collide(self) -> Self:
        if (
            not self.features
        ):  # checked here: as a bound of the field it would also count those with a problem as absent
            raise ValueError("features: at least one is needed")
        seen: set[str] = set()
        for name in self.feature_names:
            if name in seen:
                raise ValueError(f"feature {name!r} is listed twice")
            seen.add(name)
        for name in sorted(seen):
            parents = [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
            collision = next((parent for parent in parents if parent in seen), None)
            if collision:
                raise ValueError(f"feature {name!r} lies inside feature {collision!r}; keep one of them")
        return self

    @model_validator(mode="after")
    def _bookkeeping_is_no_array(self) -> Self:
        arrays = self.of_kind("array")
        stamp = self.timestamp.field if self.timestamp else None
        for purpose, field in (("id", self.id), ("key", self.key), ("timestamp", stamp)):
            if field in arrays:
                raise ValueError(f"{purpose}: {field!r} is an array; name a field of one value")
        return self

    @model_validator(mode="after")
    def _codes_are_complete(self) -> Self:
        codes = self.encoding.codes
        coded = self.of_kind("categorical") if self.encoding.format == "float32" else ()
        for name in coded:
            values = codes.get(name, ())
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"encoding.codes: float32 needs the distinct values of the categorical feature {name!r}"
                )
        if unused := sorted(set(codes) - set(coded)):
            raise ValueError(f"encoding.codes: {unused[0]!r} is no categorical feature of packed float32 records")
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in the order of the features."""
        return tuple(feature.name for feature in self.features)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that changes a score: names, kinds, shapes, order and missing policy of the features."""
        canonical = json.dumps(
            [feature.model_dump() for feature in self.features], sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels when a single array of three dimensions is all there is; None otherwise."""
        shape = self.features[0].shape if len(self.features) == 1 else None
        return (shape[0], shape[1], shape[2]) if shape is not None and len(shape) == 3 else None

    def of_kind(self, kind: Kind) -> tuple[str, ...]:
        """Names of the features of one kind, in order."""
        return tuple(feature.name for feature in self.features if feature.kind == kind)

    def difference_from(self, of_monitor: Schema) -> str:
        """The first thing in which a bundle's schema (this one) differs from the monitor's own, in words; they do differ."""
        ours, theirs = set(of_monitor.feature_names), set(self.feature_names)
        if ours - theirs:
            return f"feature {min(ours - theirs)!r} is not in the bundle"
        if theirs - ours:
            return f"feature {min(theirs - ours)!r} is not in features.toml"
        features = {feature.name: feature for feature in of_monitor.features}
        changed = [feature.name for feature in self.features if features[feature.name] != feature]
        if changed:
            return f"feature {changed[0]!r} has another kind, shape or missing policy"
        return "the features stand in another order"

    @classmethod
    def from_mapping(cls, mapping: object, where: str) -> Schema:
        """Validates a parsed document.

        Raises:
            ConfigError: with every problem found, each with its place in the document.
        """
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            raise ConfigError(where, [describe_problem(problem) for problem in error.errors()]) from error

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """Reads `features.toml`.

        Raises:
            ConfigError: the file is missing, is not TOML, or does not describe a schema.
        """
        return cls.from_mapping(read_toml(path, fix="`ganwatch init --from FILE` writes one"), str(path))
