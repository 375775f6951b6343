"""A schema as the types that the two readers of records work with: polars' for whole batches, msgspec's for one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import polars as pl

from monitor.model.array_values import nested_dtype
from monitor.model.columns import dtype_of
from monitor.model.schema import Feature, Schema

# A category that is a whole number may be written as a float (1.0, 1e3); up to 2^53 its text is that of the whole number.
_WholeFloat = Annotated[float, msgspec.Meta(multiple_of=1, ge=-(2**53), le=2**53)]
_MOST_TRUSTED_DIGITS = 15
_TYPES = {"numeric": float, "categorical": str | int | bool | _WholeFloat, "boolean": bool, "array": list[Any]}


def as_tree(schema: Schema) -> dict[str, Any]:
    """Nested dict of features: `{"card": {"country": Feature(…)}, …}`."""
    tree: dict[str, Any] = {}
    for feature in schema.features:
        *parents, leaf = feature.name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = feature
    return tree


def native_schema(tree: dict[str, Any], form: Callable[[Feature], pl.DataType]) -> pl.Schema:
    """What lines are read with; `form` says how arrays are written."""
    return pl.Schema(
        {
            name: pl.Struct(native_schema(node, form)) if isinstance(node, dict) else form(node)
            for name, node in tree.items()
        }
    )


def flat(feature: Feature) -> pl.DataType:
    """What a feature is read as where arrays are flat."""
    return nested_dtype(1) if feature.kind == "array" else dtype_of(feature)


def nested(feature: Feature) -> pl.DataType:
    """The same where they are nested."""
    return nested_dtype(feature.n_dimensions) if feature.kind == "array" else dtype_of(feature)


def strict_type(tree: dict[str, Any], name: str) -> type[msgspec.Struct]:
    """A struct type of the same shape; its fields are numbered, since a field of a record may bear any name."""
    fields: list[tuple[str, object, object]] = []
    names: dict[str, str] = {}
    for place, (key, node) in enumerate(tree.items()):
        type_ = strict_type(node, f"{name}_{place}") if isinstance(node, dict) else _TYPES[node.kind]
        fields.append((f"field_{place}", type_ | None, None))
        names[f"field_{place}"] = key
    return msgspec.defstruct(name, fields, rename=names)


def fields_to(path: str, tree: dict[str, Any]) -> list[str]:
    """The fields of the strict structs that lead to a feature."""
    fields = []
    for part in path.split("."):
        fields.append(f"field_{list(tree).index(part)}")
        tree = tree[part]
    return fields


def value_at(record: object, fields: Sequence[str]) -> object:
    """What stands there in a decoded record; None where it ends before."""
    for name in fields:
        record = getattr(record, name, None)
    return record


def path_expression(path: str) -> pl.Expr:
    """A nested field of a frame as a column of its own."""
    first, *rest = path.split(".")
    expression = pl.col(first)
    for part in rest:
        expression = expression.struct.field(part)
    return expression.alias(path)


def trusted_levels(schema: Schema, levels: dict[str, tuple[str, ...]]) -> dict[str, pl.Enum]:
    """Per category the levels that only a JSON string, whole number or boolean reads as."""
    return {
        name: pl.Enum([level for level in levels.get(name, ()) if _is_plain(level)])
        for name in schema.of_kind("categorical")
    }


def _is_plain(level: str) -> bool:
    """Whether only a JSON string, whole number or boolean reads as this level."""
    return (level.isdecimal() and len(level) <= _MOST_TRUSTED_DIGITS) or (
        level != "" and level[0].isalpha() and "\x00" not in level
    )
