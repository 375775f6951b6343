"""The loop one would start with: `python -m tests.benchmarks.rivals.hand_written` and five arguments.

Arguments: BOOTSTRAP TOPIC RECORDS BUNDLE TARGET_ALERT_RATE.
`poll(max_records=500)`, `json.loads`, three `keras.predict` calls a poll, one send an alert, one commit a poll.
"""

from __future__ import annotations

import json
import sys
import time
import uuid

import keras
import numpy as np
import polars as pl
from kafka import KafkaConsumer, KafkaProducer
from numpy.typing import NDArray

from monitor.model.bundle import load_bundle
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions


class KerasScorer:
    """The score in three `keras.predict` calls, by networks of the preset `default`, untrained."""

    def __init__(self, n_columns: int) -> None:
        detector = EfficientGAN(n_columns, EfficientGANOptions.preset("default"), seed=0)
        self._networks = detector.members[0].networks

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """X float32 (n_rows, n_columns) → float32 (n_rows,)."""
        z = self._networks.encoder.predict(X, verbose=0)
        x_hat = self._networks.generator.predict(z, verbose=0)
        logits, _ = self._networks.discriminator.predict([X, z], verbose=0)
        score: NDArray[np.float32] = np.abs(X - x_hat).sum(axis=1) + np.asarray(logits).reshape(len(X))
        return score


def main(bootstrap: str, topic: str, records: int, bundle_path: str, target_alert_rate: float) -> None:
    """Works off the first records of the topic."""
    bundle = load_bundle(bundle_path)
    dtypes = {"numeric": pl.Float64, "categorical": pl.String, "boolean": pl.Boolean}
    schema = {feature.name: dtypes[feature.kind] for feature in bundle.schema.features}
    scorer = KerasScorer(bundle.preprocessor.n_columns)
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    done, first_done, first_at = 0, 0, 0.0
    while done < records:
        for batch in consumer.poll(timeout_ms=1000, max_records=500).values():
            frame = pl.DataFrame([json.loads(record.value) for record in batch], schema=schema)
            score = scorer.score(bundle.preprocessor.transform(frame).X)
            for row in np.flatnonzero(score >= np.quantile(score, 1 - target_alert_rate)).tolist():
                producer.send(f"{topic}-alerts", value=batch[row].value)
            consumer.commit()
            done += len(batch)
            if not first_at:
                first_at, first_done = time.perf_counter(), done
    rate = (done - first_done) / (time.perf_counter() - first_at)
    producer.close()
    consumer.close()
    print(json.dumps({"records_per_s": rate, "records": done}))


if __name__ == "__main__":
    keras.utils.disable_interactive_logging()
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
