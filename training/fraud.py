"""Four kinds of card fraud, planted into ordinary payments.

Each starts from an ordinary payment of the victim and changes what the thief controls. Every single value that results
is common among honest payments; what gives a fraud away are *relations* between fields. So no rule on one field finds
it, and a model of the joint distribution can. A test measures this for each kind and field.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.payments import (
    CATEGORY_NAMES,
    COUNTRIES,
    Column,
    Columns,
    draw_amount,
    draw_channel,
    draw_distance,
    draw_hour,
    draw_usual_ticket,
)

FIRST_HOUR = 5.0  # before it hardly anybody pays
Fraud = Callable[[np.random.Generator, Columns], Columns]


def stolen_card_abroad(rng: np.random.Generator, payments: Columns) -> Columns:
    """A copied card pays in shops of another country while its owner is at home; the copy knows no PIN.

    Broken: distance against where and when the last payment was; amount against the merchant's usual one; no PIN for an
    inserted card; hour against category.
    """
    n = len(payments["amount"])
    stolen = payments | {
        "online": np.zeros(n, dtype=bool),
        "strong_auth": rng.random(n) < 0.05,
        "merchant.region": np.full(n, "intra_eea"),
        "merchant.new": rng.random(n) < 0.9,
        "tx_last_hour": 1 + rng.poisson(1.0, n),
        "minutes_since_last": _draw_minutes(rng, n, median=30.0, spread=0.5),
    }
    stolen |= _move_abroad(rng, payments)
    stolen |= _choose_shop(rng, stolen, {"grocery": 4, "fuel": 2, "transport": 2, "kiosk": 2})
    stolen["hour"] = _draw_odd_hour(rng, stolen["hour"])
    stolen["amount"] = _draw_raised_amount(rng, stolen, factor=5.0)
    stolen["channel"] = draw_channel(rng, stolen)
    stolen["km_from_home"] = draw_distance(rng, stolen)
    return stolen


def card_testing(rng: np.random.Generator, payments: Columns) -> Columns:
    """A bot tries stolen numbers in expensive web shops with tiny amounts, several within minutes, at any hour.

    Broken: amount against the merchant's usual one; sum of the day against number of payments and the owner's means;
    hour against category.
    """
    n = len(payments["amount"])
    last_hour = 1 + rng.poisson(2.5, n)
    tested = payments | {
        "online": np.ones(n, dtype=bool),
        "channel": np.full(n, "online"),
        "strong_auth": rng.random(n) < 0.03,
        "amount": np.round(np.clip(4.5 * rng.lognormal(0.0, 0.4, n), 0.5, 20.0), 2),
        "merchant.region": np.where(rng.random(n) < 0.6, "inter_regional", "domestic"),
        "merchant.new": rng.random(n) < 0.85,
        "tx_last_hour": last_hour,
        "amount_last_day": np.round(last_hour * 5.0 * rng.lognormal(0.0, 0.3, n), 2),
        "minutes_since_last": _draw_minutes(rng, n, median=8.0, spread=0.6),
    }
    tested |= _choose_shop(rng, tested, {"fashion": 5, "electronics": 4, "hotel": 3})
    tested["hour"] = rng.uniform(FIRST_HOUR, 24.0, n)
    return tested


def account_takeover(rng: np.random.Generator, payments: Columns) -> Columns:
    """Somebody far away has the online account and buys what is easily resold, above the owner's means.

    Broken: amount against the merchant's usual one; distance against the last payment; sum of the day against the
    owner's means; no second factor for large amounts; hour against category.
    """
    n = len(payments["amount"])
    taken = payments | {
        "online": np.ones(n, dtype=bool),
        "channel": np.full(n, "online"),
        "strong_auth": rng.random(n) < 0.2,
        "merchant.region": np.full(n, "domestic"),
        "merchant.new": rng.random(n) < 0.7,
        "tx_last_hour": 1 + rng.poisson(1.0, n),
        "minutes_since_last": _draw_minutes(rng, n, median=15.0, spread=0.6),
    }
    taken |= _move_abroad(rng, payments)
    taken |= _choose_shop(rng, taken, {"hotel": 2, "fashion": 4, "digital": 4, "transport": 2})
    taken["hour"] = _draw_odd_hour(rng, taken["hour"])
    taken["km_from_home"] = draw_distance(rng, taken)
    taken["amount"] = _draw_raised_amount(rng, taken, factor=7.0)
    taken["amount_last_day"] = _sum_alike(rng, taken)
    return taken


def merchant_collusion(rng: np.random.Generator, payments: Columns) -> Columns:
    """A small shop turns borrowed cards into cash: many times its usual ticket, with PIN, in a row, when trade is slow.

    Broken: amount against the merchant's usual one; hour and pace against category; chip and PIN where people tap.
    """
    n = len(payments["amount"])
    faked = payments | {
        "travelling": np.zeros(n, dtype=bool),
        "last_abroad": np.zeros(n, dtype=bool),
        "online": np.zeros(n, dtype=bool),
        "channel": np.where(rng.random(n) < 0.6, "chip", "contactless"),
        "strong_auth": rng.random(n) < 0.9,
        "merchant.region": np.full(n, "domestic"),
        "merchant.new": rng.random(n) < 0.4,
        "tx_last_hour": 1 + rng.poisson(2.5, n),
        "minutes_since_last": _draw_minutes(rng, n, median=8.0, spread=0.6),
    }
    faked |= _choose_shop(rng, faked, {"kiosk": 4, "restaurant": 1, "grocery": 2, "transport": 2})
    faked["hour"] = _draw_odd_hour(rng, faked["hour"])
    faked["km_from_home"] = draw_distance(rng, faked)
    faked["amount"] = _draw_raised_amount(rng, faked, factor=10.0)
    faked["amount_last_day"] = _sum_alike(rng, faked)
    return faked


FRAUDS: dict[str, Fraud] = {
    fraud.__name__: fraud for fraud in (stolen_card_abroad, card_testing, account_takeover, merchant_collusion)
}


def _move_abroad(rng: np.random.Generator, payments: Columns) -> Columns:
    """The thief is in another country than the card; the last honest payment was made at home."""
    home = payments["card.country"]
    return {
        "travelling": np.ones(len(home), dtype=bool),
        "destination": (home + rng.integers(1, len(COUNTRIES), len(home))) % len(COUNTRIES),
        "last_abroad": np.zeros(len(home), dtype=bool),
    }


def _choose_shop(rng: np.random.Generator, payments: Columns, weights: dict[str, float]) -> Columns:
    """A merchant of one of the categories, at an hour and with prices that are usual there."""
    share = np.array([weights.get(name, 0.0) for name in CATEGORY_NAMES])
    category = rng.choice(len(share), len(payments["amount"]), p=share / share.sum())
    shop = {"merchant.category": category, "hour": draw_hour(rng, category)}
    return shop | {"merchant.usual_amount": draw_usual_ticket(rng, payments | shop)}


def _draw_odd_hour(rng: np.random.Generator, usual: Column) -> Column:
    """A busy hour of the day, but for another category: 6 to 12 hours from the usual one."""
    odd: Column = FIRST_HOUR + (usual - FIRST_HOUR + rng.uniform(6.0, 12.0, len(usual))) % (24.0 - FIRST_HOUR)
    return odd


def _draw_raised_amount(rng: np.random.Generator, payments: Columns, *, factor: float) -> Column:
    """Amounts far above the usual ones, yet below what the issuer looks at by hand."""
    n = len(payments["amount"])
    raised = draw_amount(rng, payments) * factor * rng.lognormal(0.0, 0.3, n)
    return np.round(np.minimum(raised, np.minimum(rng.uniform(700.0, 1000.0, n), payments["card.limit"])), 2)


def _sum_alike(rng: np.random.Generator, payments: Columns) -> Column:
    """The sum of the day when the payments before were of about this amount."""
    spread = rng.lognormal(-0.2, 0.4, len(payments["amount"]))
    return np.round(payments["tx_last_hour"] * payments["amount"] * spread, 2)


def _draw_minutes(rng: np.random.Generator, n: int, *, median: float, spread: float) -> Column:
    return np.round(np.clip(median * rng.lognormal(0.0, spread, n), 2.5, 59.9), 1)
