"""Bytewax in its batching form, `flat_map_batch`: `python -m tests.benchmarks.rivals.bytewax_flow` and five arguments.

Arguments: BOOTSTRAP TOPIC RECORDS BUNDLE TARGET_ALERT_RATE.
The source hands on up to 8,192 records at a time; the flow ends at the end of the topic.
"""

from __future__ import annotations

import sys
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from tests.benchmarks.rivals.scoring import BatchScorer

BATCH_ROWS = 8192


def main(bootstrap: str, topic: str, records: int, bundle: str, target_alert_rate: float) -> None:
    """Works off the topic once."""
    scorer = BatchScorer(bundle, target_alert_rate)

    def score(messages: list[Any]) -> list[KafkaSinkMessage[None, bytes]]:
        return [KafkaSinkMessage(None, alert) for alert in scorer.alerts([message.value for message in messages])]

    flow = Dataflow("scoring")
    source = KafkaSource(
        [bootstrap], [topic], tail=False, batch_size=BATCH_ROWS, add_config={"queued.min.messages": "100000"}
    )
    alerts = op.flat_map_batch("score", op.input("features", flow, source), score)
    op.output("alerts", alerts, KafkaSink([bootstrap], f"{topic}-alerts", add_config={"compression.type": "lz4"}))
    cli_main(flow)
    if scorer.rows < records:
        sys.exit(f"only {scorer.rows} of {records} records came")
    scorer.report()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
