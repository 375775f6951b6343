"""Unsecured JSON web tokens (RFC 7515, appendix A.5), which Kafka's development validator takes at their word."""

from __future__ import annotations

import base64
import json


def unsecured_token(subject: str, now: float, life_s: float) -> str:
    """A token without a signature; `now` in seconds since the epoch."""
    claims = {"sub": subject, "iat": now, "exp": now + life_s}
    return ".".join((_encoded({"alg": "none"}), _encoded(claims), ""))


def _encoded(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
