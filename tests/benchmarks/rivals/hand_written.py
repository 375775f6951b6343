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

from monitor.model.bundle import load_bundle
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.networks import dense_encoder, dense_generator, joint_discriminator

LATENT_DIM = 32


def main(bootstrap: str, topic: str, records: int, bundle_path: str, target_alert_rate: float) -> None:
    """Works off the first records of the topic."""
    bundle = load_bundle(bundle_path)
    dtypes = {"numeric": pl.Float64, "categorical": pl.String, "boolean": pl.Boolean}
    schema = {feature.name: dtypes[feature.kind] for feature in bundle.schema.features}
    width = bundle.preprocessor.n_columns
    options, rng = EfficientGANOptions.preset("default"), np.random.default_rng(0)
    encoder = dense_encoder(width, LATENT_DIM, options.encoder_widths, rng)
    generator = dense_generator(width, LATENT_DIM, options.generator_widths, rng)
    discriminator = joint_discriminator(width, LATENT_DIM, options.discriminator_width, options.dropout, rng)
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
            X = bundle.preprocessor.transform(frame).X
            z = encoder.predict(X, verbose=0)
            x_hat = generator.predict(z, verbose=0)
            logits = discriminator.predict([X, z], verbose=0)
            score = np.abs(X - x_hat).sum(axis=1) + np.asarray(logits[0]).reshape(len(X))
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
