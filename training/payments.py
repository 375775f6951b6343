"""Draws ordinary card payments: cardholders with habits, merchants with prices, and the counters an issuer keeps.

Every record is drawn on its own from the latent state of its cardholder (at home or travelling, on a shopping tour or
not). The counters (`tx_last_hour`, `amount_last_day`, `minutes_since_last`) are drawn with it, not counted over the
stream. It knows nothing of fraud; that is `training/fraud.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
Columns = dict[str, Column]  # one array (n,) a field, all of one length


@dataclass(frozen=True)
class Country:
    """A country of the programme, with the position of its busiest region in degrees."""

    code: str
    share: float
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Segment:
    """A group of cardholders.

    Attributes:
        usual_amount: typical payment in euro.
        travelling: share of payments made on a journey.
        tastes: weights of CATEGORIES.
    """

    name: str
    share: float
    usual_amount: float
    travelling: float
    tastes: tuple[float, ...]


@dataclass(frozen=True)
class Category:
    """A kind of merchant.

    Attributes:
        ticket: typical payment in euro.
        online: share of payments made over the internet.
        tour: share of payments that belong to a tour of several within an hour.
        peak: busiest hour of the day.
        spread: standard deviation around it, in hours.
        abroad: how much more often travellers than residents pay there.
    """

    name: str
    ticket: float
    online: float
    tour: float
    peak: float
    spread: float
    abroad: float


COUNTRIES = (
    Country("DE", 0.34, 50.1, 8.7),
    Country("FR", 0.26, 48.9, 2.3),
    Country("ES", 0.20, 40.4, -3.7),
    Country("PL", 0.20, 52.2, 21.0),
)
CATEGORIES = (
    Category("grocery", 34.0, 0.0, 0.10, 17.5, 1.5, 0.7),
    Category("kiosk", 6.0, 0.0, 0.10, 8.0, 1.5, 1.0),
    Category("restaurant", 27.0, 0.0, 0.60, 19.5, 1.3, 1.8),
    Category("transport", 9.0, 0.35, 0.10, 8.5, 1.5, 1.5),
    Category("fuel", 56.0, 0.0, 0.10, 7.5, 1.5, 0.5),
    Category("fashion", 72.0, 0.40, 0.85, 15.0, 1.5, 0.8),
    Category("electronics", 190.0, 0.60, 0.15, 14.0, 1.5, 0.5),
    Category("digital", 9.0, 1.0, 0.85, 20.5, 1.3, 0.8),
    Category("hotel", 180.0, 0.40, 0.10, 10.0, 1.5, 4.0),
)
SEGMENTS = (
    Segment("student", 0.28, 11.0, 0.28, (5, 6, 3, 5, 0.8, 3, 1.5, 6, 0.8)),
    Segment("standard", 0.37, 27.0, 0.28, (6, 4, 3, 2.5, 3, 4, 2.5, 2.5, 1)),
    Segment("premium", 0.20, 70.0, 0.34, (5, 1, 5, 1, 3, 5, 4, 1, 2)),
    Segment("business", 0.15, 180.0, 0.42, (1, 1, 4, 2, 4, 1, 3, 1, 5)),
)
CATEGORY_NAMES = tuple(category.name for category in CATEGORIES)
CONTACTLESS_LIMIT = 50.0  # euro; above it the card must be inserted and the PIN entered
LOW_VALUE_LIMIT = 30.0  # euro; up to it an online payment needs no second factor


def draw_cards(rng: np.random.Generator, n: int) -> Columns:
    """Draws `n` cards: `country` and `segment` as indices, `usual_amount` and `limit` in euro."""
    segment = rng.choice(len(SEGMENTS), n, p=[entry.share for entry in SEGMENTS])
    usual = np.array([entry.usual_amount for entry in SEGMENTS])[segment] * rng.lognormal(0.0, 0.2, n)
    return {
        "country": rng.choice(len(COUNTRIES), n, p=[entry.share for entry in COUNTRIES]),
        "segment": segment,
        "usual_amount": np.round(usual, 2),
        "limit": np.maximum(np.round(usual * 45.0 * rng.lognormal(0.0, 0.07, n), -2), 300.0),
    }


def draw_payments(rng: np.random.Generator, cards: Columns, n: int) -> Columns:
    """Draws `n` ordinary payments of random cards.

    Returns:
        The fields of a record, and the latent ones behind them: `travelling`, `destination`, `online`. Countries,
        segments and categories are indices into the tables above; `hour` is in [0, 24) with its fraction;
        `minutes_since_last` is NaN for the first payment of a card.
    """
    card = rng.integers(0, len(cards["segment"]), n)
    payments: Columns = {"card": card, **{f"card.{name}": column[card] for name, column in cards.items()}}
    payments["destination"] = rng.integers(0, len(COUNTRIES), n)
    travelling = np.array([segment.travelling for segment in SEGMENTS])[payments["card.segment"]]
    payments["travelling"] = (rng.random(n) < travelling) & (payments["destination"] != payments["card.country"])
    payments["merchant.category"] = _draw_category(rng, payments)
    payments["hour"] = draw_hour(rng, payments["merchant.category"])
    payments["online"] = rng.random(n) < _look_up("online", payments["merchant.category"])
    payments["merchant.region"] = _draw_region(rng, payments)
    payments["merchant.usual_amount"] = draw_usual_ticket(rng, payments)
    payments["merchant.new"] = _draw_new_merchant(rng, payments)
    payments["amount"] = draw_amount(rng, payments)
    payments["channel"] = draw_channel(rng, payments)
    payments["strong_auth"] = _ask_strong_auth(payments)
    payments["km_from_home"] = draw_distance(rng, payments)
    return payments | _draw_history(rng, payments)


def draw_hour(rng: np.random.Generator, category: Column) -> Column:
    """Draws hours of the day, float (n,) in [0, 24), around the peak of each category."""
    peak = _look_up("peak", category)
    spread = _look_up("spread", category)
    return np.clip(peak + spread * rng.standard_normal(len(category)), 0.0, 23.99)


def draw_usual_ticket(rng: np.random.Generator, payments: Columns) -> Column:
    """Draws what each merchant usually takes, in euro: the ticket of its category, higher where wealthy people shop."""
    means = (payments["card.usual_amount"] / 30.0) ** 0.4
    return np.round(_look_up("ticket", payments["merchant.category"]) * means * rng.lognormal(0.0, 0.15, len(means)), 2)


def draw_amount(rng: np.random.Generator, payments: Columns) -> Column:
    """Draws amounts in euro around the merchant's usual one, higher for the wealthy, within the card's limit."""
    means = (payments["card.usual_amount"] / 30.0) ** 0.3
    amount = payments["merchant.usual_amount"] * means * rng.lognormal(0.0, 0.2, len(means))
    return np.clip(np.round(amount, 2), 0.5, payments["card.limit"])


def draw_channel(rng: np.random.Generator, payments: Columns) -> Column:
    """Draws how the card is presented: `online`, `contactless` (most small amounts) or `chip`."""
    taps = (payments["amount"] <= CONTACTLESS_LIMIT) & (rng.random(len(payments["amount"])) < 0.85)
    return np.where(payments["online"], "online", np.where(taps, "contactless", "chip"))


def draw_distance(rng: np.random.Generator, payments: Columns) -> Column:
    """Draws km between the cardholder's home and the terminal, or the device that pays online: float (n,)."""
    home = rng.lognormal(1.6, 0.9, len(payments["travelling"]))
    abroad = _country_distances()[payments["card.country"], payments["destination"]] * rng.lognormal(
        0.0, 0.18, len(home)
    )
    return np.round(np.where(payments["travelling"], abroad, home), 1)


