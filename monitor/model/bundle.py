"""The bundle: a folder of plain files that is a deployable model. Verified whenever it is read; never pickle, never code.

manifest.json      what it is, how it was made, SHA-256 of the files below
scorer.tflite      signatures `score` and `explain`
preprocess.json    the fitted transform
calibration.npz    held-out raw scores and their tail
golden.npz         raw records with the X and raw_score they must give
signature.json     who vouches for the manifest; only where models are signed
report.html        of its training, for people; the monitor does not read it
"""

from __future__ import annotations

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.errors import BundleError, ConfigError
from monitor.model.calibration import Calibration
from monitor.model.decode import Decoder
from monitor.model.fitted_columns import CategoricalColumn, kind_of, shape_of
from monitor.model.golden import Golden
from monitor.model.preprocess import Preprocessor
from monitor.model.schema import Schema
from monitor.model.scorer import Scorer
from monitor.model.signature import SIGNATURE, require_trust

FORMAT = "ganwatch.bundle/1"
MANIFEST = "manifest.json"
REPORT = "report.html"
FILES = ("scorer.tflite", "preprocess.json", "calibration.npz", "golden.npz")
GOLDEN_TOLERANCE = 1e-4
_MAX_RECORD_BYTES = 64 * 2**20


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says about itself.

    Attributes:
        format: `ganwatch.bundle/1`.
        model: name in the registry.
        detector: name in the registry of detectors.
        created_at: ISO 8601, UTC.
        configuration: everything needed to train it again: preset, options, seed.
        data: where the rows came from, how many there were and what became of them.
        schema: the feature schema, as in `features.toml`.
        schema_fingerprint: of that schema.
        metrics: figures measured with this very bundle.
        software: versions that made it.
        source_revision: revision of the code that made it, where known.
        files: SHA-256 (hex) by file name.
    """

    format: str
    model: str
    detector: str
    created_at: str
    configuration: dict[str, Any]
    data: dict[str, Any]
    schema: dict[str, Any]
    schema_fingerprint: str
    metrics: dict[str, Any]
    software: dict[str, str]
    source_revision: str | None
    files: dict[str, str]

    def to_json(self) -> bytes:
        """The content of `manifest.json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


@dataclass(frozen=True)
class Bundle:
    """A verified model, ready to score.

    Attributes:
        path: the folder.
        manifest: what it says about itself.
        sha256: hex digest of `manifest.json`, and through its digests of every file.
        schema: of the records it takes.
        preprocessor: records → X.
        scorer: X → raw scores and explanations; owned by one thread.
        calibration: raw scores → p-values.
    """

    path: Path
    manifest: Manifest
    sha256: str
    schema: Schema
    preprocessor: Preprocessor
    scorer: Scorer
    calibration: Calibration

    @property
    def version(self) -> str:
        """Name in the registry: creation time and the beginning of the digest."""
        return version_of(self.manifest, self.sha256)

    def decoder(self, max_record_bytes: int = _MAX_RECORD_BYTES) -> Decoder:
        """The decoder for this bundle's records."""
        columns = self.preprocessor.columns
        levels = {column.feature: column.values for column in columns if isinstance(column, CategoricalColumn)}
        return Decoder(self.schema, max_record_bytes, levels)


def version_of(manifest: Manifest, sha256: str) -> str:
    """`20260131T235959Z-0a1b2c3d`: sorts by time, is unique by content."""
    compact = manifest.created_at[:19].replace("-", "").replace(":", "")
    return f"{compact}Z-{sha256[:8]}"


def write_bundle(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    """Writes the files of a bundle into a new folder; the manifest, with their digests, comes last."""
    digests = {name: hashlib.sha256(contents[name]).hexdigest() for name in FILES}
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(contents[name])
    (folder / MANIFEST).write_bytes(msgspec.structs.replace(manifest, files=digests).to_json())


def load_bundle(
    folder: str | Path,
    *,
    expected_schema: Schema | None = None,
    num_threads: int = 1,
    trusted: frozenset[str] = frozenset(),
) -> Bundle:
    """Reads and verifies a bundle: signature, digests, schema, widths, and its golden records recomputed.

    Args:
        folder: holds the five files.
        expected_schema: the monitor's own; a bundle for another one is refused.
        num_threads: threads of one LiteRT call.
        trusted: public keys (base64), one of which must have signed it; without any it need not be signed.

    Raises:
        BundleError: names the file, what was expected and what was found.
    """
    path = Path(folder)
    manifest, sha256 = read_manifest(path)
    require_trust(path / SIGNATURE, read_signature(path), sha256, trusted)
    contents = read_files(path, manifest)
    schema = _schema_of(path / MANIFEST, manifest, expected_schema)
    preprocessor = _parse(path / "preprocess.json", Preprocessor.from_json, contents["preprocess.json"])
    _check_columns(path / "preprocess.json", preprocessor, schema)
    bundle = Bundle(
        path=path,
        manifest=manifest,
        sha256=sha256,
        schema=schema,
        preprocessor=preprocessor,
        scorer=Scorer(
            contents["scorer.tflite"], preprocessor.n_columns, source=path / "scorer.tflite", num_threads=num_threads
        ),
        calibration=_parse(path / "calibration.npz", Calibration.from_npz, contents["calibration.npz"]),
    )
    _recompute(bundle, _parse(path / "golden.npz", Golden.from_npz, contents["golden.npz"]))
    return bundle


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(file, "is missing") from error
    except OSError as error:
        raise BundleError(file, f"cannot be read: {error.strerror}") from error


def read_signature(folder: Path) -> bytes | None:
    """The content of `signature.json`; None for a bundle that nobody signed."""
    return _read(folder / SIGNATURE) if (folder / SIGNATURE).exists() else None


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of a bundle, and its SHA-256 (hex), which is the bundle's identity.

    Raises:
        BundleError: it is missing, damaged, or of another format version.
    """
    content = _read(folder / MANIFEST)
    return parse_manifest(folder / MANIFEST, content), hashlib.sha256(content).hexdigest()


def parse_manifest(file: object, content: bytes) -> Manifest:
    """Reads the content of a `manifest.json`; `file` is for errors.

    Raises:
        BundleError: it is damaged, or of another format version.
    """
    manifest: Manifest = _parse(file, lambda data: msgspec.json.decode(data, type=Manifest), content)
    if manifest.format != FORMAT:
        problem = "is of another format version; train the model anew with `ganwatch train`"
        raise BundleError(file, problem, expected=FORMAT, found=manifest.format)
    if set(manifest.files) != set(FILES):
        raise BundleError(
            file, "lists other files", expected=", ".join(sorted(FILES)), found=", ".join(sorted(manifest.files))
        )
    _parse(file, datetime.fromisoformat, manifest.created_at)
    return manifest


def read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Contents of the files beside the manifest, by name.

    Raises:
        BundleError: one is missing or has another digest than the manifest says.
    """
    contents = {}
    for name in FILES:
        contents[name] = _read(folder / name)
        digest = hashlib.sha256(contents[name]).hexdigest()
        if digest != manifest.files[name]:
            raise BundleError(
                folder / name,
                "was changed after it was written; SHA-256 differs",
                expected=manifest.files[name],
                found=digest,
            )
    return contents


# What msgspec, numpy and the modules below it raise on damaged bytes; found by flipping them.
_DAMAGE = (
    ValueError, LookupError, TypeError, EOFError, OSError, ArithmeticError, MemoryError, RuntimeError, SyntaxError,
    AttributeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, msgspec.MsgspecError,
)  # fmt: skip


def _parse(file: object, parse: Any, content: Any) -> Any:
    """Runs a parser and translates whatever a damaged file makes it raise."""
    try:
        return parse(content)
    except _DAMAGE as error:
        raise BundleError(file, f"cannot be understood: {error}") from error


def _schema_of(file: Path, manifest: Manifest, expected: Schema | None) -> Schema:
    try:
        schema = Schema.from_mapping(manifest.schema, str(file))
    except ConfigError as error:
        raise BundleError(file, f"holds no valid schema: {error}") from error
    if schema.fingerprint != manifest.schema_fingerprint:
        raise BundleError(
            file, "has a schema of another fingerprint", expected=manifest.schema_fingerprint, found=schema.fingerprint
        )
    if expected is not None and schema.fingerprint != expected.fingerprint:
        raise BundleError(
            file,
            f"was trained for another schema: {schema.difference_from(expected)}; train again with the present features.toml",
            expected=expected.fingerprint[:12],
            found=schema.fingerprint[:12],
        )
    return schema if expected is None else schema.model_copy(update={"encoding": expected.encoding})


def _check_columns(file: Path, preprocessor: Preprocessor, schema: Schema) -> None:
    """The preprocessor must be for these features, in this order and of these kinds."""
    expected = [_in_words(feature.name, feature.kind, feature.shape) for feature in schema.features]
    found = [_in_words(column.feature, kind_of(column), shape_of(column)) for column in preprocessor.columns]
    if found != expected:
        raise BundleError(file, "is for other features", expected=", ".join(expected), found=", ".join(found))


def _in_words(name: str, kind: str, shape: tuple[int, ...] | None) -> str:
    return f"{name} ({kind}{'' if shape is None else f' of {shape}'})"


def _recompute(bundle: Bundle, golden: Golden) -> None:
    """Scores the golden records again: the whole path from bytes to raw score must give what training saw."""
    file = bundle.path / "golden.npz"
    decoded = bundle.decoder().decode(golden.records)
    if decoded.invalid:
        raise BundleError(
            file, f"golden record {decoded.invalid[0][0]} is not accepted any more: {decoded.invalid[0][1]}"
        )
    X = bundle.preprocessor.transform(decoded.frame).X
    _compare(file, "X", golden.X, X)
    _compare(file, "raw_score", golden.raw_score, bundle.scorer.score(X))


def _compare(file: Path, what: str, expected: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    if expected.shape != found.shape:
        raise BundleError(
            file, f"{what} of the golden records has another shape", expected=expected.shape, found=found.shape
        )
    wrong = ~(np.abs(expected - found) <= GOLDEN_TOLERANCE * np.maximum(1.0, np.abs(expected)))
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise BundleError(
            file, f"{what} of golden record {place[0]} is not reproduced", expected=expected[place], found=found[place]
        )
