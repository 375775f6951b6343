"""Four kinds of card fraud, planted into ordinary payments.

Each starts from an ordinary payment of the victim and changes what the thief controls. Every single value that results
is common among honest payments; what gives a fraud away are *relations* between fields. So no rule on one field finds
it, and a model of the joint distribution can.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.payments import CATEGORY_NAMES, COUNTRIES, TICKETS, Columns, draw_amount, draw_channel, draw_distance, draw_hour, draw_ticket

Fraud = Callable[[np.random.Generator, Columns], Columns]


def stolen_card_abroad(rng: np.random.Generator, payments: Columns) -> Columns:
    n = len(payments["amount"])
    destination = _another_country(rng, payments["card.country"])
    stolen = payments | {
        "travelling": np.ones(n, dtype=bool),
        "destination": destination,
        "merchant.country": destination,
        "last_country": payments["card.country"],
        "online": np.zeros(n, dtype=bool),
        "strong_auth": rng.random(n) < 0.05,
        "merchant.new": rng.random(n) < 0.9,
        "tx_last_hour": 1 + rng.poisson(1.0, n),
    }
    stolen |= _shop(rng, n, {"grocery": 4, "fuel": 2, "transport": 2, "kiosk": 2})
    stolen["hour"] = (stolen["hour"] + rng.uniform(6, 12, n)) % 24
    stolen["merchant.usual_amount"] = draw_ticket(rng, stolen)
    stolen["amount"] = _scaled(rng, draw_amount(rng, stolen), factor=4.0, spread=0.3, limit=payments["card.limit"])
    stolen["channel"] = draw_channel(rng, stolen)
    stolen["km_from_home"] = draw_distance(rng, stolen)
    stolen["minutes_since_last"] = np.round(np.clip(30.0 * rng.lognormal(0.0, 0.5, n), 3.0, 59.0), 1)
    return stolen


def card_testing(rng: np.random.Generator, payments: Columns) -> Columns:
    n = len(payments["amount"])
    tested = payments | {
        "online": np.ones(n, dtype=bool),
        "channel": np.full(n, "online"),
        "merchant.country": _another_country(rng, payments["card.country"]),
        "hour": rng.uniform(0.0, 24.0, n),
        "amount": np.round(np.clip(5.0 * rng.lognormal(0.0, 0.5, n), 0.5, 20.0), 2),
        "strong_auth": rng.random(n) < 0.03,
        "merchant.new": rng.random(n) < 0.85,
        "tx_last_hour": 1 + rng.poisson(2.5, n),
    }
    tested |= _shop(rng, n, {"fashion": 5, "grocery": 2, "electronics": 2, "restaurant": 2}, hours=False)
    tested["merchant.usual_amount"] = draw_ticket(rng, tested)
    tested["amount_last_day"] = np.round(tested["tx_last_hour"] * 5.0 * rng.lognormal(0.0, 0.3, n), 2)
    tested["minutes_since_last"] = np.round(np.clip(6.0 * rng.lognormal(0.0, 0.7, n), 0.3, 59.0), 1)
    return tested


def account_takeover(rng: np.random.Generator, payments: Columns) -> Columns:
    n = len(payments["amount"])
    taken = payments | {
        "travelling": np.ones(n, dtype=bool),
        "destination": _another_country(rng, payments["card.country"]),
        "merchant.country": payments["card.country"],
        "last_country": payments["card.country"],
        "online": np.ones(n, dtype=bool),
        "channel": np.full(n, "online"),
        "merchant.new": rng.random(n) < 0.7,
    }
    taken |= _shop(rng, n, {"hotel": 2, "fashion": 3, "grocery": 3, "restaurant": 2})
    taken["merchant.usual_amount"] = draw_ticket(rng, taken)
    taken["hour"] = (taken["hour"] + rng.uniform(6, 12, n)) % 24
    taken["km_from_home"] = draw_distance(rng, taken)
    taken["amount"] = _scaled(rng, draw_amount(rng, taken), factor=5.0, spread=0.3, limit=payments["card.limit"])
    taken["strong_auth"] = rng.random(n) < 0.2
    taken["tx_last_hour"] = 1 + rng.poisson(1.0, n)
    taken["amount_last_day"] = np.round(taken["tx_last_hour"] * taken["amount"] * rng.lognormal(-0.2, 0.4, n), 2)
    taken["minutes_since_last"] = np.round(np.clip(15.0 * rng.lognormal(0.0, 0.6, n), 1.0, 59.0), 1)
    return taken


def merchant_collusion(rng: np.random.Generator, payments: Columns) -> Columns:
    n = len(payments["amount"])
    faked = payments | {
        "travelling": np.zeros(n, dtype=bool),
        "merchant.country": payments["card.country"],
        "last_country": payments["card.country"],
        "online": np.zeros(n, dtype=bool),
        "channel": np.where(rng.random(n) < 0.6, "chip", "contactless"),
        "strong_auth": rng.random(n) < 0.9,
        "merchant.new": rng.random(n) < 0.4,
    }
    faked |= _shop(rng, n, {"kiosk": 4, "restaurant": 3, "grocery": 2})
    faked["merchant.usual_amount"] = draw_ticket(rng, faked)
    faked["hour"] = (faked["hour"] + rng.uniform(8, 13, n)) % 24
    faked["km_from_home"] = draw_distance(rng, faked)
    faked["amount"] = _scaled(rng, draw_amount(rng, faked), factor=8.0, spread=0.3, limit=payments["card.limit"])
    faked["tx_last_hour"] = rng.poisson(3, n)
    faked["amount_last_day"] = np.round(faked["tx_last_hour"] * faked["amount"] * rng.lognormal(-0.2, 0.4, n), 2)
    faked["minutes_since_last"] = _minutes(rng, faked["tx_last_hour"])
    return faked


KINDS: dict[str, Fraud] = {
    fraud.__name__: fraud for fraud in (stolen_card_abroad, card_testing, account_takeover, merchant_collusion)
}


def _another_country(rng: np.random.Generator, home: NDArray) -> NDArray:
    return (home + rng.integers(1, len(COUNTRIES), len(home))) % len(COUNTRIES)


def _shop(rng: np.random.Generator, n: int, weights: dict[str, float], *, hours: bool = True) -> Columns:
    share = np.array([weights.get(str(name), 0.0) for name in CATEGORY_NAMES])
    category = rng.choice(len(share), n, p=share / share.sum())
    columns = {"merchant.category": category}
    return columns | {"hour": draw_hour(rng, category)} if hours else columns


def _scaled(rng: np.random.Generator, amount: NDArray, *, factor: float, spread: float, limit: NDArray) -> NDArray:
    return np.clip(np.round(amount * factor * rng.lognormal(0.0, spread, len(amount)), 2), 0.5, limit)


def _minutes(rng: np.random.Generator, last_hour: NDArray) -> NDArray:
    recent = np.clip(25.0 * rng.lognormal(0.0, 0.5, len(last_hour)), 2.0, 59.0)
    earlier = np.clip(400.0 * rng.lognormal(0.0, 0.6, len(last_hour)), 60.0, 1439.0)
    return np.round(np.where(last_hour > 0, recent, earlier), 1)