def _look_up(attribute: str, category: Column) -> Column:
    """One attribute of the category of each payment."""
    of_categories: Column = np.array([getattr(entry, attribute) for entry in CATEGORIES])
    return of_categories.take(category)


def _country_distances() -> Column:
    """Great-circle distances in km, (n_countries, n_countries)."""
    latitude = np.radians([country.latitude for country in COUNTRIES])
    longitude = np.radians([country.longitude for country in COUNTRIES])
    half_chord = np.sin((latitude[:, None] - latitude) / 2) ** 2
    half_chord += np.cos(latitude[:, None]) * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
    distances: Column = 2 * 6371.0 * np.arcsin(np.sqrt(half_chord))
    return distances


def _draw_category(rng: np.random.Generator, payments: Columns) -> Column:
    tastes = np.array([segment.tastes for segment in SEGMENTS])[payments["card.segment"]]
    abroad = np.array([category.abroad for category in CATEGORIES])
    weights = np.where(payments["travelling"][:, None], tastes * abroad, tastes)
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    category: Column = (rng.random(len(weights))[:, None] > cumulative[:, :-1]).sum(axis=1)
    return category


def _draw_region(rng: np.random.Generator, payments: Columns) -> Column:
    """Where the merchant is, seen from the card's country: a shop is where the cardholder is, a web shop anywhere."""
    web = rng.choice(["domestic", "intra_eea", "inter_regional"], len(payments["online"]), p=[0.4, 0.3, 0.3])
    shop = np.where(payments["travelling"], "intra_eea", "domestic")
    return np.where(payments["online"], web, shop)


