"""Asks a running Prometheus through its HTTP API."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode


class QueryError(Exception):
    """Prometheus does not answer, or not with success."""


@dataclass(frozen=True)
class Prometheus:
    """A server at `address`, host:port."""

    address: str

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """The `data` of an answer.

        Raises:
            QueryError: with Prometheus' own words.
        """
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = connection.getresponse().read()
        except OSError as error:
            raise QueryError(f"{self.address} does not answer: {error}") from error
        finally:
            connection.close()
        try:
            document = json.loads(answer)
        except ValueError as error:
            raise QueryError(f"not JSON: {answer[:200]!r}") from error
        if document["status"] != "success":
            raise QueryError(document["error"])
        data: dict[str, Any] = document["data"]
        return data

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The series of an instant query, now."""
        series: list[dict[str, Any]] = self.get("query", query=promql)["result"]
        return series

    def value(self, promql: str) -> float | None:
        """The value of a query that returns one series; None when it returns none."""
        series = self.query(promql)
        return float(series[0]["value"][1]) if series else None

    def alerts(self) -> dict[str, str]:
        """Name of each alert that is not inactive -> `pending` or `firing`."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.get("alerts")["alerts"]}


def wait_until(met: Callable[[], object], timeout_s: float, explain: Callable[[], str]) -> None:
    """Waits until `met` is true; a query that fails counts as not yet.

    Raises:
        TimeoutError: with what `explain` says then.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if met():
                return
        except QueryError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(explain())
        time.sleep(0.5)
