"""What a running daemon leaves for those who retrain: a sample of the records, and word that they have changed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

from monitor.archive.layout import ALERT_ID, OFFSET, folder_of, list_strata, read_stratum
from monitor.events import event_schema
from monitor.model.store import open_store
from tests import machines
from tests.broker.conftest import Stream
from tests.machines import as_json, readings
from tests.topics import publish, read_alerts, read_all

pytestmark = pytest.mark.broker


def archived(folder: Path, kind: str) -> pl.DataFrame:
    store = open_store(str(folder), "archive")
    strata = list_strata(store, folder_of("machines", machines.SCHEMA, kind))  # type: ignore[arg-type]
    frames = [read_stratum(store, stratum, machines.SCHEMA) for stratum in strata]
    return pl.concat([frame for frame in frames if frame is not None])


def test_the_archive_holds_a_sample_of_what_was_scored_and_every_alert_of_it(stream: Stream, tmp_path: Path) -> None:
    records = as_json(readings(4000, seed=92, anomalies=40))
    publish(stream.kafka.bootstrap, stream.features, [*records, b"no json"])
    folder = tmp_path / "archive"
    settings = {"archive": folder, "archive_stratum_records": 1500, "archive_stratum_rows": 300, "max_rows": 500}
    with stream.daemon(**settings) as daemon:
        daemon.wait_until_done(4001)
        assert daemon.stop()[0] == 0  # which stores the last stratum
    sample = archived(folder, "sample")
    assert sample.height == 3 * 300
    assert sample.get_column(OFFSET).n_unique() == sample.height
    assert sample.get_column(OFFSET).max() > 3000  # type: ignore[operator]
    expected = readings(4000, seed=92, anomalies=40).get_column("load").to_numpy()
    assert np.allclose(
        sample.get_column("load").to_numpy(), expected[sample.get_column(OFFSET).to_numpy()], equal_nan=True
    )
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    flagged = archived(folder, "flagged")
    assert set(flagged.get_column(ALERT_ID)) == {alert["id"] for alert in alerts}


def test_an_archive_that_cannot_be_written_costs_no_record_and_is_counted(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("a file, where a folder is expected")
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(2000, seed=93)))
    with stream.daemon(archive=tmp_path / "archive", archive_stratum_records=500, max_rows=100) as daemon:
        daemon.wait_until_done(2000)
        daemon.wait_until(
            lambda: daemon.metrics()['ganwatch_archived_rows_total{outcome="failed"}'] > 0, "counting what was lost"
        )
        assert daemon.stop()[0] == 0


def test_records_that_change_are_announced_within_five_hundred_of_them(stream: Stream) -> None:
    events = stream.kafka.new_topic("model-events")
    before, after = readings(6000, seed=94), readings(2000, seed=95)
    after = after.with_columns((pl.col("motor.temperature_c") + 4.0).alias("motor.temperature_c"))
    publish(stream.kafka.bootstrap, stream.features, [*as_json(before), *as_json(after)])
    with stream.daemon(model_events_topic=events, attribution_top_k=1) as daemon:
        daemon.wait_until_done(8000)
        assert daemon.metrics()['ganwatch_drifts_total{kind="abrupt"}'] >= 1
    first = json.loads(read_all(stream.kafka.bootstrap, events)[0].value)
    jsonschema.validate(first, event_schema())
    assert (first["kind"], first["model"]) == ("drift", "machines")
    assert 6000 < first["detail"]["at_record"] <= 6500
