"""Quix Streams in its batching form, a `BatchingSink`: `python -m tests.benchmarks.rivals.quix_streams` and five arguments.

Arguments: BOOTSTRAP TOPIC RECORDS BUNDLE TARGET_ALERT_RATE.
A checkpoint every 8,192 records hands the sink one batch; values stay bytes; state is off.
"""

from __future__ import annotations

import logging
import sys
import uuid
from typing import Any

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from tests.benchmarks.rivals.scoring import BatchScorer

BATCH_ROWS = 8192


class ScoringSink(BatchingSink):  # type: ignore[misc]
    """Scores each batch and sends its alerts before the offsets are committed."""

    def __init__(self, scorer: BatchScorer, producer: Any, topic: str) -> None:
        super().__init__()
        self._scorer, self._producer, self._topic = scorer, producer, topic

    def write(self, batch: SinkBatch) -> None:
        for alert in self._scorer.alerts([item.value for item in batch]):
            self._producer.produce(self._topic, value=alert)
        self._producer.flush()


def main(bootstrap: str, topic: str, records: int, bundle: str, target_alert_rate: float) -> None:
    """Works off the topic once."""
    scorer = BatchScorer(bundle, target_alert_rate)
    application = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        commit_every=BATCH_ROWS,
        commit_interval=60,
        consumer_extra_config={"fetch.min.bytes": 1, "queued.min.messages": 100_000, "check.crcs": False},
        producer_extra_config={"linger.ms": 2, "compression.type": "lz4"},
        loglevel=logging.WARNING,
    )
    stream = application.dataframe(application.topic(topic, value_deserializer="bytes", key_deserializer="bytes"))
    stream.sink(ScoringSink(scorer, application.get_producer(), f"{topic}-alerts"))
    application.run(count=records, timeout=20)
    scorer.report()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
