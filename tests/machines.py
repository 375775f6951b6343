"""A small world for tests: machines whose sensors obey simple laws, and the model that was trained on them.

`python -m tests.machines` trains that model anew and writes it to `tests/data/machines`; it is committed, so that the fast
tests need no TensorFlow.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from monitor.model.schema import Schema

REGISTRY = Path(__file__).parent / "data" / "machines"
SCHEMA = Schema.from_mapping(
    {
        "name": "machines",
        "id": "reading_id",
        "key": "machine",
        "timestamp": {"field": "read_at"},
        "features": [
            {"name": "load", "kind": "numeric"},
            {"name": "motor.current_a", "kind": "numeric"},
            {"name": "motor.temperature_c", "kind": "numeric"},
            {"name": "pieces", "kind": "numeric", "missing": "reject"},
            {"name": "mode", "kind": "categorical"},
            {"name": "cooling", "kind": "boolean"},
        ],
    },
    "tests",
)
FEATURES_TOML = """name = "machines"
id = "reading_id"
key = "machine"
timestamp = { field = "read_at" }
features = [
  { name = "load", kind = "numeric" },
  { name = "motor.current_a", kind = "numeric" },
  { name = "motor.temperature_c", kind = "numeric" },
  { name = "pieces", kind = "numeric", missing = "reject" },
  { name = "mode", kind = "categorical" },
  { name = "cooling", kind = "boolean" },
]
"""


def readings(n: int, *, seed: int, anomalies: int = 0) -> pl.DataFrame:
    """n normal readings, the last `anomalies` of them broken: current and temperature no longer follow the load."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(["idle", "drill", "mill"], n, p=[0.2, 0.5, 0.3])
    load = np.where(mode == "idle", rng.uniform(0, 0.1, n), rng.uniform(0.3, 1.0, n))
    current = 2 + 30 * load + 5 * (mode == "mill") + rng.normal(0, 0.3, n)
    temperature = 25 + 1.5 * current + rng.normal(0, 0.8, n)
    broken = slice(n - anomalies, n)
    current[broken] = current[broken][::-1] + rng.choice([-12, 12], anomalies)
    temperature[broken] = 110 - temperature[broken]
    pieces = np.round(load * 200 + rng.normal(0, 4, n)).clip(0)
    return pl.DataFrame(
        {
            "load": load,
            "motor.current_a": current,
            "motor.temperature_c": temperature,
            "pieces": pieces,
            "mode": mode,
            "cooling": temperature > 60,
        }
    ).with_columns(pl.when(pl.int_range(pl.len()) % 50 == 7).then(None).otherwise(pl.col("load")).alias("load"))


def as_json(frame: pl.DataFrame, *, first_id: int = 0) -> list[bytes]:
    """The readings as records, as a machine would send them."""
    records = []
    for number, row in enumerate(frame.iter_rows(named=True), first_id):
        record = {
            "reading_id": f"r{number}",
            "machine": f"m{number % 5}",
            "read_at": "2026-03-01T08:00:00+01:00",
            "load": row["load"],
            "motor": {"current_a": row["motor.current_a"], "temperature_c": row["motor.temperature_c"]},
            "pieces": int(row["pieces"]),
            "mode": row["mode"],
            "cooling": row["cooling"],
        }
        records.append(msgspec.json.encode({key: value for key, value in record.items() if value is not None}))
    return records


def main() -> None:
    """Trains the model of the tests."""
    from monitor.model.registry import Registry
    from training.history import History
    from training.train import TrainingPlan, train_model

    history = History(frame=readings(6000, seed=1), source="tests.machines", times=None)
    options = {
        "steps": 1500,
        "latent_dim": 3,
        "encoder_widths": [32],
        "generator_widths": [32],
        "discriminator_width": 32,
    }
    with tempfile.TemporaryDirectory() as folder:
        train_model(history, SCHEMA, Registry(folder), TrainingPlan(options=options, seed=1))
        shutil.rmtree(REGISTRY, ignore_errors=True)
        shutil.copytree(folder, REGISTRY)


if __name__ == "__main__":
    main()
