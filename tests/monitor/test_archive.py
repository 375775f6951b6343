"""The archive: what is written, when, and what goes when there is too much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitor.archive.layout import (
    ALERT_ID,
    COLUMNS,
    OFFSET,
    Stratum,
    folder_of,
    list_strata,
    read_stratum,
    surplus,
)
from monitor.archive.reservoir import sampling_keys
from monitor.archive.sample import ScoredRows
from monitor.archive.writer import ArchiveOptions, ArchiveWriter, ClosedStratum, store_stratum
from monitor.errors import BundleError, ConfigError
from monitor.model.schema import Feature, Schema
from monitor.model.store import Store, open_store
from tests import machines

SCHEMA = machines.SCHEMA
START = 1_700_000_000.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def scored(n: int, first: int = 0, flagged: tuple[int, ...] = ()) -> ScoredRows:
    """n scored records from one partition, one a second."""
    offsets = np.arange(first, first + n)
    return ScoredRows(
        frame=machines.readings(n, seed=first),
        topic="features",
        partitions=np.zeros(n, dtype=np.int32),
        offsets=offsets,
        times=START + offsets.astype(np.float64),
        raw_score=np.ones(n, dtype=np.float32),
        p_value=np.full(n, 0.5),
        score=np.full(n, 5.0),
        model="v1",
        alert_ids={row: f"alert-{first + row}" for row in flagged},
    )


@pytest.fixture
def store(registry_url: str) -> Store:
    return open_store(registry_url, "archive")


def stored(store: Store, closed: ClosedStratum | None, options: ArchiveOptions, now: float = START) -> None:
    assert closed is not None
    store_stratum(store, "machines", SCHEMA, closed, options, now=now)


def read_all(store: Store, kind: str) -> list[pl.DataFrame]:
    strata = list_strata(store, folder_of("machines", SCHEMA, kind))  # type: ignore[arg-type]
    frames = [read_stratum(store, stratum, SCHEMA) for stratum in strata]
    assert all(frame is not None for frame in frames)
    return [frame for frame in frames if frame is not None]


def test_a_stratum_is_read_back_as_it_was_written(store: Store) -> None:
    options = ArchiveOptions()
    writer = ArchiveWriter(options)
    rows = scored(50, first=10, flagged=(3, 7))
    assert writer.add(rows.sample(np.inf)) is None
    stored(store, writer.close(), options)
    (sample,) = read_all(store, "sample")
    assert sample.columns == [*SCHEMA.feature_names, *COLUMNS]
    assert dict(sample.select(*COLUMNS).schema) == COLUMNS
    assert sample.select(SCHEMA.feature_names).equals(rows.frame)
    assert sample.get_column(OFFSET).to_list() == list(range(10, 60))
    assert sample.get_column(ALERT_ID).drop_nulls().to_list() == ["alert-13", "alert-17"]
    (flagged,) = read_all(store, "flagged")
    assert flagged.get_column(OFFSET).to_list() == [13, 17]
    (stratum,) = list_strata(store, folder_of("machines", SCHEMA, "sample"))
    assert (stratum.first, stratum.last, stratum.seen) == (1_700_000_010_000, 1_700_000_059_000, 50)


def test_records_of_several_partitions_keep_their_own_keys_and_alerts() -> None:
    rows = scored(6, flagged=(4,))
    mixed = replace(rows, partitions=np.array([0, 1, 0, 2, 1, 0], dtype=np.int32), offsets=np.array([7, 7, 8, 7, 9, 9]))
    for place, (partition, offset) in enumerate(zip(mixed.partitions, mixed.offsets, strict=True)):
        assert mixed.keys()[place] == sampling_keys("features", int(partition), np.array([offset]))[0]
    assert len(set(mixed.keys())) == 6
    assert mixed.columns(np.array([4, 5]))[ALERT_ID].tolist() == ["alert-4", None]


def test_a_stratum_is_bounded_however_many_records_it_stands_for(store: Store) -> None:
    options = ArchiveOptions(stratum_rows=100, stratum_flagged=10)
    writer = ArchiveWriter(options)
    for batch in range(20):
        assert writer.add(scored(500, first=500 * batch, flagged=tuple(range(0, 500, 5))).sample(writer.limit)) is None
    stored(store, writer.close(), options)
    (sample,), (flagged,) = read_all(store, "sample"), read_all(store, "flagged")
    assert (sample.height, flagged.height) == (100, 10)
    assert list_strata(store, folder_of("machines", SCHEMA, "sample"))[0].seen == 10_000
    assert list_strata(store, folder_of("machines", SCHEMA, "flagged"))[0].seen == 2_000
    assert 5 <= sample.get_column(ALERT_ID).drop_nulls().len() <= 40  # flagged ones in their natural share


def test_rows_that_were_chosen_before_a_stratum_ended_are_chosen_anew_for_the_next_one() -> None:
    writer = ArchiveWriter(ArchiveOptions(stratum_rows=100, stratum_records=2000))
    assert writer.add(scored(1000).sample(writer.limit)) is None
    in_flight = [scored(500, first=first).sample(writer.limit) for first in (1000, 1500, 2000, 2500)]
    assert all(len(sample.keys) < 200 for sample in in_flight)
    closed = [writer.add(sample) for sample in in_flight]
    assert [part is None for part in closed] == [True, False, True, True]
    last = writer.close()
    assert last is not None
    kept, seen = last.parts["sample"]
    smallest = np.sort(scored(1000, first=2000).keys())[:100]
    assert (kept.height, seen) == (100, 1000)
    assert set(sampling_keys("features", 0, kept.get_column(OFFSET).to_numpy())) == set(smallest)


def test_a_stratum_is_closed_by_its_number_of_records_or_by_time() -> None:
    clock = Clock()
    writer = ArchiveWriter(ArchiveOptions(stratum_records=1000, stratum_s=60), clock)
    assert writer.add(scored(999).sample(writer.limit)) is None
    assert writer.add(scored(1, first=999).sample(writer.limit)) is not None
    clock.now = 500.0
    assert writer.add(scored(10, first=1000).sample(writer.limit)) is None
    clock.now = 559.9
    assert writer.add(scored(10, first=1010).sample(writer.limit)) is None
    clock.now = 560.0
    closed = writer.add(scored(10, first=1020).sample(writer.limit))
    assert closed is not None
    rows, seen = closed.parts["sample"]
    assert (rows.height, seen) == (30, 30)
    assert writer.close() is None


def test_only_so_many_strata_are_kept(store: Store) -> None:
    options = ArchiveOptions(strata=5, stratum_rows=10)
    writer = ArchiveWriter(options)
    for number in range(12):
        writer.add(scored(20, first=100 * number, flagged=(1,)).sample(writer.limit))
        stored(store, writer.close(), options)
    for kind in ("sample", "flagged"):
        frames = read_all(store, kind)
        assert len(frames) == 5
        firsts = [int(frame.get_column(OFFSET).min()) // 100 for frame in frames]  # type: ignore[arg-type]
        assert firsts[-4:] == [8, 9, 10, 11]
        assert firsts[0] == 0


def test_what_is_too_old_goes(store: Store) -> None:
    options = ArchiveOptions(retention_s=3600)
    writer = ArchiveWriter(options)
    writer.add(scored(20).sample(writer.limit))
    stored(store, writer.close(), options, now=START + 100)
    writer.add(scored(20, first=5000).sample(writer.limit))
    stored(store, writer.close(), options, now=START + 5100)
    (sample,) = read_all(store, "sample")
    assert sample.get_column(OFFSET).min() == 5000


def strata(*firsts: int) -> list[Stratum]:
    return [Stratum(f"{first}", first, first + 1, 10) for first in firsts]


def test_old_strata_are_thinned_evenly_over_their_time() -> None:
    gone = surplus(strata(*range(100)), most=20, keep_after=0)
    kept = [stratum.first for stratum in strata(*range(100)) if stratum not in gone]
    assert len(kept) == 20
    assert kept[-14:] == list(range(86, 100))
    assert kept[0] == 0
    assert max(np.diff(kept[:7])) <= 32
    assert min(np.diff(kept[:7])) >= 8


def test_thinning_step_by_step_keeps_the_whole_time_covered() -> None:
    kept: list[Stratum] = []
    for first in range(500):
        kept = [*kept, *strata(first)]
        gone = surplus(kept, most=20, keep_after=0)
        kept = [stratum for stratum in kept if stratum not in gone]
        assert len(kept) <= 20
    firsts = [stratum.first for stratum in kept]
    assert firsts[0] == 0
    assert firsts[-14:] == list(range(486, 500))
    assert max(np.diff(firsts[:7])) <= 260


@pytest.mark.parametrize(("most", "left"), [(1, [9]), (2, [8, 9]), (3, [0, 8, 9])])
def test_even_the_smallest_archive_keeps_the_newest(most: int, left: list[int]) -> None:
    gone = surplus(strata(*range(10)), most=most, keep_after=0)
    kept = [stratum.first for stratum in strata(*range(10)) if stratum not in gone]
    assert kept[-1] == 9
    assert len(kept) == most
    assert len(kept) == len(left)


def test_foreign_files_are_overlooked_and_damaged_ones_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    folder = folder_of("machines", SCHEMA, "sample")
    store.write(f"{folder}/README.md", b"")
    assert list_strata(store, folder) == []
    store.write(f"{folder}/1700000000000-1700000001000-5-a1.parquet", b"half")
    (stratum,) = list_strata(store, folder)
    with pytest.raises(BundleError, match=r"5-a1\.parquet: is not a sound archive file: "):
        read_stratum(store, stratum, SCHEMA)
    store.remove(stratum.path)
    assert read_stratum(store, stratum, SCHEMA) is None


def test_rows_of_another_schema_lie_elsewhere() -> None:
    other = Schema(name="machines", features=SCHEMA.features[1:])
    assert folder_of("machines", other, "sample") != folder_of("machines", SCHEMA, "sample")


def test_a_feature_must_not_be_called_like_a_column_of_the_archive() -> None:
    schema = Schema(name="s", features=(Feature(name="ganwatch_score", kind="numeric"),))
    with pytest.raises(ConfigError, match="features must not be called ganwatch_score"):
        folder_of("s", schema, "sample")


def test_arrays_are_read_back_as_they_were_written(store: Store) -> None:
    schema = Schema(name="images", features=(Feature(name="image", kind="array", shape=(2, 3)),))
    cells = pl.Series("image", np.arange(24.0).reshape(4, 6)).set(pl.Series([False, True, False, False]), None)
    writer = ArchiveWriter(ArchiveOptions(stratum_rows=3))
    assert writer.add(replace(scored(4, flagged=(2,)), frame=cells.to_frame()).sample(np.inf)) is None
    closed = writer.close()
    assert closed is not None
    store_stratum(store, "images", schema, closed, ArchiveOptions(), now=START)
    (stratum,) = list_strata(store, folder_of("images", schema, "flagged"))
    flagged = read_stratum(store, stratum, schema)
    assert flagged is not None
    assert flagged["image"].equals(cells[2:3])
    (stratum,) = list_strata(store, folder_of("images", schema, "sample"))
    sample = read_stratum(store, stratum, schema)
    assert sample is not None
    assert sample["image"].equals(cells[sample[OFFSET].to_numpy()])
