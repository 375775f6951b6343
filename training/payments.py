"""Draws ordinary card payments: cardholders with habits, merchants with prices, and the counters an issuer keeps.

Every record is drawn on its own from the latent state of its cardholder (at home or travelling, on a shopping tour or
not). The counters (`tx_last_hour`, `amount_last_day`, `minutes_since_last`) are drawn with it, not counted over the
stream. Nothing here knows of fraud; that is `training/fraud.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray]  # one array (n,) per field, all of one length


@dataclass(frozen=True)
class Country:
    """A country of the programme; the position is that of its busiest region, in degrees."""

    code: str
    share: float
    latitude: float
    longitude: float
    currency: str


@dataclass(frozen=True)
class Segment:
    """A group of cardholders; `usual_amount` is the typical payment in euro, `tastes` the weights of CATEGORIES."""

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
        tour: share of payments that belong to a tour of several payments within an hour.
        peaks: the two busiest hours of the day.
        spread: standard deviation around them, in hours.
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
    Country("DE", 0.35, 50.1, 8.7, "EUR"),
    Country("FR", 0.25, 48.9, 2.3, "EUR"),
    Country("ES", 0.15, 40.4, -3.7, "EUR"),
    Country("PL", 0.15, 52.2, 21.0, "PLN"),
    Country("CH", 0.10, 47.4, 8.5, "CHF"),
)
CATEGORIES = (
    Category("grocery", 34.0, 0.02, 0.05, 17.5, 1.6, 0.7),
    Category("kiosk", 6.0, 0.0, 0.05, 8.0, 1.5, 1.0),
    Category("restaurant", 27.0, 0.02, 0.6, 20.0, 1.3, 1.8),
    Category("transport", 9.0, 0.05, 0.1, 8.5, 1.6, 1.5),
    Category("fuel", 56.0, 0.0, 0.03, 7.5, 1.6, 0.5),
    Category("fashion", 72.0, 0.2, 0.85, 15.0, 1.5, 0.8),
    Category("electronics", 190.0, 0.9, 0.1, 14.0, 1.8, 0.15),
    Category("digital", 9.0, 1.0, 0.85, 21.5, 1.3, 0.6),
    Category("hotel", 180.0, 0.1, 0.03, 10.0, 1.6, 4.0),
)
SEGMENTS = (
    Segment("student", 0.30, 11.0, 0.18, (5, 6, 2, 6, 0.3, 1, 0.1, 7, 0.05)),
    Segment("standard", 0.40, 27.0, 0.22, (8, 4, 3, 2, 3, 2, 0.8, 2.5, 0.3)),
    Segment("premium", 0.18, 70.0, 0.30, (5, 0.5, 6, 0.7, 3, 4, 2, 0.7, 1.5)),
    Segment("business", 0.12, 180.0, 0.40, (0.2, 0.3, 4, 2, 4, 0.3, 2, 0.3, 6)),
)

COUNTRY_CODES = np.array([country.code for country in COUNTRIES])
CURRENCIES = np.array([country.currency for country in COUNTRIES])
SEGMENT_NAMES = np.array([segment.name for segment in SEGMENTS])
CATEGORY_NAMES = np.array([category.name for category in CATEGORIES])
TICKETS = np.array([category.ticket for category in CATEGORIES])
CONTACTLESS_LIMIT = 50.0  # euro; above it a terminal asks for the PIN
LOW_VALUE_LIMIT = 30.0  # euro; below it an online payment needs no second factor


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
        One array (n,) a field. Countries, segments and categories are indices into the tables above, `last_country`
        is -1 and `minutes_since_last` NaN for the first payment of a card; `travelling`, `tour` and `hour` (0-24,
        with its fraction) are latent.
    """
    card = rng.integers(0, len(cards["segment"]), n)
    payments: Columns = {"card": card, **{f"card.{name}": column[card] for name, column in cards.items()}}
    travels = np.array([segment.travelling for segment in SEGMENTS])[payments["card.segment"]]
    payments["travelling"] = rng.random(n) < travels
    payments["destination"] = draw_country(rng, n)
    stays = payments["destination"] == payments["card.country"]
    payments["travelling"] &= ~stays
    payments["merchant.category"] = _draw_category(rng, payments)
    payments["hour"] = draw_hour(rng, payments["merchant.category"])
    payments["online"] = rng.random(n) < np.array([category.online for category in CATEGORIES])[payments["merchant.category"]]
    payments["merchant.country"] = _draw_merchant_country(rng, payments)
    payments["merchant.usual_amount"] = draw_ticket(rng, payments)
    payments["amount"] = draw_amount(rng, payments)
    payments["channel"] = draw_channel(rng, payments)
    payments["strong_auth"] = draw_strong_auth(rng, payments)
    payments["km_from_home"] = draw_distance(rng, payments)
    payments["merchant.new"] = _draw_new_merchant(rng, payments)
    return payments | _draw_history(rng, payments)


def draw_country(rng: np.random.Generator, n: int) -> NDArray:
    """Draws country indices (n,), flatter than the home countries: people travel everywhere."""
    share = np.sqrt([country.share for country in COUNTRIES])
    return rng.choice(len(COUNTRIES), n, p=share / share.sum())


def draw_hour(rng: np.random.Generator, category: NDArray) -> NDArray:
    """Draws the hour of the day, float (n,) in [0, 24), around the peaks of each category."""
    peak = np.array([entry.peak for entry in CATEGORIES])[category]
    spread = np.array([entry.spread for entry in CATEGORIES])[category]
    return (peak + spread * rng.standard_normal(len(category))) % 24.0


