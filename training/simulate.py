"""prototype"""
from __future__ import annotations
from dataclasses import dataclass
import numpy as np, polars as pl
from training.fraud import KINDS
from training.payments import *
from training.payments import draw_cards, draw_payments

def table(p, rng):
    n = len(p["amount"])
    last = np.concatenate([COUNTRY_CODES, [None]])[p["last_country"]]
    mu = np.round(p["merchant.usual_amount"], 2)
    d = pl.DataFrame({
      "amount": p["amount"], "currency": CURRENCIES[p["merchant.country"]], "channel": p["channel"],
      "hour": np.floor(p["hour"]).astype(int), "strong_auth": p["strong_auth"], "tx_last_hour": p["tx_last_hour"],
      "amount_last_day": p["amount_last_day"], "minutes_since_last": p["minutes_since_last"], "km_from_home": p["km_from_home"],
      "last_country": pl.Series(last.tolist(), dtype=pl.String), "card.country": COUNTRY_CODES[p["card.country"]], "card.segment": SEGMENT_NAMES[p["card.segment"]],
      "card.usual_amount": p["card.usual_amount"], "card.limit": p["card.limit"],
      "merchant.country": COUNTRY_CODES[p["merchant.country"]], "merchant.category": CATEGORY_NAMES[p["merchant.category"]],
      "merchant.usual_amount": mu, "merchant.new": p["merchant.new"]}).with_columns(pl.col("minutes_since_last").fill_nan(None))
    return d
