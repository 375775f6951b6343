"""Slow poisoning: at each of 20 retrainings another 5 % of the rows are crafted, each time a little more daring.

The attacker wants couplings between features to be forgotten: crafted rows carry temperatures and piece counts of other rows,
first of similar ones, later of any. They stay in the history, at most 12 lots of them. The same attack runs twice: through the
gate as it is, and with its anchor left out, where it must succeed, else it proves nothing.

    python -m tests.benchmarks.poisoning
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from monitor.model.registry import Registry
from tests import machines
from tests.benchmarks.goals import Goals, report
from training.challenger import train_challenger
from training.gate import GateLimits
from training.history import History
from training.material import RetrainingData
from training.retrain import RetrainPlan, retrain
from training.suite import read_reference
from training.train import TrainingPlan, find_devices

ROWS, SHARE, MOST_LOTS = 4000, 0.05, 12
DARING_STEP = 0.1
PLAN = TrainingPlan(
    options={
        "steps": 1200,
        "latent_dim": 3,
        "encoder_widths": [32],
        "generator_widths": [32],
        "discriminator_width": 32,
    }
)
GOALS: Goals = {
    "auroc_fall_with_anchor": lambda fall: fall <= 0.02,
    "auroc_fall_without_anchor": lambda fall: fall >= 0.05,
    "refused_with_anchor": lambda times: times >= 1,
}


def craft(n: int, daring: float, rng: np.random.Generator) -> pl.DataFrame:
    """Readings whose temperature and pieces belong to rows of a similar load; at `daring` 1 and beyond to any row."""
    frame = machines.readings(n, seed=int(rng.integers(2**31))).sort("motor.current_a")
    mixed = {
        name: frame[name].gather(np.argsort(np.arange(n) + daring * n * rng.normal(size=n)))
        for name in ("motor.temperature_c", "pieces")
    }
    return frame.with_columns(**mixed)


def rows_of(number: int, lots: list[pl.DataFrame]) -> RetrainingData:
    """The history at a retraining: readings of that time, and what the attacker has sent so far, in between."""
    bad = pl.concat(lots[-MOST_LOTS:]) if lots else machines.readings(0, seed=0)
    rows = pl.concat([machines.readings(ROWS - bad.height, seed=100 + number), bad])
    rows = rows[np.random.default_rng(number).permutation(ROWS)]
    return RetrainingData(History(frame=rows, source="stream", times=1.7e9 + 60.0 * (number * ROWS + np.arange(ROWS))))


def measure_auroc(registry: Registry) -> float:
    """Of the present champion on the frozen suite."""
    last = registry.last_promotion("machines")
    if last is None or last.anchor is None:
        raise RuntimeError("the first retraining made no champion")
    reference = read_reference(registry.store, "machines", last.anchor, machines.SCHEMA)
    if reference is None:
        raise RuntimeError("no reference was frozen")
    bundle = registry.load("machines", last.champion)
    score = bundle.scorer.score(bundle.preprocessor.transform(reference.suite.rows).X)
    return float(roc_auc_score(reference.suite.labels, score))


def attack(limits: GateLimits, retrainings: int) -> tuple[float, int]:
    """How far the AUROC on the frozen suite fell at worst, and how often the gate refused."""
    rng, lots, refused = np.random.default_rng(0), [], 0
    plan = RetrainPlan(model="machines", schema=machines.SCHEMA, target_alert_rate=0.02, limits=limits)

    def train(history: History, folder: Path) -> Path:
        return train_challenger(history, folder, schema=machines.SCHEMA, model="machines", plan=PLAN)

    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(folder)
        retrain(registry, plan, read=lambda: rows_of(0, []), train=train)
        first = measure_auroc(registry)
        fall = 0.0
        for number in range(1, retrainings + 1):
            lots.append(craft(round(SHARE * ROWS), DARING_STEP * number, rng))
            result = retrain(registry, plan, read=lambda: rows_of(number, lots), train=train)  # noqa: B023 - used at once
            refused += result.outcome == "refused"
            auroc = measure_auroc(registry)
            fall = max(fall, first - auroc)
            print(f"{number:>3} {result.outcome:<9} AUROC {auroc:.4f}  {result.reason[:90]}", flush=True)
    return fall, refused


def main() -> int:
    """Attacks twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retrainings", type=int, default=20)
    arguments = parser.parse_args()
    find_devices()
    figures: dict[str, float] = {"retrainings": arguments.retrainings, "crafted_share_a_retraining": SHARE}
    for name, limits in (("with_anchor", GateLimits()), ("without_anchor", GateLimits(anchor_fall=None))):
        print(name.replace("_", " "))
        fall, refused = attack(limits, arguments.retrainings)
        figures |= {f"auroc_fall_{name}": round(fall, 4), f"refused_{name}": refused}
    return report(figures, GOALS)


if __name__ == "__main__":
    sys.exit(main())
