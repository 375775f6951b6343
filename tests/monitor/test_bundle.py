"""Bundles: loaded when sound, refused with the file's name when anything about one is not."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.errors import BundleError
from monitor.model.bundle import FILES, MANIFEST, Bundle, load_bundle, read_manifest, version_of, write_bundle
from monitor.model.golden import Golden
from monitor.model.schema import Schema
from tests import machines

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(machines_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(machines_bundle.path, tmp_path / "bundle"))


def error_of(folder: Path, expected_schema: Schema | None = None) -> BundleError:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, expected_schema=expected_schema)
    return caught.value


def with_schema(change: Change) -> Schema:
    mapping = machines.SCHEMA.model_dump()
    change(mapping)
    return Schema.from_mapping(mapping, "tests")


def change_manifest(folder: Path, change: Change) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def rewrite(folder: Path, **changed: bytes) -> Path:
    """The same bundle with other contents and digests that are right for them, as a wrong exporter might write it."""
    manifest, _ = read_manifest(folder)
    contents = {name: changed.get(name.split(".")[0], (folder / name).read_bytes()) for name in FILES}
    write_bundle(folder.with_name("rewritten"), manifest, contents)
    return folder.with_name("rewritten")


def golden_of(folder: Path) -> Golden:
    return Golden.from_npz((folder / "golden.npz").read_bytes())


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_sound_bundle_loads_and_knows_its_version(bundle: Path, machines_bundle: Bundle) -> None:
    loaded = load_bundle(bundle, expected_schema=machines.SCHEMA)
    assert loaded.sha256 == machines_bundle.sha256
    assert loaded.version == machines_bundle.path.name
    assert loaded.schema == machines.SCHEMA


def test_the_version_sorts_by_time_and_ends_in_the_digest(bundle: Path) -> None:
    manifest, sha256 = read_manifest(bundle)
    stamp = manifest.created_at[:19].replace("-", "").replace(":", "")
    assert version_of(manifest, sha256) == f"{stamp}Z-{sha256[:8]}"
    assert len(stamp) == len("20260131T235959")


def test_what_is_rewritten_unchanged_loads(bundle: Path, machines_bundle: Bundle) -> None:
    frame = machines.readings(20, seed=1)
    again = load_bundle(rewrite(bundle))
    X = again.preprocessor.transform(frame).X
    assert again.scorer.score(X).tobytes() == machines_bundle.scorer.score(X).tobytes()


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert str(error_of(bundle)) == f"{bundle / name}: is missing"


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_folder_in_place_of_a_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert str(error_of(bundle)) == f"{bundle / name}: cannot be read: Is a directory"


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_named(bundle: Path, name: str, share: float) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: int(share * len(content))])
    assert error_of(bundle).file == str(bundle / name)


@pytest.mark.parametrize(("one", "other"), [("calibration.npz", "golden.npz"), ("scorer.tflite", "preprocess.json")])
def test_swapped_files_are_refused_with_both_digests(bundle: Path, one: str, other: str) -> None:
    contents = (bundle / one).read_bytes(), (bundle / other).read_bytes()
    (bundle / other).write_bytes(contents[0])
    (bundle / one).write_bytes(contents[1])
    error = error_of(bundle)
    manifest, _ = read_manifest(bundle)
    first = next(name for name in FILES if name in {one, other})
    assert error.file == str(bundle / first)
    assert "was changed after it was written; SHA-256 differs" in str(error)
    assert error.expected == manifest.files[first]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(error_of(tmp_path / "nothing")) == f"{tmp_path / 'nothing' / MANIFEST}: is missing"


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([MANIFEST, *FILES]), place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_raises_nothing_but_a_bundle_error(
    bundle: Path, name: str, place: int, bit: int
) -> None:
    original = (bundle / name).read_bytes()
    damaged = bytearray(original)
    damaged[place % len(damaged)] ^= 1 << bit
    (bundle / name).write_bytes(damaged)
    try:
        found = load_bundle(bundle, expected_schema=machines.SCHEMA)
    except BundleError as error:
        assert error.file in {str(bundle / name), str(bundle / MANIFEST)} or name == MANIFEST  # noqa: PT017
    else:  # some text of the manifest that nothing depends on
        assert name == MANIFEST
        assert found.version != bundle.name
    finally:
        (bundle / name).write_bytes(original)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["preprocess", "calibration", "golden"]),
    places=st.lists(st.integers(0, 10**9), min_size=1, max_size=3),
    byte=st.integers(1, 255),
)
def test_damage_that_its_digest_covers_raises_nothing_but_a_bundle_error(
    bundle: Path, name: str, places: list[int], byte: int
) -> None:
    file = next(file for file in FILES if file.startswith(name))
    damaged = bytearray((bundle / file).read_bytes())
    for place in places:
        damaged[place % len(damaged)] ^= byte
    rewritten = rewrite(bundle, **{name: bytes(damaged)})
    try:
        load_bundle(rewritten)
    except BundleError as error:
        assert error.file.startswith(str(rewritten))  # noqa: PT017
    finally:
        shutil.rmtree(rewritten)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: m.update(format="ganwatch.bundle/2"), "`ganwatch train` (expected ganwatch.bundle/1, found ganwatch.bundle/2)"),
        (lambda m: m["files"].update({"../../etc/passwd": "00"}), "lists other files"),
        (lambda m: m["files"].pop("golden.npz"), "lists other files"),
        (lambda m: m.update(files={f"../bundle/{name}": digest for name, digest in m["files"].items()}), "lists other files"),
        (lambda m: m.update(code="print()"), "cannot be understood"),
        (lambda m: m.pop("detector"), "cannot be understood"),
        (lambda m: m.update(created_at="yesterday"), "cannot be understood"),
        (lambda m: m["schema"].update(features=[]), "holds no valid schema"),
        (lambda m: m["schema"]["features"].reverse(), "has a schema of another fingerprint"),
        (lambda m: m.update(schema_fingerprint="00"), "has a schema of another fingerprint"),
        (lambda m: m["files"].update({"golden.npz": "00"}), "was changed after it was written"),
    ],
)  # fmt: skip
def test_a_manifest_that_says_something_else_is_refused(bundle: Path, change: Change, problem: str) -> None:
    change_manifest(bundle, change)
    assert problem in str(error_of(bundle))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    assert str(error_of(bundle)).startswith(f"{bundle / MANIFEST}: cannot be understood: ")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s["features"][0].update(name="loads"), "feature 'loads' is not in the bundle"),
        (lambda s: s.update(features=s["features"][:-1]), "feature 'cooling' is not in features.toml"),
        (lambda s: s["features"][4].update(kind="numeric"), "feature 'mode' has another kind, shape or missing policy"),
        (
            lambda s: s["features"][3].update(missing="impute"),
            "feature 'pieces' has another kind, shape or missing policy",
        ),
        (lambda s: s.update(features=s["features"][::-1]), "the features stand in another order"),
    ],
)
def test_a_bundle_for_another_schema_is_refused_with_the_feature_that_differs(
    bundle: Path, change: Change, problem: str
) -> None:
    error = error_of(bundle, expected_schema=with_schema(change))
    assert str(error).startswith(f"{bundle / MANIFEST}: was trained for another schema: {problem}; train again")


def test_bookkeeping_fields_may_differ_since_no_score_depends_on_them(bundle: Path) -> None:
    other = with_schema(lambda schema: schema.update(name="presses", id=None, key="line", timestamp=None))
    assert load_bundle(bundle, expected_schema=other).schema.name == "machines"


@pytest.mark.parametrize("name", ["calibration", "golden"])
def test_a_pickle_is_never_opened(bundle: Path, tmp_path: Path, name: str) -> None:
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (opened,)

    arrays = dict(np.load(bundle / f"{name}.npz"))
    first = next(iter(arrays))
    for content in (npz(**arrays | {first: np.array([Trap()], dtype=object)}), pickle.dumps(Trap())):
        rewritten = rewrite(bundle, **{name: content})
        assert str(error_of(rewritten)).startswith(f"{rewritten / name}.npz: cannot be understood: ")
        shutil.rmtree(rewritten)
    assert not opened.exists()


@pytest.mark.parametrize("name", ["calibration", "golden", "preprocess", "scorer"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 100, b"{}", npz(a=np.zeros(3))])
def test_a_file_of_another_kind_is_named(bundle: Path, name: str, content: bytes) -> None:
    rewritten = rewrite(bundle, **{name: content})
    file = next(file for file in FILES if file.startswith(name))
    assert error_of(rewritten).file == str(rewritten / file)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda p: p["columns"].pop(), "is for other features"),
        (lambda p: p["columns"].reverse(), "is for other features"),
        (lambda p: p["columns"][4].update(kind="boolean", typical=True, values=...), "is for other features"),
        (lambda p: p["columns"][0].update(sd=0.0), "cannot be understood"),
        (lambda p: p["columns"][0].update(sd=-1.0), "cannot be understood"),
        (lambda p: p.update(clip=0.0), "cannot be understood"),
        (lambda p: p["columns"][4].update(values=["idle", "idle", "mill"]), "cannot be understood"),
        (lambda p: p["columns"][0].update(mean=5.0), "X of golden record 0 is not reproduced"),
        (lambda p: p["columns"][4]["values"].append("turn"), "takes rows of another width"),
    ],
)
def test_a_preprocessor_that_does_not_fit_is_refused(bundle: Path, change: Change, problem: str) -> None:
    preprocess = json.loads((bundle / "preprocess.json").read_bytes())
    change(preprocess)
    for column in preprocess["columns"]:
        if column.get("values") is ...:
            del column["values"]
    assert problem in str(error_of(rewrite(bundle, preprocess=json.dumps(preprocess).encode())))


def test_scores_that_are_not_reproduced_are_refused_with_both(bundle: Path) -> None:
    golden = golden_of(bundle)
    golden.raw_score[3] += 0.01
    error = error_of(rewrite(bundle, golden=golden.to_npz()))
    assert "golden.npz: raw_score of golden record 3 is not reproduced (expected " in str(error)
    assert error.expected == golden.raw_score[3]


def test_differences_within_the_tolerance_are_accepted(bundle: Path) -> None:
    golden = golden_of(bundle)
    golden.raw_score[:] += 5e-5
    assert load_bundle(rewrite(bundle, golden=golden.to_npz())).manifest.model == "machines"


def test_golden_nan_is_never_reproduced(bundle: Path) -> None:
    golden = golden_of(bundle)
    golden.X[0, 0] = np.nan
    assert "X of golden record 0 is not reproduced" in str(error_of(rewrite(bundle, golden=golden.to_npz())))


def test_a_golden_record_that_the_decoder_refuses_is_refused(bundle: Path) -> None:
    golden = golden_of(bundle)
    broken = Golden(records=(b"{", *golden.records[1:]), X=golden.X, raw_score=golden.raw_score)
    assert "golden record 0 is not accepted any more: not_json" in str(
        error_of(rewrite(bundle, golden=broken.to_npz()))
    )


def test_golden_rows_of_another_number_are_refused(bundle: Path) -> None:
    golden = golden_of(bundle)
    fewer = Golden(records=golden.records, X=golden.X[:-1], raw_score=golden.raw_score)
    assert "X of the golden records has another shape" in str(error_of(rewrite(bundle, golden=fewer.to_npz())))


def test_a_bundle_without_golden_records_proves_nothing_and_is_refused(bundle: Path) -> None:
    golden = golden_of(bundle)
    empty = Golden(records=(), X=golden.X[:0], raw_score=golden.raw_score[:0])
    assert "golden.npz: cannot be understood" in str(error_of(rewrite(bundle, golden=empty.to_npz())))


def test_golden_records_survive_npz() -> None:
    golden = Golden(
        records=(b'{"a":1}', b"", "größe\n".encode()),
        X=np.eye(3, dtype=np.float32),
        raw_score=np.arange(3, dtype=np.float32),
    )
    found = Golden.from_npz(golden.to_npz())
    assert found.records == golden.records
    assert (found.X == golden.X).all()
    assert (found.raw_score == golden.raw_score).all()


def test_an_existing_folder_is_never_written_over(bundle: Path) -> None:
    manifest, _ = read_manifest(bundle)
    with pytest.raises(FileExistsError):
        write_bundle(bundle, manifest, dict.fromkeys(FILES, b""))