def draw_ticket(rng: np.random.Generator, payments: Columns) -> NDArray:
    """Draws what the merchant usually takes, in euro: its category's ticket, higher where wealthy people shop."""
    category = payments["merchant.category"]
    return TICKETS[category] * (payments["card.usual_amount"] / 30.0) ** 0.4 * rng.lognormal(0.0, 0.15, len(category))


def draw_amount(rng: np.random.Generator, payments: Columns) -> NDArray:
    """Draws amounts in euro: the merchant's usual ticket, raised or lowered by the cardholder's means, within the limit."""
    means = (payments["card.usual_amount"] / 30.0) ** 0.3
    amount = payments["merchant.usual_amount"] * means * rng.lognormal(0.0, 0.15, len(means))
    return np.clip(np.round(amount, 2), 0.5, payments["card.limit"])


def draw_channel(rng: np.random.Generator, payments: Columns) -> NDArray:
    """Draws how the card was presented: `online`, `contactless` (mostly for small amounts) or `chip`."""
    taps = rng.random(len(payments["amount"])) < np.where(payments["amount"] <= CONTACTLESS_LIMIT, 0.97, 0.1)
    return np.where(payments["online"], "online", np.where(taps, "contactless", "chip"))


def draw_strong_auth(rng: np.random.Generator, payments: Columns) -> NDArray:
    """Draws whether PIN or second factor was asked for, as European rules want it, with one exception in two hundred."""
    amount, channel = payments["amount"], payments["channel"]
    limit = np.select([channel == "online", channel == "contactless"], [LOW_VALUE_LIMIT, CONTACTLESS_LIMIT], 0.0)
    return (amount > limit) ^ (rng.random(len(amount)) < 1 / 200)


def draw_distance(rng: np.random.Generator, payments: Columns) -> NDArray:
    """Draws km between the cardholder's home and the terminal (online: the address of the device)."""
    home = rng.lognormal(1.6, 0.9, len(payments["travelling"]))
    abroad = _country_distances()[payments["card.country"], payments["destination"]] * rng.lognormal(0.0, 0.18, len(home))
    return np.round(np.where(payments["travelling"], abroad, home), 1)


def _country_distances() -> NDArray:
    """Great-circle km between the countries, (n_countries, n_countries)."""
    latitude = np.radians([country.latitude for country in COUNTRIES])
    longitude = np.radians([country.longitude for country in COUNTRIES])
    chord = np.sin((latitude[:, None] - latitude) / 2) ** 2
    chord += np.cos(latitude[:, None]) * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
    return 2 * 6371.0 * np.arcsin(np.sqrt(chord))


def _draw_category(rng: np.random.Generator, payments: Columns) -> NDArray:
    tastes = np.array([segment.tastes for segment in SEGMENTS])[payments["card.segment"]]
    abroad = np.array([category.abroad for category in CATEGORIES])
    weights = np.where(payments["travelling"][:, None], tastes * abroad, tastes)
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    return (rng.random(len(weights))[:, None] > cumulative[:, :-1]).sum(axis=1)


def _draw_merchant_country(rng: np.random.Generator, payments: Columns) -> NDArray:
    """In a shop: where the cardholder is. Online: three in five at home, the others anywhere."""
    n = len(payments["online"])
    where = np.where(payments["travelling"], payments["destination"], payments["card.country"])
    shop = np.where(rng.random(n) < 0.6, payments["card.country"], draw_country(rng, n))
    return np.where(payments["online"], shop, where)


def _draw_new_merchant(rng: np.random.Generator, payments: Columns) -> NDArray:
    share = np.select([payments["travelling"] & ~payments["online"], payments["online"]], [0.9, 0.35], 0.15)
    return rng.random(len(share)) < share


def _draw_history(rng: np.random.Generator, payments: Columns) -> Columns:
    """What the issuer knows of the hours before: counts, sums, and where the last payment was made."""
    n = len(payments["amount"])
    tour = rng.random(n) < np.array([category.tour for category in CATEGORIES])[payments["merchant.category"]]
    last_hour = np.where(tour, 2 + rng.poisson(1.8, n), rng.poisson(0.1, n))
    last_day = last_hour + rng.poisson(1.6, n)
    first = rng.random(n) < 0.02
    last_hour[first] = last_day[first] = 0
    arrived = payments["travelling"] & (last_hour == 0) & (rng.random(n) < 0.3)
    minutes = draw_minutes(rng, last_hour, last_day)
    minutes[arrived] = np.maximum(minutes[arrived], 300.0)
    where = np.where(payments["travelling"] & ~arrived, payments["destination"], payments["card.country"])
    return {
        "tx_last_hour": last_hour,
        "amount_last_day": np.round(last_day * payments["card.usual_amount"] * rng.lognormal(0.0, 0.2, n), 2),
        "minutes_since_last": np.where(first, np.nan, minutes),
        "last_country": np.where(first, -1, where),
    }


def draw_minutes(rng: np.random.Generator, last_hour: NDArray, last_day: NDArray) -> NDArray:
    """Draws minutes since the card's last payment that fit the counts of the last hour and day: float (n,)."""
    n = len(last_hour)
    within_hour = np.clip(45.0 / (last_hour + 1) * rng.lognormal(0.0, 0.25, n), 0.3, 59.9)
    within_day = np.clip(900.0 / (last_day + 1) * rng.lognormal(0.0, 0.25, n), 60.0, 1439.0)
    before = 1440.0 * (1.0 + rng.exponential(1.2, n))
    return np.round(np.select([last_hour > 0, last_day > 0], [within_hour, within_day], before), 1)
