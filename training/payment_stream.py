"""The simulated stream: days of card payments with planted fraud, as a table, as JSON records, and with their schema.

The truth (label and kind of fraud) is kept beside the records, never in them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.errors import ConfigError
from monitor.model.schema import Schema
from training.fraud import FRAUDS
from training.payments import CATEGORY_NAMES, COUNTRIES, SEGMENTS, Columns, draw_cards, draw_payments

NORMAL = "normal"
ZONE = "+01:00"  # of `paid_at`, all year; `hour` is the hour there

FEATURES_TOML = """\
# Simulated card payments, as `ganwatch simulate` publishes them.
name = "payments"
id = "payment_id"
key = "card_id"
timestamp = { field = "paid_at" }

features = [
  { name = "amount", kind = "numeric" },                  # euro
  { name = "channel", kind = "categorical" },             # online, contactless, chip
  { name = "hour", kind = "numeric" },                    # of the day, 0 to 23
  { name = "strong_auth", kind = "boolean" },             # PIN or second factor
  { name = "tx_last_hour", kind = "numeric" },            # payments of the card in the last hour
  { name = "amount_last_day", kind = "numeric" },         # their sum over the last day, euro
  { name = "minutes_since_last", kind = "numeric" },      # missing for a card's first payment
  { name = "km_from_home", kind = "numeric" },            # of the terminal or the paying device
  { name = "last_abroad", kind = "boolean" },             # where the last payment was made
  { name = "card.country", kind = "categorical" },
  { name = "card.segment", kind = "categorical" },
  { name = "card.usual_amount", kind = "numeric" },       # euro
  { name = "card.limit", kind = "numeric" },              # euro
  { name = "merchant.region", kind = "categorical" },     # seen from the card's country
  { name = "merchant.category", kind = "categorical" },
  { name = "merchant.usual_amount", kind = "numeric" },   # euro; sometimes unknown
  { name = "merchant.new", kind = "boolean" },            # first payment of the card there
]
"""


def payments_schema() -> Schema:
    """The schema of the stream; FEATURES_TOML is its text."""
    return Schema.from_mapping(tomllib.loads(FEATURES_TOML), "the simulated payments")


@dataclass(frozen=True)
class SimulationConfig:
    """What the stream depends on, and nothing else: equal configurations give equal streams.

    Attributes:
        seed: of cards and payments.
        anomaly_share: expected share of fraudulent payments, spread evenly over the kinds.
        n_cards: cards in the programme.
        payments_per_day: records that make up a day; the stream is a sequence of days.
        first_day: date of day 0.
        unknown_ticket: share of payments whose merchant's usual amount is missing.
    """

    seed: int = 0
    anomaly_share: float = 0.02
    n_cards: int = 5000
    payments_per_day: int = 4000
    first_day: date = date(2026, 1, 5)
    unknown_ticket: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.anomaly_share <= 1:
            raise ConfigError("simulation", f"anomaly_share: expected 0 to 1, got {self.anomaly_share:g}")


@dataclass(frozen=True)
class LabelledPayments:
    """Records and, beside them, the truth.

    Attributes:
        table: a row a payment: payment_id, card_id, paid_at, then the features by their dotted names.
        kind: text (n,): a name in FRAUDS, or NORMAL.
    """

    table: pl.DataFrame
    kind: NDArray[np.str_]

    @property
    def label(self) -> NDArray[np.int64]:
        """Int (n,): 1 = fraud."""
        return np.where(self.kind == NORMAL, 0, 1)

    @property
    def ids(self) -> list[str]:
        """The payment_id of every row."""
        return self.table.get_column("payment_id").to_list()

    @classmethod
    def concat(cls, parts: Sequence[LabelledPayments]) -> LabelledPayments:
        """One after the other."""
        return cls(pl.concat([part.table for part in parts]), np.concatenate([part.kind for part in parts]))

    def __getitem__(self, rows: slice) -> LabelledPayments:
        return LabelledPayments(self.table[rows], self.kind[rows])


def simulate_day(config: SimulationConfig, day: int) -> LabelledPayments:
    """Draws one day of the stream, in the order of time; it does not depend on the days before."""
    cards = draw_cards(np.random.default_rng([config.seed, 0]), config.n_cards)
    rng = np.random.default_rng([config.seed, 1, day])
    n = config.payments_per_day
    payments = draw_payments(rng, cards, n)
    share = config.anomaly_share / len(FRAUDS)
    kind = rng.choice([NORMAL, *FRAUDS], n, p=[1.0 - config.anomaly_share, *[share] * len(FRAUDS)])
    for name, fraud in FRAUDS.items():
        rows = np.flatnonzero(kind == name)
        changed = fraud(rng, {field: column[rows] for field, column in payments.items()})
        for field, column in payments.items():
            column[rows] = changed[field]
    payments["merchant.usual_amount"][rng.random(n) < config.unknown_ticket] = np.nan
    order = np.argsort(payments["hour"], kind="stable")
    return LabelledPayments(
        _to_table(config, day, {field: column[order] for field, column in payments.items()}), kind[order]
    )


def simulate_payments(config: SimulationConfig, n: int, first_day: int = 0) -> LabelledPayments:
    """Draws `n` payments, beginning with day `first_day`."""
    n_days = max(1, -(-n // config.payments_per_day))
    return LabelledPayments.concat([simulate_day(config, first_day + day) for day in range(n_days)])[:n]


def _to_table(config: SimulationConfig, day: int, payments: Columns) -> pl.DataFrame:
    first_id = day * config.payments_per_day
    midnight = datetime.combine(config.first_day + timedelta(days=day), datetime.min.time())
    since_midnight = pl.Series(np.round(payments["hour"] * 3.6e6).astype(np.int64)).cast(pl.Duration("ms"))
    named = payments | {
        "payment_id": np.array([f"p{first_id + row:010d}" for row in range(len(payments["hour"]))]),
        "card_id": np.array([f"c{card:06d}" for card in payments["card"]]),
        "paid_at": (since_midnight + midnight).dt.strftime(f"%Y-%m-%dT%H:%M:%S%.3f{ZONE}").to_numpy(),
        "hour": np.floor(payments["hour"]).astype(np.int64),
        "card.country": np.array([country.code for country in COUNTRIES])[payments["card.country"]],
        "card.segment": np.array([segment.name for segment in SEGMENTS])[payments["card.segment"]],
        "merchant.category": np.array(CATEGORY_NAMES)[payments["merchant.category"]],
    }
    fields = ("payment_id", "card_id", "paid_at", *payments_schema().feature_names)
    return pl.DataFrame({field: named[field] for field in fields}).fill_nan(None)


def encode_records(table: pl.DataFrame) -> list[bytes]:
    """The rows as JSON objects; dotted columns become nested objects, missing values null."""
    record = _object("", table.columns)
    text = table.select(record.struct.json_encode().alias("json")).get_column("json")
    return [line.encode() for line in text]


def _object(prefix: str, columns: Sequence[str]) -> pl.Expr:
    """The object whose fields are the columns under `prefix` (empty, or a dotted path that ends in a dot)."""
    fields: dict[str, pl.Expr] = {}
    for column in columns:
        name, dot, _ = column.removeprefix(prefix).partition(".")
        if not dot:
            fields[name] = pl.col(column).alias(name)
        elif name not in fields:
            inside = f"{prefix}{name}."
            fields[name] = _object(inside, [other for other in columns if other.startswith(inside)]).alias(name)
    return pl.struct(list(fields.values()))