def _draw_new_merchant(rng: np.random.Generator, payments: Columns) -> Column:
    share = np.select([payments["travelling"] & ~payments["online"], payments["online"]], [0.85, 0.4], 0.2)
    new: Column = rng.random(len(share)) < share
    return new


def _ask_strong_auth(payments: Columns) -> Column:
    """PIN or second factor: always with an inserted card, never when tapped, online above the low-value limit."""
    online = (payments["channel"] == "online") & (payments["amount"] > LOW_VALUE_LIMIT)
    asked: Column = online | (payments["channel"] == "chip")
    return asked


def _draw_history(rng: np.random.Generator, payments: Columns) -> Columns:
    """What the issuer knows of the hours before: counts, sums, and whether the last payment was made abroad."""
    n = len(payments["amount"])
    tour = rng.random(n) < _look_up("tour", payments["merchant.category"])
    last_hour = np.where(tour, 2 + rng.poisson(1.8, n), rng.poisson(0.1, n))
    last_day = last_hour + rng.poisson(1.6, n)
    first = rng.random(n) < 0.04
    last_hour[first] = last_day[first] = 0
    arrived = payments["travelling"] & (last_hour == 0) & (rng.random(n) < 0.3)
    minutes = _draw_minutes(rng, last_hour, last_day)
    minutes[arrived] = np.maximum(minutes[arrived], 300.0)
    return {
        "tx_last_hour": last_hour,
        "amount_last_day": np.round(last_day * payments["card.usual_amount"] * rng.lognormal(0.0, 0.2, n), 2),
        "minutes_since_last": np.where(first, np.nan, minutes),
        "last_abroad": payments["travelling"] & ~arrived & ~first,
    }


def _draw_minutes(rng: np.random.Generator, last_hour: Column, last_day: Column) -> Column:
    """Draws minutes since the last payment that fit the counts of the last hour and day: float (n,)."""
    n = len(last_hour)
    within_hour = np.clip(45.0 / (last_hour + 1) * rng.lognormal(0.0, 0.4, n), 0.5, 59.9)
    within_day = np.clip(900.0 / (last_day + 1) * rng.lognormal(0.0, 0.25, n), 60.0, 1439.0)
    before = 1440.0 * (1.0 + rng.exponential(1.2, n))
    return np.round(np.select([last_hour > 0, last_day > 0], [within_hour, within_day], before), 1)
