"""The quick version of `make fuzz`: every seed of every target and random changes of them; and the fuzzer finds what is planted."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.errors import BundleError, ConfigError
from monitor.model.bundle import FILES, Bundle, load_bundle, read_manifest, write_bundle
from monitor.model.decode import Decoder
from monitor.model.inference import infer_schema
from monitor.model.schema import Schema
from monitor.model.tables import read_sample
from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS, records_schema

EXAMPLES = {"bundle": 60, "decoder": 200}


@cache
def started(name: str) -> Callable[[bytes], None]:
    return TARGETS[name].start()


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_escapes_the_errors_of_our_own(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert len(seeds) > 1
    for seed in seeds:
        started(name)(seed[: TARGETS[name].max_bytes])


@pytest.mark.parametrize("name", TARGETS)
def test_no_changed_seed_escapes_the_errors_of_our_own(name: str) -> None:
    seeds, tokens = TARGETS[name].seeds(), TARGETS[name].tokens
    changes = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(tokens) | st.binary(max_size=3), st.booleans()))

    @settings(
        deadline=None, max_examples=EXAMPLES.get(name, 40), suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sampled_from(seeds), changes)
    def survives(seed: bytes, places: list[tuple[int, bytes, bool]]) -> None:
        data = bytearray(seed)
        for place, piece, inserts in places:
            start = place % (len(data) + 1)
            data[start : start if inserts else start + len(piece)] = piece
        started(name)(bytes(data[: TARGETS[name].max_bytes]))

    survives()


def test_a_damaged_network_with_the_right_digest_is_refused_or_scores_and_never_ends_the_process(
    machines_bundle: Bundle, tmp_path: Path
) -> None:
    manifest, _ = read_manifest(machines_bundle.path)
    contents = {name: (machines_bundle.path / name).read_bytes() for name in FILES}
    refused = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        network = bytearray(contents["scorer.tflite"])
        for _ in range(3):
            network[chance.integers(len(network))] ^= 1 << chance.integers(8)
        folder = tmp_path / str(seed)
        write_bundle(folder, manifest, contents | {"scorer.tflite": bytes(network)})
        try:
            load_bundle(folder)
        except BundleError:
            refused += 1
    assert refused > 20


def test_arrays_that_would_unfold_to_much_memory_are_refused_unread(machines_bundle: Bundle, tmp_path: Path) -> None:
    bomb = io.BytesIO()
    np.savez_compressed(bomb, scores=np.zeros(10_000_000, dtype=np.float32), tail=np.zeros(0))
    assert len(bomb.getvalue()) < 100_000
    contents = {name: (machines_bundle.path / name).read_bytes() for name in FILES}
    manifest, _ = read_manifest(machines_bundle.path)
    write_bundle(tmp_path / "bomb", manifest, contents | {"calibration.npz": bomb.getvalue()})
    with pytest.raises(BundleError, match=r"calibration\.npz: cannot be understood: scores\.npy is compressed"):
        load_bundle(tmp_path / "bomb")


def test_an_archive_whose_member_is_no_array_is_refused(machines_bundle: Bundle, tmp_path: Path) -> None:
    contents = {name: (machines_bundle.path / name).read_bytes() for name in FILES}
    archive = io.BytesIO(contents["calibration.npz"])
    with zipfile.ZipFile(archive) as old:
        scores = old.read("scores.npy")
    wrong = io.BytesIO()
    with zipfile.ZipFile(wrong, "w") as new:
        new.writestr("scores.npy", scores)
        new.writestr("tail.npy", b"not an array")
    manifest, _ = read_manifest(machines_bundle.path)
    write_bundle(tmp_path / "wrong", manifest, contents | {"calibration.npz": wrong.getvalue()})
    with pytest.raises(BundleError, match=r"calibration\.npz: cannot be understood"):
        load_bundle(tmp_path / "wrong")


@pytest.mark.parametrize(
    "pack", [gzip.compress, zlib.compress, zstandard.compress, lambda text: zlib.compress(text)[:9]]
)
def test_a_packed_record_is_never_unpacked_alone_or_first_of_a_batch(pack: Callable[[bytes], bytes]) -> None:
    decoder = Decoder(records_schema(), 1_000_000)
    bomb = pack(b'{"v":1,"z":"' + b" " * 10_000 + b'"}')
    for records in ([bomb], [bomb, b'{"v":2}']):
        decoded = decoder.decode(records)
        assert decoded.frame["v"].to_list() == [2.0] * (len(records) - 1)
        assert [row for row, _ in decoded.invalid] == [0]


@pytest.mark.parametrize("name", ["*", "^v$", "a.*", "a.^b$"])
def test_a_feature_whose_name_polars_takes_for_a_pattern_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"features\.0\.name"):
        Schema.from_mapping({"name": "t", "features": [{"name": name, "kind": "numeric"}]}, "tests")


def test_columns_of_a_file_may_bear_names_that_look_like_patterns(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("v,*,^v$\n1,2,3\n")
    sample = read_sample(tmp_path / "file.csv", 10)
    assert sample.to_dict(as_series=False) == {"v": [1], "*": [2], "^v$": [3]}
    findings = infer_schema(sample, "t").findings
    assert [finding.verdict for finding in findings] == ["numeric", "bad_name", "bad_name"]


def test_the_campaign_finds_a_planted_defect_and_keeps_its_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("atheris", reason="atheris is not installed")
    monkeypatch.setattr("tests.fuzz.__main__.KEPT", tmp_path / "kept")
    outcome = fuzz("planted", "-runs=20000")
    assert outcome.finding is not None
    assert outcome.finding.startswith("KeyError: 'planted'")
    (kept,) = (tmp_path / "kept").glob("planted-crash-*")
    assert kept.read_bytes().lstrip().startswith(b"[")
