"""Writes an inferred schema as commented TOML, to be read and corrected by people. `Schema.load` reads it back."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from monitor.model.findings import Finding, Verdict, percent, rows
from monitor.model.inference import Inference

_WIDTH = 110
_HEADER = (
    "The model learns from the features; it ignores all other fields. Check kinds and what was left out, then train.",
    "kind: numeric, categorical (text, whole numbers or booleans, compared as text), boolean (true or false) or array "
    "(numbers of one shape, nested or flat).",
    'missing: "impute" (also when not given) fills in the typical value, "reject" makes the record a dead letter.',
)
_WORDS: dict[Verdict, str] = {
    "free_text": "free text",
    "ambiguous_time": "time without a sure zone",
    "bad_name": "unusable name",
    "unsupported": "not supported",
}


def write_features_toml(inference: Inference, source: str) -> str:
    """Makes the text of `features.toml`.

    Args:
        inference: what to write; the text loads as exactly its schema.
        source: the file or topic that was sampled, for the first line.
    """
    lines = [*_opening(inference, source), ""]
    lines += [f"name = {_quoted(inference.schema.name)}", *_bookkeeping(inference), ""]
    lines += ["features = ["]
    for finding in inference.findings:
        if finding.is_feature:
            lines += [*_comment(_with_nulls(finding), indent=2), f"  {_entry(finding)}"]
    lines += [*_left_out(inference), "]", *_encoding(inference)]
    return "\n".join(lines) + "\n"


def _opening(inference: Inference, source: str) -> Iterator[str]:
    yield from _comment(f"Written by `ganwatch init` from {rows(inference.n_rows)} of {source}.")
    if inference.n_skipped:
        total = inference.n_rows + inference.n_skipped
        yield from _comment(f"{inference.n_skipped} of {total} records are not JSON objects and were skipped.")
    if inference.is_weak:
        yield from _comment("So few rows make weak verdicts: run it again on a larger sample.")
    for line in _HEADER:
        yield from _comment(line)


def _bookkeeping(inference: Inference) -> Iterator[str]:
    """The lines for id, key and timestamp; a commented one where nothing was found."""
    schema = inference.schema
    reasons = {finding.column: _with_nulls(finding) for finding in inference.findings}
    yield ""
    yield "# Copied into alerts, never learned from:"
    for key, field, purpose in (
        ("id", schema.id, "identifies a record"),
        ("key", schema.key, "names the card, host or machine"),
    ):
        if field is None:
            yield f'# {key} = "…"  # no column was found that {purpose}'
        else:
            yield from _comment(reasons[field])
            yield f"{key} = {_quoted(field)}"
    if schema.timestamp is None:
        yield '# timestamp = { field = "…", format = "iso8601" }  # or epoch_s, epoch_ms; no usable column was found'
        return
    stamp = schema.timestamp
    zone = f", timezone = {_quoted(stamp.timezone)}" if stamp.timezone else ""
    yield from _comment(reasons[stamp.field])
    yield f"timestamp = {{ field = {_quoted(stamp.field)}, format = {_quoted(stamp.format)}{zone} }}"


def _encoding(inference: Inference) -> Iterator[str]:
    """The table that says how the records are written; none for JSON."""
    encoding = inference.schema.encoding
    if encoding.format != "json":
        yield ""
        yield "# How the topic's records are written; the model does not depend on it. The setting schema_registry_url says where"
        yield "# their schemas are."
        yield "[encoding]"
        yield f"format = {_quoted(encoding.format)}"


def _left_out(inference: Inference) -> Iterator[str]:
    schema = inference.schema
    used = {*schema.feature_names, schema.id, schema.key, schema.timestamp.field if schema.timestamp else None}
    left_out = [finding for finding in inference.findings if finding.column not in used]
    if not left_out:
        return
    yield ""
    yield from _comment(
        'Left out. To use one as a feature all the same, remove the "# " in front of its brace.', indent=2
    )
    for finding in left_out:
        another = "another " if finding.verdict in ("id", "key", "timestamp") else ""
        word = another + _WORDS.get(finding.verdict, finding.verdict)
        yield "  #"
        if finding.kind is None:
            yield from _comment(f"{_quoted(finding.column)}: {word}: {_with_nulls(finding)}", indent=2)
        else:
            yield from _comment(f"{word}: {_with_nulls(finding)}", indent=2)
            yield f"  # {_entry(finding)}"


def _with_nulls(finding: Finding) -> str:
    return f"{finding.reason}; {percent(finding.null_share)} missing" if 0 < finding.null_share < 1 else finding.reason


def _entry(finding: Finding) -> str:
    missing = ', missing = "impute"' if finding.null_share else ""
    shape = f", shape = {list(finding.shape)}" if finding.shape else ""
    return f'{{ name = {_quoted(finding.column)}, kind = "{finding.kind}"{shape}{missing} }},'


def _comment(text: str, indent: int = 0) -> list[str]:
    prefix = f"{' ' * indent}# "
    return textwrap.wrap(
        _escaped(text),
        _WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return '"' + _escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(text: str) -> str:
    """Control characters and line separators become escapes, for TOML allows no control character even in a comment."""
    return "".join(f"\\u{ord(char):04X}" if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029"
